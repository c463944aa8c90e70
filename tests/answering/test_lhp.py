from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest

from profiler_service.analysis.curve import LatencyCurve, PointStatus
from profiler_service.analysis.evidence import Evidence
from profiler_service.answering import curves
from profiler_service.answering.curves import Conditions, HeadersKey, covering
from profiler_service.answering.known import Known
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.errors import (
    InvalidDimsError,
    InvalidWorkloadError,
    StoreUnavailableError,
    UnknownWorkloadError,
)
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.plan.window import WindowLimits
from profiler_service.storage.store import CurveHeader, Store
from tests.api.conftest import HOST, keep_curve
from tests.api.curves import MEASURED_AT, PLATFORM, PROTOCOL, build_curve, square, stairs

HERE = Conditions(platform_key=PLATFORM.key, protocol_key=PROTOCOL.key)


def question(
    dims: str = "5,6",
    prefer: str = "fastest",
    effort: str = "quick",
    max_growth: float = 0.125,
    limits: WindowLimits | None = None,
) -> LhpQuestion:
    return LhpQuestion.parse(
        dims=dims,
        workload="linear",
        fixed_parameters={},
        prefer=prefer,  # type: ignore[arg-type]
        effort=effort,  # type: ignore[arg-type]
        max_growth=max_growth,
        limits=limits,
    )


def test_a_question_knows_its_window() -> None:
    asked = question("1197,317")
    assert asked.window == Grid.window((1197, 317), (149, 39))
    assert asked.growth == (149, 39)
    # Clipped at the largest dimension accepted, if it is given: 65,536 - 65,500 = 36.
    assert question("65500,317", limits=WindowLimits(max_dim=65_536)).growth == (36, 39)
    # At most 1,024 further. The vocabularies of GPT-2 and BLOOM are dimensions like others.
    assert question("50257,768").growth == (1024, 96)
    assert question("250880,14336").growth == (1024, 1024)
    assert question("50257,768", limits=WindowLimits(max_axis_points=2001)).growth == (2000, 96)


def test_a_dimension_beyond_the_limit_is_refused_with_its_setting() -> None:
    with pytest.raises(InvalidDimsError, match="in_features=4097 is outside 1 to 4096") as caught:
        question("4096,4097", limits=WindowLimits(max_dim=4096))
    assert "LHP_MAX_DIM" in caught.value.hint


def test_a_question_must_be_one() -> None:
    with pytest.raises(InvalidDimsError):
        question("5")
    with pytest.raises(UnknownWorkloadError):
        LhpQuestion.parse(
            dims="5",
            workload="conv",
            fixed_parameters={},
            prefer="fastest",
            effort="quick",
            max_growth=0,
        )
    with pytest.raises(InvalidWorkloadError):
        LhpQuestion.parse(
            dims="5,6",
            workload="linear",
            fixed_parameters={"colour": "red"},
            prefer="fastest",
            effort="quick",
            max_growth=0,
        )


HEADER = CurveHeader(
    id="c",
    sweep_id="s",
    host="here",
    workload=LINEAR.describe(),
    platform_key=PLATFORM.key,
    protocol_key="p",
    grid=square(1, 100),
    mode="grid",
    num_measured=1,
    num_lhps=1,
    num_undecided=0,
    num_failures=0,
    measured_at=MEASURED_AT,
    evidence=Evidence(),
)


def test_covering_curves_are_found_newest_first() -> None:
    def header(curve_id: str, mode: Mode, grid: Grid) -> CurveHeader:
        return dataclasses.replace(HEADER, id=curve_id, mode=mode, grid=grid)

    newest_first = [
        header("race", "race", Grid.window((5, 6), (32, 32))),
        header("nearest", "nearest", Grid.window((5, 6), (32, 32))),
        header("too small", "grid", square(1, 37)),
        header("other race", "race", Grid.window((5, 5), (40, 40))),
        header("grid", "grid", square(1, 38)),
        header("short race", "race", Grid.window((5, 6), (32, 31))),
        header("survey", "survey", Grid.window((5, 6), (32, 32))),
        header("old race", "race", Grid.window((5, 6), (64, 64))),
        header("largest", "largest", Grid.window((5, 6), (32, 32))),
        header("other survey", "survey", Grid.window((5, 5), (40, 40))),
    ]
    headers = [
        dataclasses.replace(each, generation=len(newest_first) - number)
        for number, each in enumerate(newest_first)
    ]

    def find(asked: LhpQuestion) -> list[str]:
        # In any order: races and others are kept apart.
        return [h.id for h in covering(sorted(headers, key=str), asked.window, asked.mode)]

    # The window is 5 to 37 by 6 to 38.
    assert find(question()) == ["race", "grid", "survey", "old race"]
    # A survey has looked at every point, and a grid closely; a race at a sample only.
    assert find(question(effort="thorough")) == ["grid", "survey"]
    for effort in ("quick", "thorough"):
        assert find(question(prefer="nearest", effort=effort)) == ["nearest", "grid"]
        assert find(question(prefer="largest", effort=effort)) == ["grid", "largest"]


