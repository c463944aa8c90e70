"""The two ways to fit a window's structure to samples."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.analysis.neighbours import Neighbours
from profiler_service.plan.race.structure import Structure


@pytest.mark.parametrize("lengths", [[3], [30, 10], [1, 60]])
def test_few_samples_are_fitted_as_many_are(lengths: list[int]) -> None:
    """By the samples' covariance or by the effects' precision: the same fit."""
    structure = Structure([np.arange(100, 140), np.arange(317, 340)])
    num_samples = sum(lengths)
    rng = np.random.default_rng(num_samples)
    columns = np.stack([rng.integers(0, 40, num_samples), 40 + rng.integers(0, 23, num_samples)], 1)
    near = Neighbours.of_lengths(lengths)
    weight = rng.uniform(10.0, 1000.0, len(near.first))
    sampled = columns, near, weight, 0.05 * rng.standard_normal(num_samples)
    fitted, settled = structure._smooth_by_samples(*sampled)
    expected, expected_settled = structure._smooth_by_effects(*sampled)
    np.testing.assert_allclose(fitted, expected, atol=1e-9)
    assert settled == pytest.approx(expected_settled, rel=1e-6)
    # Differences are all that is fitted: one parameter fewer than samples in each batch.
    assert 0 < settled <= num_samples - len(lengths)


def test_smoothing_is_the_smallest_sum_of_squares() -> None:
    """Two positions, one pair of visits with weight w that differ by d, prior variances v.

    The difference of the effects has a covariance C from the prior; its posterior is the share
    C / (C + 1/w) of d. So much do the fitted values differ, and so many parameters are settled.
    """
    structure = Structure([np.array([100, 101])])
    covariance = structure._covariances[0]
    prior = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    weight, near = np.array([5000.0]), Neighbours.of_lengths([2])
    share = prior / (prior + 1 / 5000.0)
    columns = np.array([[0], [1]])
    for smooth in (structure._smooth_by_samples, structure._smooth_by_effects):
        fitted, settled = smooth(columns, near, weight, np.array([0.02, 0.05]))
        assert fitted[1] - fitted[0] == pytest.approx(0.03 * share)
        assert settled == pytest.approx(share)


def test_what_differs_between_batches_alone_is_no_effect() -> None:
    """A level that all samples of a batch share changes nothing."""
    structure = Structure([np.arange(100, 120)])
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 20, 80)[:, np.newaxis]
    value = 0.02 * rng.standard_normal(80)
    near = Neighbours.of_lengths([40, 40])
    weight = rng.uniform(10.0, 1000.0, len(near.first))
    shifted = value + np.repeat([0.0, 0.7], 40)
    for smooth in (structure._smooth_by_samples, structure._smooth_by_effects):
        before, _ = smooth(columns, near, weight, value)
        after, _ = smooth(columns, near, weight, shifted)
        np.testing.assert_allclose(after, before, atol=1e-9)
