"""Ways to a compact network."""
