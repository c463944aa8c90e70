"""Grows a trained module to its latency hysteresis points: layers propose, the module decides."""
