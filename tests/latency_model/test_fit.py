"""The posterior of the effects, from statistics written down by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from profiler_service.latency_model.basis import Basis
from profiler_service.latency_model.fit import Fit, find_distance, fit
from profiler_service.latency_model.settings import BasisSettings, LearningSettings
from profiler_service.latency_model.statistics import Statistics
from tests.latency_model.hosts import F64, Host, effects_of_tiles, learn_from, random_window

TINY = BasisSettings(
    knots_per_octave=1,
    first_knot=4,
    last_knot=4,
    growth=0.5,
    growth_spread=0.5,
    bend_spread=0.1,
    classes=(2,),
    class_spread=0.25,
    growing_classes=(),
    tiles=(),
)
"""Features of an axis: growth, one bend, even, odd, and no tiles."""
GROWTH, BEND, EVEN, ODD = range(4)


def tiny() -> Basis:
    return Basis(1, TINY)


def statistics_of(matrix: F64, right: F64) -> Statistics:
    return Statistics(
        matrix=matrix,
        right=right,
        num_visits=10.0,
        num_sweeps=1.0,
        windows=np.array([[[64, 128]]]),
    )


def said(feature: int, value: float, precision: float) -> Statistics:
    """Visits that say that this effect is `value`, with that precision, and nothing of others."""
    size = tiny().size
    matrix, right = np.zeros((size, size)), np.zeros(size)
    matrix[feature, feature] = precision
    right[feature] = precision * value
    return statistics_of(matrix, right)


def test_a_fit_to_nothing_is_the_prior() -> None:
    """Latency grows like d^0.5, ± 0.5: from 64 to 128 by 0.5 · log 2, ± what the prior leaves.

    Both are even. 128 is 3 octaves beyond the knot, 64 two: the bend adds (log 2)² · 0.1² to the
    growth's (log 2)² · 0.5².
    """
    basis = tiny()
    prior = fit(basis, Statistics.empty(basis.size, 1))
    assert prior.predict([np.array([64, 128])]) == pytest.approx([0, 0.5 * math.log(2)])
    deviation = math.log(2) * math.hypot(0.5, 0.1)
    assert prior.deviate((64,), np.array([[128], [64]])) == pytest.approx([deviation, 0])
    assert prior.find_distance((64,)) == math.inf


def test_prior_and_visits_are_weighed_by_their_precision() -> None:
    """Odd dims: 0 ± 0.25 by the prior (precision 16), 0.2 by the visits (precision 48).

    Together (48 · 0.2) / 64 = 0.15 ± 1/8. Even dims are what they were: 0 ± 0.25.
    """
    basis = tiny()
    found = fit(basis, said(ODD, 0.2, 48.0))
    assert found.mean[ODD] == pytest.approx(0.15)
    assert found.mean[EVEN] == pytest.approx(0.0)
    assert np.sqrt(np.diag(found.covariance))[[EVEN, ODD]] == pytest.approx([0.25, 0.125])
    growth = (0.5 + 0.0) * math.log(65 / 64)
    assert found.predict([np.array([64, 65])])[1] == pytest.approx(growth + 0.15)
    # Both classes, growth and bend are unsure: 0.25² + 0.125² and (log 65/64)² (0.5² + 0.1²).
    variance = 0.25**2 + 0.125**2 + math.log(65 / 64) ** 2 * (0.5**2 + 0.1**2)
    assert found.deviate((64,), np.array([[65]])) == pytest.approx([math.sqrt(variance)])


def test_a_prediction_is_relative_to_the_first_point_of_any_grid() -> None:
    known = fit(tiny(), said(ODD, 0.2, 48.0))
    longer = known.predict([np.array([65, 66, 67])])
    assert longer[0] == 0
    assert known.predict([np.array([66, 67])])[1] == pytest.approx(longer[2] - longer[1])


def test_spreads_that_were_learned_take_the_place_of_the_prior_ones() -> None:
    """With a class spread of 0.125 (precision 64) the 0.2 above is shrunk to 0.2 · 48 / 112."""
    basis = tiny()
    names = [group.name for group in basis.groups]
    spreads = tuple(
        0.125 if name == "axis 0: mod 2" else group.spread
        for name, group in zip(names, basis.groups, strict=True)
    )
    found = fit(basis, said(ODD, 0.2, 48.0), spreads=spreads)
    assert found.mean[ODD] == pytest.approx(0.2 * 48 / 112)


def test_relatives_are_half_trusted() -> None:
    """They found 0.15 for odd dims. Without own visits that is expected, ± half of 0.25."""
    basis = tiny()
    relatives = fit(basis, said(ODD, 0.2, 48.0))
    nothing = fit(basis, Statistics.empty(basis.size, 1), relatives=relatives)
    assert nothing.mean == pytest.approx(relatives.mean)
    assert math.sqrt(nothing.covariance[ODD, ODD]) == pytest.approx(0.125)
    # Own visits say -0.1 with precision 64, as much as that trust: half way, at 0.025.
    own = fit(basis, said(ODD, -0.1, 64.0), relatives=relatives)
    assert own.mean[ODD] == pytest.approx((0.15 - 0.1) / 2)
    # Less trust, less of it: with 0.25 the precision is 256 against 64.
    surer = fit(
        basis,
        said(ODD, -0.1, 64.0),
        relatives=relatives,
        settings=LearningSettings(trust=0.25),
    )
    assert surer.mean[ODD] == pytest.approx((256 * 0.15 - 64 * 0.1) / 320)


def test_what_relatives_rest_on_counts_half_and_their_windows_count() -> None:
    """One sweep of relatives over 64 … 128, and none or one of its own."""
    basis = tiny()
    relatives = fit(basis, said(ODD, 0.2, 48.0))
    nothing = fit(basis, Statistics.empty(basis.size, 1), relatives=relatives)
    assert (relatives.num_sweeps, nothing.num_sweeps) == (1.0, 0.5)
    assert nothing.find_distance((256,)) == 1.0
    elsewhere = replace(said(ODD, 0.2, 48.0), windows=np.array([[[512, 600]]]))
    own = fit(basis, elsewhere, relatives=relatives)
    assert own.num_sweeps == 1.5
    assert [own.find_distance((dim,)) for dim in (100, 256, 550)] == [0.0, 1.0, 0.0]


def test_visits_that_contradict_relatives_win_in_the_end() -> None:
    basis = tiny()
    relatives = fit(basis, said(ODD, 0.2, 1e6))
    own = fit(basis, said(ODD, -0.2, 1e6), relatives=relatives)
    assert own.mean[ODD] == pytest.approx(-0.2, abs=1e-4)


# Spreads.


def test_a_step_of_the_spreads_by_hand() -> None:
    """Two class effects: mean square of both posteriors, with half a feature of the prior.

    Odd: 0.15² + 1/64. Even: 0 + 1/16. The prior counts like half a feature of 0.25².
    """
    basis = tiny()
    found = fit(basis, said(ODD, 0.2, 48.0)).find_spreads(LearningSettings(shrink=0.5))
    number = [group.name for group in basis.groups].index("axis 0: mod 2")
    total = (0.15**2 + 1 / 64) + 1 / 16 + 0.5 * 0.25**2
    assert found[number] == pytest.approx(math.sqrt(total / 2.5))


def test_spreads_of_what_nothing_is_known_of_stay() -> None:
    """Posterior and prior are the same: the expected square of an effect is its variance."""
    basis = Basis(2)
    spreads = fit(basis, Statistics.empty(basis.size, 2)).find_spreads()
    assert spreads == pytest.approx([group.spread for group in basis.groups])


def log_evidence(found: Fit, *, shrink: float) -> float:
    """The log marginal likelihood of the spreads, with their prior, up to a constant.

    With statistics A and b, the prior N(m, S) and P = A + S⁻¹, r = b + S⁻¹ m:
    the integral of exp(-e'Ae / 2 + b'e) over the effects e is, in log,
    (-log|S| - log|P| + r'P⁻¹r - m'S⁻¹m) / 2. The prior of a group's spread s, which counts like
    `shrink` effects of s₀: -shrink (log s + s₀² / 2 s²).
    """
    own = found.basis.spread(found.spreads) ** -2
    _, size = np.linalg.slogdet(found.precision)
    quadratic = found.right @ found.mean - found.expected @ (own * found.expected)
    likelihood = (np.log(own).sum() - size + quadratic) / 2
    prior = -shrink * sum(
        math.log(spread) + group.spread**2 / (2 * spread**2)
        for spread, group in zip(found.spreads, found.basis.groups, strict=True)
    )
    return float(likelihood + prior)


@pytest.mark.parametrize("shrink", [0.0, 0.5])
def test_each_step_makes_what_was_measured_more_likely(shrink: float) -> None:
    """A step of EM never lowers it; with the prior of spreads, both together."""
    settings = LearningSettings(shrink=shrink)
    known = learn_from(Host(truth=effects_of_tiles), [random_window(seed, 1) for seed in range(20)])
    likelihoods = [log_evidence(known, shrink=shrink)]
    for _ in range(8):
        known = fit(known.basis, known.statistics, spreads=known.find_spreads(settings))
        likelihoods.append(log_evidence(known, shrink=shrink))
    gains = np.diff(likelihoods)
    assert gains[0] > 1
    assert (gains > -1e-6).all()


def test_spreads_find_what_a_host_has() -> None:
    """Multiples of 16 matter there, and 128 doesn't: after some steps, one is far larger."""
    known = learn_from(Host(truth=effects_of_tiles), [random_window(seed, 1) for seed in range(30)])
    for _ in range(10):
        known = fit(known.basis, known.statistics, spreads=known.find_spreads())
    found = dict(zip((group.name for group in known.basis.groups), known.spreads, strict=True))
    assert found["axis 0: mod 16"] > 2 * found["axis 0: mod 128"]
    assert found["axis 0: mod 2 growing"] > 2 * found["axis 0: mod 32 growing"]


