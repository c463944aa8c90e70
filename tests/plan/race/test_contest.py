"""The contest: who meets, who leaves, who comes back, and when it ends."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.analysis.comparison import F64
from profiler_service.plan.base import Points
from profiler_service.plan.race.contest import (
    Contest,
    count_places,
    find_favourites,
    join_fields,
)
from profiler_service.plan.race.margin import bound_leads
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.stages import End
from profiler_service.plan.race.standing import Standing
from tests.plan.asking import spec_above
from tests.synthetic import SyntheticDevice

MARGIN = 0.005


def points(*numbers: int) -> Points:
    return np.array(numbers, dtype=np.int32)


def contest_of(candidates: int) -> Contest:
    """A contest of points 1, 2, …"""
    points = np.arange(1, candidates + 1, dtype=np.int32)
    return Contest(RACE.contest, points, margin=MARGIN, error=RACE.contest.error)


def standing_of(level: F64, *, error: float, visits: int = 6) -> Standing:
    """Points 1, 2, … with these log latencies."""
    count = len(level)
    return Standing(
        points=np.arange(1, count + 1, dtype=np.int32),
        level=level,
        covariance=error**2 * np.eye(count),
        visits=np.full(count, visits),
        noise=error,
    )


def nothing(count: int) -> F64:
    """Processes and arenas don't differ."""
    return np.zeros(count)


def as_planned(rounds: int) -> int:
    """The noise is that of reference: as many rounds as the settings say."""
    return rounds


@pytest.mark.parametrize(
    ("visits", "places"),
    [
        (1000, (18, 6)),  # 1000 / 5 = 200, but 24 at most, of which a quarter is for those seen
        (60, (9, 3)),  # 60 / 5 = 12
        (19, (3, 0)),  # 3 places, and no quarter of them is a whole one
        (3, (1, 0)),  # one at least
    ],
)
def test_there_are_as_many_places_as_can_be_visited_five_times(
    visits: int, places: tuple[int, int]
) -> None:
    assert count_places(RACE.contest, as_planned, visits=visits, num_points=2303) == places


@pytest.mark.parametrize(
    ("num_points", "visits", "places"),
    [
        # Two parts are 6 + 9 rounds: 128 points need 1920 visits.
        (128, 1920, (128, 0)),
        (128, 1919, (18, 6)),
        (129, 10_000, (18, 6)),
        (7, 105, (7, 0)),
    ],
)
def test_all_points_of_a_small_window_join_if_two_parts_can_visit_them(
    num_points: int, visits: int, places: tuple[int, int]
) -> None:
    assert count_places(RACE.contest, as_planned, visits=visits, num_points=num_points) == places


def test_where_noise_asks_for_more_rounds_fewer_points_join() -> None:
    def twice(rounds: int) -> int:
        return 2 * rounds

    assert count_places(RACE.contest, twice, visits=3839, num_points=128) == (18, 6)
    assert count_places(RACE.contest, twice, visits=3840, num_points=128) == (128, 0)


def test_favourites_come_fastest_first() -> None:
    predicted = np.array([0.0, 0.3, 0.1, 0.2, 0.15])
    assert find_favourites(predicted, 3, {0}).tolist() == [2, 4, 3]
    assert find_favourites(predicted, 9, {0, 4}).tolist() == [2, 3, 1]
    assert predicted[0] == 0.0, "the prediction stays as it was"
    assert find_favourites(np.full(3, 1.0), 2, {0, 1, 2}).tolist() == []


@pytest.mark.parametrize("seed", range(20))
def test_of_equal_favourites_the_smaller_number_wins_wherever_they_lie(seed: int) -> None:
    """What a partition leaves at a place differs from processor to processor; the choice may not.

    500 points have four values, so most ranks fall between equals.
    """
    rng = np.random.default_rng(seed)
    predicted = rng.integers(0, 4, 500).astype(np.float64)
    predicted[rng.random(500) < 0.1] = np.nan
    known = np.flatnonzero(~np.isnan(predicted)).tolist()
    ranked = sorted(known, key=lambda point: (predicted[point], point))
    every_other = np.repeat(predicted, 2)[::2]  # the same values, spread out in memory
    for size in (1, 2, 60, 130, 300, len(known)):
        assert find_favourites(predicted, size).tolist() == ranked[:size]
        assert find_favourites(every_other, size).tolist() == ranked[:size]


def test_a_point_named_twice_is_in_the_field_once() -> None:
    fields = [points(5, 3), points(3, 7), points(7, 2)]
    assert join_fields(fields, {7}).tolist() == [5, 3, 2]
    assert join_fields([points()], set()).tolist() == []


def test_each_part_has_half_as_many_rounds_more_than_the_one_before() -> None:
    contest, counts = contest_of(10), []
    while (rounds := contest.suggest(as_planned, affordable=10**6)) is not None:
        assert rounds.field.tolist() == [*range(1, 11)]
        counts.append(rounds.count)
        contest.update(standing_of(np.zeros(10), error=0.1), nothing(10))
    # 6, 9, 13.5, 20.25, ... rounded up; twelve parts.
    assert counts[:4] == [6, 9, 14, 21]
    assert len(counts) == RACE.contest.parts == 12


def test_there_are_no_more_rounds_than_fit() -> None:
    # Ten points and the queried one: 43 visits are 3 rounds of 11, 10 visits are none.
    rounds = contest_of(10).suggest(as_planned, affordable=43)
    assert rounds is not None and rounds.count == 3
    assert contest_of(10).suggest(as_planned, affordable=10) is None


