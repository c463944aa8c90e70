"""Draws curves and races, as PNG or as HTML pages that work offline.

Draws the classes of `wire`. Knows neither the service nor how anything was measured.
"""
