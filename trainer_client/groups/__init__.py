"""Masks of a layer, and the functions that grow, prune and shrink it. Knows no text, no files."""
