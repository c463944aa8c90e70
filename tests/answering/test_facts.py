"""The facts that questions have asked for, in memory."""

from __future__ import annotations

import pytest

from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.answering.curves import Conditions
from profiler_service.answering.facts import PointFacts
from profiler_service.answering.known import Known
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.errors import StoreUnavailableError
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR
from profiler_service.storage.store import Fact, Store
from profiler_service.wire import LhpAnswer
from tests.api.conftest import Worker
from tests.api.curves import MEASURED_AT, PLATFORM, PROTOCOL
from tests.api.test_lhp_facts import faster_at, growing, pair, race

KEY = ("linear[backend=dense,batch=16,dtype=float32]", PLATFORM.key, PROTOCOL.key, (5, 6))
HERE = Conditions(platform_key=PLATFORM.key, protocol_key=PROTOCOL.key)
FASTER, UNDECIDED = pair((8, 8), 0.94, 0.96), pair((8, 8), 0.95, 1.06)


async def find(known: Known) -> LhpAnswer:
    asked = LhpQuestion.parse(
        dims="5,6",
        workload="linear",
        fixed_parameters={},
        prefer="fastest",
        effort="quick",
        max_growth=0.125,
    )
    answer = await asked.find(known, HERE)
    assert answer is not None
    return answer


def break_facts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, limit: int) -> list[Fact]:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(store, "find_facts", fail)


@pytest.mark.anyio
async def test_a_known_question_is_answered_without_the_database(
    sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Known(sqlite_worker.store)
    race(sqlite_worker, faster_at((8, 8)), FASTER)
    await known.refresh()
    first = await find(known)
    # New facts about the point come into memory with their race.
    race(sqlite_worker, growing, pair((16, 16), 1.02, 1.03))
    race(sqlite_worker, faster_at((8, 8)), FASTER)
    await known.refresh()
    break_facts(sqlite_worker.store, monkeypatch)
    second = await find(known)
    assert (len(first.facts), len(second.facts)) == (1, 2)


@pytest.mark.anyio
async def test_facts_of_more_new_races_than_are_read_ahead_are_read_when_asked_for(
    sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler_service.answering.curves.MAX_LOADED_AHEAD", 1)
    known = Known(sqlite_worker.store)
    race(sqlite_worker, faster_at((8, 8)), FASTER)
    await known.refresh()
    assert len((await find(known)).facts) == 1
    race(sqlite_worker, faster_at((8, 8)), FASTER)
    # The only one that is read ahead is of another question.
    race(sqlite_worker, growing, window=Grid.window((7, 7), (32, 32)))
    await known.refresh()
    assert len((await find(known)).facts) == 2


@pytest.mark.anyio
async def test_an_earlier_state_of_the_database_takes_facts_back(
    sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sqlite_worker.store
    race(sqlite_worker, faster_at((8, 8)), FASTER)
    known = Known(store)
    await known.refresh()
    race(sqlite_worker, faster_at((8, 8)), FASTER)
    await known.refresh()
    assert len((await find(known)).facts) == 2
    # As if a copy from before the second race had been put back.
    [fact, _] = store.find_facts(*KEY, limit=9)
    monkeypatch.setattr(store, "find_facts", lambda *_, limit: [fact])
    monkeypatch.setattr(store, "generation", lambda: known.curves.snapshot.generation - 1)
    await known.refresh()
    assert (await find(known)).facts == [fact.id]


@pytest.mark.anyio
async def test_a_fact_that_could_not_tell_contradicts_nothing(sqlite_worker: Worker) -> None:
    race(sqlite_worker, faster_at((8, 8)), UNDECIDED)
    race(sqlite_worker, faster_at((8, 8)), FASTER)
    known = Known(sqlite_worker.store)
    await known.refresh()
    answer = await find(known)
    assert (len(answer.facts), answer.contradicts) == (2, [])


def fact(number: int, confirmed: ConfirmedPair, overruled_by: int | None = None) -> Fact:
    return Fact(
        id=f"{number}",
        curve_id=f"curve {number}",
        sweep_id="s",
        host="here",
        workload=LINEAR.describe(),
        platform_key="p",
        protocol_key="q",
        pair=confirmed,
        tau=None,
        worker="",
        measured_at=MEASURED_AT,
        overruled_by=None if overruled_by is None else f"{overruled_by}",
    )


def test_overruled_facts_count_again_if_what_overruled_them_does_not() -> None:
    slower = pair((8, 8), 1.02, 1.03)
    window = Grid.window((5, 6), (32, 32))
    point = PointFacts([fact(1, FASTER, overruled_by=2), fact(2, slower)], as_of=0)
    choice = point.choose(window)
    assert (choice.fastest, choice.contradicts) == (None, ("1",))
    assert choice.are_all_slower and choice.knows((8, 8)) and not choice.knows((9, 9))
    choice = point.choose(window, lambda each: each.id == "1")
    assert choice.fastest is not None and choice.counted[0].id == "1"
    assert choice.contradicts == ()
