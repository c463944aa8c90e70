"""Which points to measure next: rounds in random order, races, when to stop.

numpy only: planners are pure objects fed with samples, so that tests can give them synthetic
devices. They know neither torch, nor storage, nor wall clocks (only the seconds that samples
say they took). This module imports none of them: `plan.modes` is cheap.
"""
