"""The paper's figures, from this machine's own measurements: `python -m benchmarks.figures`."""
