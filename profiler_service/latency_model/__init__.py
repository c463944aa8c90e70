"""What a host has learned from its sweeps: predictions of points that were never measured.

Pure: numpy alone, no store, no clocks. `first_visits` chooses the samples to learn from,
`basis` turns dims into features, `statistics` sums up what the visits say, `fit` gives the
posterior and predicts pairs, `calibration` holds earlier predictions against what was measured.
Every number is in `settings`. Derivation: docs/explanation/latency-model.md.
"""
