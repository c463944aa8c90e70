"""Whole models at pruned, rounded and chosen widths, raced end to end."""