# Distance.

WINDOWS = np.array([[[64, 128], [256, 512]], [[1024, 2048], [16, 32]]])
"""64 … 128 x 256 … 512, and 1024 … 2048 x 16 … 32."""


@pytest.mark.parametrize(
    ("point", "octaves"),
    [
        ((100, 300), 0.0),
        ((64, 512), 0.0),  # the edges belong to it
        ((256, 300), 1.0),  # twice 128
        ((32, 300), 1.0),
        ((100, 1024), 1.0),
        ((100, 64), 2.0),
        ((256, 64), 2.0),  # one and two octaves from the first window: the farthest axis counts
        ((4096, 8), 1.0),  # nearest to the second window, one octave on both axes
        ((512, 64), 1.0),  # 2 octaves from the first window on both axes, 1 from the second
        ((181, 300), 0.5),  # 128 · √2 = 181.02
    ],
)
def test_distance_is_that_to_the_nearest_window(point: tuple[int, int], octaves: float) -> None:
    assert find_distance(WINDOWS, point) == pytest.approx(octaves, abs=0.0015)


def test_without_windows_everything_is_infinitely_far() -> None:
    assert find_distance(np.zeros((0, 2, 2), dtype=np.int64), (1, 1)) == math.inf


def test_a_fit_knows_the_distance() -> None:
    known = fit(tiny(), said(ODD, 0.0, 1.0))  # the window is 64 … 128
    assert [known.find_distance((dim,)) for dim in (100, 512)] == [0.0, 2.0]
