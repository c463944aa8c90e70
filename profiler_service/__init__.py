"""Latency hysteresis points as a service: measures, stores and answers."""
