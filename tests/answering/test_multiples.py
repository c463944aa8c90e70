"""Questions that allow only multiples: which curves answer them, and what is swept."""

from __future__ import annotations

import pytest

from profiler_service.answering.curves import Conditions
from profiler_service.answering.known import Known
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.errors import InvalidRequestError
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.store import Store
from tests.api.conftest import HOST, Worker, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs

HERE = Conditions(platform_key=PLATFORM.key, protocol_key=PROTOCOL.key)


def question(multiple_of: str | None, *, dims: str = "5,6", prefer: str = "fastest") -> LhpQuestion:
    return LhpQuestion.parse(
        dims=dims,
        workload="linear",
        fixed_parameters={},
        prefer=prefer,  # type: ignore[arg-type]
        effort="quick",
        max_growth=0.125,
        multiple_of=multiple_of,
    )


async def find(store: Store, asked: LhpQuestion) -> list[int] | None:
    known = Known(store)
    await known.refresh()
    answer = await asked.find(known, HERE)
    return None if answer is None else answer.lhp


def keep_race(store: Store, window: Grid, multiple: int) -> None:
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=["float32"])
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=window)
    sweep, _ = store.create_sweep(spec, host=HOST)
    Worker(store).finish(sweep, stairs(multiple))


def test_the_sweep_is_over_the_multiples() -> None:
    asked = question("1,8")
    assert asked.sweep.grid == Grid.window((5, 6), (32, 32), (1, 8))
    # In steps of one, as if nothing were asked for: such sweeps are shared.
    assert question("1").sweep.key == question(None).sweep.key
    assert asked.sweep.key != question(None).sweep.key
    with pytest.raises(InvalidRequestError, match="leaves no dims but 5,6"):
        question("64")


@pytest.mark.anyio
async def test_a_curve_of_every_point_answers_if_its_answer_is_a_multiple(
    sqlite_store: Store,
) -> None:
    # The fastest at or above (5,6) is (8,8): of the multiples of 1, 2, 4 and 8 too. It is none of
    # 16: the curve's table doesn't know the fastest of those.
    keep_curve(sqlite_store, square(1, 48), stairs(8))
    for multiple_of in (None, "1", "2", "8", "4,1"):
        assert await find(sqlite_store, question(multiple_of)) == [8, 8]
    assert await find(sqlite_store, question("16")) is None
    # (8,8) is its own answer, whatever the multiples.
    assert await find(sqlite_store, question("5", dims="8,8")) == [8, 8]


@pytest.mark.anyio
async def test_nearest_and_largest_choose_among_the_multiples(sqlite_store: Store) -> None:
    # Multiples of 8 on both axes take 1 ms and 1 µs a unit. Of (5,6), with 32 more on each axis:
    # the nearest is (8,8), and the largest (32,32). Each is beaten by nothing larger.
    keep_curve(sqlite_store, square(1, 48), stairs(8))
    assert await find(sqlite_store, question(None, prefer="nearest")) == [8, 8]
    assert await find(sqlite_store, question("16", prefer="nearest")) == [16, 16]
    assert await find(sqlite_store, question("1,12", prefer="nearest")) == [8, 24]
    assert await find(sqlite_store, question("24", prefer="largest")) == [24, 24]


@pytest.mark.anyio
async def test_a_race_answers_if_its_answer_is_a_candidate(sqlite_store: Store) -> None:
    # The race from (5,6) finds (8,8).
    keep_race(sqlite_store, Grid.window((5, 6), (32, 32)), 8)
    assert await find(sqlite_store, question("4")) == [8, 8]
    assert await find(sqlite_store, question("16")) is None


@pytest.mark.anyio
async def test_a_race_over_multiples_does_not_answer_for_every_point(sqlite_store: Store) -> None:
    keep_race(sqlite_store, Grid.window((5, 6), (32, 32), (8, 8)), 8)
    assert await find(sqlite_store, question("8")) == [8, 8]
    assert await find(sqlite_store, question("16")) is None
    assert await find(sqlite_store, question(None)) is None
    assert await find(sqlite_store, question("4")) is None
