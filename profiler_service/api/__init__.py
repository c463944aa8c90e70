"""The HTTP service: routes that parse, call, and return. Never measures, needs no torch."""
