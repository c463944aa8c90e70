"""Trains compact, accurate, fast LSTMs by grow-and-prune; the service says which dims to use."""
