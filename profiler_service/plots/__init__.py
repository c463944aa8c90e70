"""Pictures of curves and races, as PNG or as pages that work offline.

Draws what travels (`wire`); knows neither the service nor how anything was measured.
"""
