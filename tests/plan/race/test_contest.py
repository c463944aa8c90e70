"""The contest: who meets, who leaves, and when it ends."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.plan.base import Points
from profiler_service.plan.create import create_planner
from profiler_service.plan.race.contest import (
    Contest,
    count_places,
    find_favourites,
    join_fields,
)
from profiler_service.plan.race.planner import RacePlanner
from profiler_service.plan.race.settings import RACE
from profiler_service.plan.race.stages import End
from tests.plan.asking import spec_above
from tests.synthetic import SyntheticDevice


def test_a_play_off_goes_on_until_one_is_ahead_or_time_is_up() -> None:
    """Two points 0.3 % apart, and all others far behind, meet in more rounds than planned."""
    spec = spec_above((100,), "race")
    truth = np.full(33, 1.3e-4)
    truth[[12, 20]] = 1e-4, 1.003e-4
    device = SyntheticDevice(truth, noise=0.02, spikes=0, drift=0)
    planner = create_planner(spec)
    assert isinstance(planner, RacePlanner)
    device.run(planner)
    contests = [stage for stage in planner.stages if stage.name == "contest"]
    assert len(contests) > len(RACE.contest.rounds)
    last = contests[-1]
    assert last.kept[0] == 12
    assert planner.ends["contest"] in (End.ONE_LEFT, End.OUT_OF_TIME)


def points(*numbers: int) -> Points:
    return np.array(numbers, dtype=np.int32)


def contest_of(candidates: int, *, allowed: int, companion: int | None = None) -> Contest:
    """A contest of points 1, 2, … with time for so many visits; 3 are kept in the end."""
    field = np.arange(1, candidates + 1, dtype=np.int32)
    return Contest(RACE.contest, field, finalists=3, allowed=allowed, companion=companion)


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
    assert count_places(RACE.contest, visits) == places


def test_favourites_come_fastest_first() -> None:
    predicted = np.array([0.0, 0.3, 0.1, 0.2, 0.15])
    assert find_favourites(predicted, 3, {0}).tolist() == [2, 4, 3]
    assert find_favourites(predicted, 9, {0, 4}).tolist() == [2, 3, 1]
    assert predicted[0] == 0.0, "the prediction stays as it was"
    assert find_favourites(np.full(3, 1.0), 2, {0, 1, 2}).tolist() == []


def test_a_point_named_twice_is_in_the_field_once() -> None:
    fields = [points(5, 3), points(3, 7), points(7, 2)]
    assert join_fields(fields, {7}).tolist() == [5, 3, 2]
    assert join_fields([points()], set()).tolist() == []


def test_parts_of_a_contest_have_their_rounds_and_leave_those_behind() -> None:
    contest = contest_of(10, allowed=400)
    rounds = contest.suggest(as_planned)
    # A quarter of 400 visits is 10 rounds of 10 points; 6 are wanted.
    assert rounds is not None
    assert (rounds.field.tolist(), rounds.count) == ([*range(1, 11)], 6)
    # 8 may stay, but only those less than 3 standard errors behind: the first five.
    behind = np.array([0.0, 1.0, 2.0, 2.5, 2.9, 3.0, 3.5, 4.0, 5.0, 6.0])
    dropped = contest.update(points(4, 2, 9, 1, 7, 3, 5, 6, 8, 10), behind)
    assert contest.candidates.tolist() == [4, 2, 9, 1, 7]
    assert dropped.tolist() == [3, 5, 6, 8, 10]
    rounds = contest.suggest(as_planned)
    # A fifth of 400 is 16 rounds of 5; 12 are wanted.
    assert rounds is not None and rounds.count == 12


def test_a_part_keeps_as_many_as_it_has_places_for() -> None:
    contest, kept = contest_of(20, allowed=10_000), []
    for _ in range(5):
        contest.update(contest.candidates, np.zeros(len(contest.candidates)))
        kept.append(len(contest.candidates))
    assert kept == [8, 5, 4, 3, 3]


def test_there_is_one_round_at_least() -> None:
    rounds = contest_of(10, allowed=4).suggest(as_planned)
    assert rounds is not None and rounds.count == 1


def test_the_play_off_is_stricter_and_may_take_all_the_time() -> None:
    contest = contest_of(3, allowed=90)
    for _ in range(4):
        contest.update(contest.candidates, np.zeros(3))
    rounds = contest.suggest(as_planned)
    # All of 90 visits are 30 rounds of 3; 60 are wanted.
    assert rounds is not None and rounds.count == 30
    contest.update(points(2, 1, 3), np.array([0.0, 1.9, 2.0]))
    assert contest.candidates.tolist() == [2, 1]


def test_a_contest_of_one_or_none_wants_nothing() -> None:
    assert contest_of(1, allowed=100).suggest(as_planned) is None
    assert contest_of(0, allowed=100).suggest(as_planned) is None


def test_a_companion_meets_the_candidates_and_takes_no_place() -> None:
    contest = contest_of(2, allowed=120, companion=0)
    rounds = contest.suggest(as_planned)
    # A quarter of 120 is 10 rounds of 3.
    assert rounds is not None
    assert (rounds.field.tolist(), rounds.count) == ([1, 2, 0], 6)
    assert contest.candidates.tolist() == [1, 2]
