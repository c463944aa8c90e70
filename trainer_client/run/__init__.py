"""One training run: its settings, descent, files, checkpoints and processes."""
