"""What samples say of several priors, held against densities that are computed directly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.plan.race.trust import (
    Belief,
    Prior,
    average,
    find_shares,
    update,
    weigh,
)
from tests.synthetic import F64

NUM_EFFECTS, NUM_SAMPLES = 3, 5
FEATURES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=np.float64)
VALUES = np.array([0.3, -0.1, 0.4, 0.1, 0.2])
PRECISE = 40.0


def prior_of(seed: int) -> tuple[Prior, F64]:
    """A prior, and its covariance."""
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((NUM_EFFECTS, NUM_EFFECTS))
    covariance = half @ half.T / 10 + 0.01 * np.eye(NUM_EFFECTS)
    mean = rng.standard_normal(NUM_EFFECTS) / 5
    precision = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
    return Prior(mean=mean, precision=precision), covariance


def log_normal_density(value: F64, mean: F64, covariance: F64) -> float:
    off = value - mean
    return -0.5 * float(
        off @ np.linalg.inv(covariance) @ off + math.log(np.linalg.det(2 * np.pi * covariance))
    )


def test_evidence_is_the_density_of_the_samples_by_the_prior() -> None:
    """Five samples with independent noise of variance 1/40: normal, with X m and X K X' + 1/40."""
    known, right = PRECISE * FEATURES.T @ FEATURES, PRECISE * FEATURES.T @ VALUES
    evidences, densities = [], []
    for seed in range(4):
        prior, covariance = prior_of(seed)
        evidences.append(update(prior, known, right).log_evidence)
        of_values = FEATURES @ covariance @ FEATURES.T + np.eye(NUM_SAMPLES) / PRECISE
        densities.append(log_normal_density(VALUES, FEATURES @ prior.mean, of_values))
    # Both have a term of their own that doesn't depend on the prior.
    assert np.diff(evidences) == pytest.approx(np.diff(densities), abs=1e-9)
    assert np.ptp(densities) > 1


def test_evidence_of_differences_alone_is_the_density_of_differences() -> None:
    """All pairs with equal weight w: the Laplacian is w (n - 1 1').

    The differences from the mean, along four orthonormal directions, have noise of variance
    1 / (w n) each, and the mean itself has no part in it.
    """
    weight = 8.0
    laplacian = weight * (NUM_SAMPLES * np.eye(NUM_SAMPLES) - 1)
    contrasts = np.linalg.svd(np.eye(NUM_SAMPLES) - 1 / NUM_SAMPLES)[2][: NUM_SAMPLES - 1]
    evidences, densities = [], []
    for seed in range(4):
        prior, covariance = prior_of(seed)
        found = update(prior, FEATURES.T @ laplacian @ FEATURES, FEATURES.T @ laplacian @ VALUES)
        evidences.append(found.log_evidence)
        rows = contrasts @ FEATURES
        noise = np.eye(NUM_SAMPLES - 1) / (weight * NUM_SAMPLES)
        densities.append(
            log_normal_density(
                contrasts @ VALUES, rows @ prior.mean, rows @ covariance @ rows.T + noise
            )
        )
    assert np.diff(evidences) == pytest.approx(np.diff(densities), abs=1e-9)
    # A level that all samples share changes nothing.
    raised = update(prior, FEATURES.T @ laplacian @ FEATURES, FEATURES.T @ laplacian @ (VALUES + 7))
    assert raised.log_evidence == pytest.approx(evidences[-1])


def test_an_update_is_the_mean_of_prior_and_samples_by_precision() -> None:
    """A prior of 1 ± 1, and a sample of 4 that is three times as precise: 3.25, precision 4."""
    prior = Prior(mean=np.array([1.0]), precision=np.array([[1.0]]))
    found = update(prior, np.array([[3.0]]), np.array([12.0]))
    assert (found.mean.tolist(), found.precision.tolist()) == ([3.25], [[4.0]])


def belief_of(mean: float, variance: float, log_evidence: float = 0.0) -> Belief:
    return Belief(
        mean=np.array([mean]), precision=np.array([[1 / variance]]), log_evidence=log_evidence
    )


def test_shares_are_in_proportion_to_the_evidence() -> None:
    beliefs = [belief_of(0, 1, -1000 + math.log(each)) for each in (1, 3, 4)]
    assert find_shares(beliefs) == pytest.approx([0.125, 0.375, 0.5])


def test_two_kinds_of_priors_are_weighed_with_their_odds() -> None:
    """Evidence 6 + 2 against 1 + 1, odds of 1 to 4: 8 · 0.25 = 2 against 2."""
    mine = [belief_of(0, 1, math.log(each)) for each in (6, 2)]
    others = [belief_of(0, 1, math.log(each)) for each in (1, 1)]
    assert weigh(mine, others, 0.25) == pytest.approx(0.5, abs=1e-3)
    assert weigh(mine, others, 1.0) == pytest.approx(0.8, abs=1e-3)


def test_an_average_has_the_moments_of_the_mixture() -> None:
    """Of 0 ± 1 and 4 ± 2, a quarter and three quarters.

    The mean is 3. The variance is 0.25 · (1 + 9) + 0.75 · (4 + 1) = 6.25.
    """
    mean, precision = average([belief_of(0, 1), belief_of(4, 4)], np.array([0.25, 0.75]))
    assert mean == pytest.approx([3.0])
    assert precision == pytest.approx(np.array([[1 / 6.25]]))
