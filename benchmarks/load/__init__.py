"""Known questions at a fixed rate, among ten million stored points, while a sweep is measured.

`python -m benchmarks.load`. The load generator speaks HTTP by itself, and shares no code with the
service.
"""
