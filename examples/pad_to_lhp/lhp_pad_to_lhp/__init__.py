"""A trained recurrent network that is padded to its latency hysteresis points."""
