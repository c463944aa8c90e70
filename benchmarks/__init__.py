"""Timings and checks, side by side. They are run by hand and are never part of the tests."""
