"""Shapes of the checkpoints for the GPU benchmarks."""
