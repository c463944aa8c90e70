"""Widths of a whole model: which ones belong together, and which ones are fastest in all.

Each layer is measured by the service, the widths are chosen jointly, and the whole model is raced.
"""
