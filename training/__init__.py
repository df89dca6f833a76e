"""How the default model is made; see ARCHITECTURE.md."""

import os

# Spinning OpenMP threads cost a busy machine more than they give; read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
