"""Sweep specifications: what coalesces, what survives JSON, how far a window reaches."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from profiler_service.errors import InvalidRequestError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.spec import (
    SweepSpec,
    SweepState,
    grid_from_json,
    grid_to_json,
    window_growth,
)
from profiler_service.wire import SweepInfo


def spec(*, seed: int = 0, batch: int = 16, mode: str = "race") -> SweepSpec:
    return SweepSpec(
        workload=LINEAR.describe({"batch": batch}),
        mode=mode,  # type: ignore[arg-type]
        grid=Grid.window((100, 200), (32, 32)),
        seed=seed,
    )


def test_a_budget_is_part_of_the_request_and_must_be_one() -> None:
    line = Grid(axes=(GridAxis(first=1, count=2),))
    free = SweepSpec(workload=MATMUL.describe(), mode="race", grid=line)
    bound = replace(free, budget_s=2.5)
    assert bound.key != free.key
    assert SweepSpec.from_json(bound.to_json()) == bound
    assert "budget_s" not in free.to_json(), "the key of requests without one never changes"
    for budget_s in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidRequestError, match="budget"):
            replace(free, budget_s=budget_s)


def test_equal_requests_share_a_key_whatever_their_seed() -> None:
    assert spec(seed=1).key == spec(seed=2).key
    assert spec(batch=8).key != spec().key
    assert spec(mode="grid").key != spec().key


def test_json_round_trip() -> None:
    assert SweepSpec.from_json(json.loads(json.dumps(spec(seed=3).to_json()))) == spec(seed=3)


def test_grids_of_multiples_survive_json_and_even_ones_are_written_as_ever() -> None:
    even = Grid(axes=(GridAxis(first=100, count=3), GridAxis(first=64, count=2, step=64)))
    assert grid_to_json(even) == [[100, 3, 1], [64, 2, 64]]
    mixed = Grid.window((100, 317), (2, 100), (1, 64))
    assert grid_to_json(mixed) == [[100, 3, 1], [317, 3, 64, 320]]
    assert [grid_from_json(grid_to_json(grid)) for grid in (even, mixed)] == [even, mixed]


def test_one_range_an_axis() -> None:
    with pytest.raises(InvalidRequestError, match="out_features, in_features"):
        SweepSpec(
            workload=LINEAR.describe(), mode="grid", grid=Grid(axes=(GridAxis(first=1, count=2),))
        )
    SweepSpec(
        workload=MATMUL.describe(), mode="grid", grid=Grid(axes=(GridAxis(first=1, count=2),))
    )


def test_windows_reach_an_eighth_and_never_less_than_32() -> None:
    # 1197 / 8 = 149.6, 317 / 8 = 39.6, 100 / 8 = 12.5.
    assert window_growth((1197, 317)) == (149, 39)
    assert window_growth((100,)) == (32,)
    assert window_growth((1000,), 0.0) == (32,)
    assert window_growth((1000,), 0.5) == (500,)
    assert window_growth((33278, 650)) == (1024, 81)


def test_final_states() -> None:
    assert [s for s in SweepState if not s.is_final] == [SweepState.QUEUED, SweepState.RUNNING]


@pytest.mark.parametrize("state", SweepState)
def test_a_state_is_final_on_the_wire_where_it_is_here(state: SweepState) -> None:
    assert SweepInfo.model_construct(state=state.value).is_final == state.is_final