@pytest.mark.anyio
async def test_each_header_is_read_once(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[list[str]] = []

    def count(name: str) -> None:
        read = getattr(sqlite_store, name)

        def counted(*args: object, **named: object) -> list[CurveHeader]:
            headers: list[CurveHeader] = read(*args, **named)
            reads.append([header.id for header in headers])
            return headers

        monkeypatch.setattr(sqlite_store, name, counted)

    count("find_answering")
    count("find_new_curves")
    known = Known(sqlite_store)

    async def find() -> str:
        answer = await question().find(known, HERE)
        assert answer is not None
        return answer.curve

    one = keep_curve(sqlite_store, square(1, 40), stairs(8))
    two = keep_curve(sqlite_store, square(1, 41), stairs(8))
    await known.refresh()
    # Those who ask at the same time share one reading.
    assert set(await asyncio.gather(find(), find())) == {two}
    # Grids, which may answer for any point in them. There are no races.
    assert reads == [[two, one]]
    three = keep_curve(sqlite_store, square(1, 42), stairs(8))
    assert await find() == two  # as of the last refresh
    await known.refresh()
    assert await find() == three
    # A change of host changes the generation, too, and adds no curve.
    sqlite_store.register_host("there", PLATFORM, protocol=PROTOCOL, dtypes=[])
    await known.refresh()
    assert await find() == three
    assert reads == [[two, one], [three], []]


@pytest.mark.anyio
async def test_a_failed_reading_is_done_again(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep_curve(sqlite_store, square(1, 40), stairs(8))
    known = Known(sqlite_store)
    await known.refresh()

    def fail(*_key: object, limit: int) -> list[CurveHeader]:
        raise StoreUnavailableError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_store, "find_answering", fail)
        with pytest.raises(StoreUnavailableError):
            await question().find(known, HERE)
    answer = await question().find(known, HERE)
    assert answer is not None and answer.curve == kept


@pytest.mark.anyio
async def test_headers_in_memory_are_bounded(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A platform takes two places for its grids and races, and one for each header.
    monkeypatch.setattr(curves, "MAX_HEADERS", 5)
    kept = keep_curve(sqlite_store, square(1, 40), stairs(8))
    known = Known(sqlite_store)
    await known.refresh()
    for platform_key in ("a", "b", PLATFORM.key, "c", "d", PLATFORM.key):
        conditions = dataclasses.replace(HERE, platform_key=platform_key)
        answer = await question().find(known, conditions)
        assert (answer and answer.curve) == (kept if platform_key == PLATFORM.key else None)

    def in_memory(platform_key: str) -> bool:
        return HeadersKey(LINEAR.describe().key, platform_key, PROTOCOL.key, None) in known.curves

    assert [key for key in ("a", "b", "c", "d", PLATFORM.key) if in_memory(key)] == [
        "d",
        PLATFORM.key,
    ]


def keep_undecided_curve(store: Store) -> str:
    """The id of a new curve of 1 to 48 on both axes that has a verdict about no point."""
    spec = SweepSpec(workload=LINEAR.describe(), mode="grid", grid=square(1, 48))
    sweep, _ = store.create_sweep(spec, host=HOST)
    curve = build_curve(spec.grid, stairs(8))
    itself = np.arange(spec.grid.size, dtype=np.int32)
    poor = dataclasses.replace(
        curve,
        status=np.full(spec.grid.size, PointStatus.UNDECIDED, dtype=np.int8),
        answers=dataclasses.replace(curve.answers, target=itself),
    )
    curve_id = store.finish_sweep(sweep.id, poor, state=SweepState.CANCELLED)
    assert curve_id is not None
    return curve_id


@pytest.mark.anyio
async def test_a_newer_curve_that_cannot_tell_silences_no_older_one(sqlite_store: Store) -> None:
    known = Known(sqlite_store)

    async def find(dims: str) -> tuple[str, str]:
        await known.refresh()
        answer = await question(dims).find(known, HERE)
        assert answer is not None
        return answer.curve, answer.verdict

    keep_curve(sqlite_store, square(1, 48), stairs(8))
    newer = keep_curve(sqlite_store, square(1, 48), stairs(16))
    keep_undecided_curve(sqlite_store)
    # Both decided curves hold an answer: (5,6) is beaten by (16,16), and (16,16) by nothing.
    assert await find("5,6") == (newer, "faster")
    assert await find("16,16") == (newer, "slower")


@pytest.mark.anyio
async def test_where_no_curve_can_tell_the_newest_says_so(sqlite_store: Store) -> None:
    sqlite_store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=[])
    keep_undecided_curve(sqlite_store)
    newer = keep_undecided_curve(sqlite_store)
    known = Known(sqlite_store)
    await known.refresh()
    answer = await question().find(known, HERE)
    assert answer is not None
    assert (answer.curve, answer.verdict, answer.lhp) == (newer, "ambiguous", [5, 6])


@pytest.mark.anyio
async def test_loaded_curves_are_bounded(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in (1, 101, 201):
        keep_curve(sqlite_store, square(first, first + 33), stairs(8))
    loads: list[str] = []
    load_curve = sqlite_store.load_curve

    def counted(curve_id: str) -> LatencyCurve:
        loads.append(curve_id)
        return load_curve(curve_id)

    monkeypatch.setattr(sqlite_store, "load_curve", counted)
    # Two curves of 34² = 1156 points, and 100 for each curve itself, fit: 2512. Three don't.
    monkeypatch.setattr(curves, "MAX_CACHED_POINTS", 2600)
    known = Known(sqlite_store)
    await known.refresh()

    async def find(first: int) -> str:
        answer = await question(f"{first},{first}", max_growth=0).find(known, HERE)
        assert answer is not None
        return answer.curve

    one, two = await find(1), await find(101)
    assert await find(1) == one
    assert loads == [one, two]
    three = await find(201)  # drops `two`, which was used least recently
    assert (await find(1), await find(101)) == (one, two)
    assert loads == [one, two, three, two]
