"""The Triton kernels: one op a file, a launcher over tensors and the plain float32 version beside it.

Imported only where there is a GPU, or by tests with `TRITON_INTERPRET=1`, which runs the same kernels
in numpy. A kernel is launched with the values of `configs.py`; nothing is tuned at run time.
"""
