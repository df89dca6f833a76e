"""Parts of `benchmarks/context_recall.py`: tasks, their true answers, baselines, statistics."""