def test_a_contest_of_one_or_none_wants_nothing() -> None:
    assert contest_of(1).suggest(as_planned, affordable=1000) is None
    assert contest_of(0).suggest(as_planned, affordable=1000) is None


def test_those_leave_that_are_surely_not_faster_by_the_margin() -> None:
    """Ten points: each claim has an error of 0.01 / 10, one-sided, so z = 3.09.

    Two errors of 1 % make one of 1.41 %; z of these are 4.37 %. Whoever is 4.37 - 0.50 = 3.87 %
    behind may still be just the margin faster.
    """
    contest = contest_of(10)
    level = 0.01 * np.array([3.8, 1.0, 0.0, 3.9, 2.0, 4.0, 5.0, 6.0, 8.0, 9.0])
    assert contest.update(standing_of(level, error=0.01), nothing(10)).tolist() == [
        4,
        6,
        7,
        8,
        9,
        10,
    ]
    assert contest.open_points.tolist() == [3, 2, 5, 1], "fastest first"


def test_equals_leave_once_they_are_known_well_enough() -> None:
    """Two equal points, z = 2.58 for 0.01 / 2: 2.58 · 1.41 · error < 0.50 % below 0.137 %."""
    contest = contest_of(2)
    assert contest.update(standing_of(np.zeros(2), error=0.0014), nothing(2)).tolist() == []
    assert contest.update(standing_of(np.zeros(2), error=0.0013), nothing(2)).tolist() == [2]
    assert contest.suggest(as_planned, affordable=1000) is None


def test_equals_stay_while_what_processes_and_arenas_share_leaves_the_margin_open() -> None:
    """Two equal points as above, with errors of 0.1 %: z of both is 2.576 · 1.414 · 0.1 = 0.364 %.

    With 0.3 % for processes and arenas, that is √(0.364² + 0.3²) = 0.472 %, less than 0.501 % (the
    margin in log). With 0.4 % for point 2 alone, it is √(0.364² + 0.4²) = 0.541 % for that point.
    """
    contest, standing = contest_of(2), standing_of(np.zeros(2), error=0.001)
    assert contest.update(standing, np.array([0.003, 0.004])).tolist() == []
    assert contest.update(standing, np.array([0.004, 0.003])).tolist() == [2]
    # Point 1 leads. It stays, whatever its own part is.
    assert contest.open_points.tolist() == [1]


@pytest.mark.parametrize("seed", range(20))
def test_whoever_left_is_bounded_by_the_margin_without_more_visits(seed: int) -> None:
    """`bound_leads` says the same as the contest, if the contest's leader is the answer."""
    rng = np.random.default_rng(seed)
    contest, level = contest_of(12), 0.004 * rng.random(12)
    standing, between = standing_of(level, error=0.001), 0.006 * rng.random(12)
    dropped = contest.update(standing, between).tolist()
    leader = int(contest.open_points[0])
    points, leads = bound_leads(
        standing, leader, contest.open_points, error=RACE.contest.error, between=between
    )
    assert points.tolist() == dropped
    assert 0 < len(dropped) < 11
    assert max(leads) <= MARGIN
    # Those that stayed have larger bounds: they didn't stay for nothing.
    others, leads = bound_leads(
        standing, leader, [], error=11 / 12 * RACE.contest.error, between=between
    )
    assert min(leads[~np.isin(others, dropped)]) > MARGIN


def test_nobody_leaves_below_four_visits_of_its_own() -> None:
    contest, far_behind = contest_of(2), np.array([0.0, 1.0])
    assert contest.update(standing_of(far_behind, error=0.001, visits=3), nothing(2)).tolist() == []
    assert contest.update(standing_of(far_behind, error=0.001, visits=4), nothing(2)).tolist() == [
        2
    ]


def test_who_left_comes_back_when_the_leader_falls_back() -> None:
    contest = contest_of(3)
    # Point 1 seems 10 % faster than the others. z = 2.71 for 0.01 / 3; 3.8 % is what may be.
    dropped = contest.update(standing_of(np.array([-0.1, 0.0, 0.01]), error=0.01), nothing(3))
    assert dropped.tolist() == [2, 3]
    # It was luck: it is as fast as the others.
    assert (
        contest.update(standing_of(np.array([0.005, 0.0, 0.01]), error=0.01), nothing(3)).tolist()
        == []
    )
    assert contest.open_points.tolist() == [2, 1, 3]
    rounds = contest.suggest(as_planned, affordable=1000)
    assert rounds is not None and rounds.field.tolist() == [2, 1, 3]


def test_a_contest_goes_on_until_one_is_left_or_time_is_up() -> None:
    """Two points 1 % apart, all others far behind: the last parts are between these two."""
    spec = spec_above((100,), "race")
    truth = np.full(33, 1.3e-4)
    truth[[12, 20]] = 1e-4, 1.01e-4
    device = SyntheticDevice(truth, noise=0.02, spikes=0, drift=0)
    planner = RacePlanner(spec)
    device.run(planner)
    contests = [stage for stage in planner.stages if stage.name == "contest"]
    assert contests[0].field_size[0] == 32  # the whole window
    assert contests[-1].kept[0] == 12
    assert set(contests[-1].kept) <= {12, 20}
    assert planner.ends["contest"] in (End.ONE_LEFT, End.OUT_OF_TIME)
