"""The two ways to fit a window's structure to samples."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.plan.race.structure import Structure


@pytest.mark.parametrize("num_samples", [3, 40, 61])
def test_few_samples_are_fitted_as_many_are(num_samples: int) -> None:
    """By the samples' covariance or by the effects' precision: the same fit."""
    structure = Structure([np.arange(100, 140), np.arange(317, 340)])
    rng = np.random.default_rng(num_samples)
    columns = np.stack([rng.integers(0, 40, num_samples), 40 + rng.integers(0, 23, num_samples)], 1)
    time = np.sort(rng.random(num_samples))
    sampled = (
        columns,
        np.stack([time, time**2], axis=1),
        rng.uniform(10.0, 1000.0, num_samples),
        0.05 * rng.standard_normal(num_samples),
    )
    fitted, settled = structure._smooth_by_samples(*sampled)
    expected, expected_settled = structure._smooth_by_effects(*sampled)
    np.testing.assert_allclose(fitted, expected, atol=1e-9)
    assert settled == pytest.approx(expected_settled, rel=1e-6)
    assert 0 < settled < num_samples
