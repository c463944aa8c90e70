"""From samples to curves: drift, verdicts, and the answer table."""

from __future__ import annotations

import numpy as np

from profiler_service.analysis.curve import PointStatus
from profiler_service.analysis.estimate import estimate_grid, round_matrix
from profiler_service.analysis.samples import Samples


def rounds_of(
    latency: list[float], rounds: int, *, drift: float = 0.0, noise: float = 0.0, seed: int = 0
) -> list[Samples]:
    """One batch a round, points in random order, point 0 the anchor (before and after)."""
    rng = np.random.default_rng(seed)
    truth = np.array(latency)
    batches = []
    for number in range(rounds):
        point = np.r_[0, rng.permutation(len(truth)), 0].astype(np.int32)
        time = np.arange(len(point)) * 1e-3
        factor = np.exp(noise * rng.standard_normal(len(point)))
        ramp = np.exp(drift * (number + time / time[-1]))
        batches.append(
            Samples(
                point=point,
                round=np.full(len(point), number, dtype=np.int32),
                time_s=time.astype(np.float32),
                latency_s=truth[point] * factor * ramp,
                calls=1,
                unstable=np.zeros(len(point), dtype=bool),
            )
        )
    return batches


def test_exact_samples_give_the_exact_curve() -> None:
    # Suffix minima of 4 2 5 3: point 1 (2) is an LHP, and nothing is larger than point 3 (3), the
    # edge; 0 → 1 at 2/4, 2 → 3 at 3/5.
    estimate = estimate_grid(rounds_of([4.0, 2.0, 5.0, 3.0], 12), (4,), anchor=0)
    np.testing.assert_allclose(np.exp(estimate.log_latency), [4, 2, 5, 3], rtol=1e-6)
    assert estimate.answers.target.tolist() == [1, 1, 3, 3]
    np.testing.assert_allclose(estimate.answers.ratio[[0, 2]], [0.5, 0.6], rtol=1e-6)
    assert [PointStatus(s).name for s in estimate.status] == [
        *("DOMINATED", "LHP", "DOMINATED", "EDGE")
    ]
    # Point 0 is visited three times a round, as point and as anchor.
    assert estimate.num_samples.tolist() == [36, 12, 12, 12]


def test_every_point_names_its_best_larger_rival() -> None:
    # 4 2 5 3: above the LHP 1 (2) the best is 3 (3), half as slow again; above 3 is nothing.
    answers = estimate_grid(rounds_of([4.0, 2.0, 5.0, 3.0], 12), (4,), anchor=0).answers
    assert answers.rival is not None
    assert answers.rival.tolist() == [1, 3, 3, -1]
    np.testing.assert_allclose(answers.ratio, [0.5, 1.5, 0.6, np.nan], rtol=1e-6)
    np.testing.assert_allclose(answers.ratio_low, answers.ratio, rtol=1e-6)


def test_rivals_lie_above_on_every_axis() -> None:
    # 9 4 7
    # 3 8 5: above 9, 4 and 7 the best are 3, 5 and 5; above 3 and 8 it is 5. 3 isn't above 4.
    batches = rounds_of([9.0, 4.0, 7.0, 3.0, 8.0, 5.0], 12)
    answers = estimate_grid(batches, (2, 3), anchor=0).answers
    assert answers.rival is not None
    assert answers.rival.tolist() == [3, 5, 5, 5, 5, -1]
    # An answer moves only if the rival is faster.
    assert answers.target.tolist() == [3, 1, 5, 3, 5, 5]


def test_an_undecided_point_names_the_rival_it_cant_be_told_from() -> None:
    estimate = estimate_grid(rounds_of([2.0, 2.0, 9.0], 40, noise=0.02), (3,), anchor=0)
    answers = estimate.answers
    assert answers.rival is not None
    assert estimate.status[0] == PointStatus.UNDECIDED
    assert answers.rival[0] == 1
    assert answers.ratio_low[0] < 1 < answers.ratio_high[0]


def test_five_judging_rounds_answer_nothing() -> None:
    # 8 rounds: 0, 3 and 6 choose, 5 judge, and five pairs have no 95 % interval.
    estimate = estimate_grid(rounds_of([4.0, 2.0], 8), (2,), anchor=0)
    assert estimate.answers.target.tolist() == [-1, -1]
    assert PointStatus.DOMINATED not in estimate.status


def test_equal_points_stay_undecided() -> None:
    estimate = estimate_grid(rounds_of([2.0, 2.0, 2.0], 40, noise=0.02), (3,), anchor=0)
    assert estimate.answers.target.tolist() == [0, 1, 2]
    assert [PointStatus(s).name for s in estimate.status] == ["UNDECIDED", "UNDECIDED", "EDGE"]


def test_drift_does_not_pose_as_an_effect() -> None:
    # Everything becomes 10 % slower in each round of 200 points: taken at its word, points late
    # in a round would look slower than early ones.
    truth = [1.0] * 200
    matrix = round_matrix(rounds_of(truth, 8, drift=0.1), 200, anchor=0)
    spread = np.nanmax(np.nanmedian(matrix, axis=0)) - np.nanmin(np.nanmedian(matrix, axis=0))
    assert spread < 0.01


def test_an_unmeasured_rival_is_no_rival_but_an_unsure_one_is() -> None:
    batches = rounds_of([2.0, 3.0], 12)
    # Point 2 is seen in three rounds only: no interval, so nothing below it is certain.
    unsure = rounds_of([2.0, 3.0, 9.0], 3)
    estimate = estimate_grid(batches, (3,), anchor=0)
    assert [PointStatus(s).name for s in estimate.status] == ["LHP", "EDGE", "UNMEASURED"]
    estimate = estimate_grid([*unsure, *batches[3:]], (3,), anchor=0)
    assert [PointStatus(s).name for s in estimate.status] == ["UNDECIDED", "UNDECIDED", "EDGE"]


def test_a_slow_corner_is_an_edge_and_not_the_only_lhp() -> None:
    # 2 2
    # 2 9: all but the corner are alike within the noise, and nothing is larger than the corner.
    batches = rounds_of([2.0, 2.0, 2.0, 9.0], 40, noise=0.02)
    estimate = estimate_grid(batches, (2, 2), anchor=0)
    assert PointStatus(estimate.status[3]) is PointStatus.EDGE
    # The neighbours of the corner are confidently faster than all that is larger: the corner.
    assert [PointStatus(s).name for s in estimate.status[:3]] == ["UNDECIDED", "LHP", "LHP"]


def test_below_a_corner_that_failed_lie_several_edges() -> None:
    # 5 4
    # 3 – : (1,0) and (0,1) have nothing larger that was measured.
    batches = rounds_of([5.0, 4.0, 3.0, 9.0], 12)
    estimate = estimate_grid(batches, (2, 2), anchor=0, failed=[3])
    assert [PointStatus(s).name for s in estimate.status] == [
        *("DOMINATED", "EDGE", "EDGE", "UNMEASURED")
    ]
