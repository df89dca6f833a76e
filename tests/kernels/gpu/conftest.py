"""The kernels run in Triton's interpreter, without a GPU (`TRITON_INTERPRET`, in tests/conftest.py)."""

import pytest

pytest.importorskip("triton", reason="the Triton kernels need triton, which is made for Linux")
