"""The HTTP service: routes that parse, call and return."""
