"""Side-by-side timings and checks, run by hand; never part of the tests."""
