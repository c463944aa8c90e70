"""A workload kind for `lhp`: the MLP of a transformer block."""
