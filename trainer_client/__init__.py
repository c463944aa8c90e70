"""Trains compact, accurate, fast LSTMs by grow-and-prune, guided by the service."""
