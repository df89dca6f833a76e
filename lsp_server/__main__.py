"""`python -m qcoder.lsp_server` is `qcoder-lsp`."""

import sys

from qcoder.lsp_server.lsp_cli import main

sys.exit(main())
