"""Facts, on every database that the store runs on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import pytest

from profiler_service.analysis.comparison import Verdict
from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.errors import InvalidRequestError
from profiler_service.kinds import MATMUL
from profiler_service.plan.spec import SweepState
from profiler_service.storage.store import Fact, FactFilter, Host, Store, WorkerIdentity
from tests.storage.examples import PROTOCOL, create_curve, create_platform, create_spec

HERE = (MATMUL.describe().key, create_platform().key, PROTOCOL.key)


def confirm(
    rival: int, low: float, high: float, *, dims: int = 8, verdict: Verdict | None = None
) -> ConfirmedPair:
    """A pair whose interval is that; the verdict follows from it."""
    found: Verdict = "faster" if high < 1 else "slower" if low > 1 else "ambiguous"
    return ConfirmedPair(
        dims=(dims,),
        rival=(rival,),
        verdict=verdict or found,
        ratio=(low + high) / 2,
        low=low,
        high=high,
        num_pairs=100,
    )


def keep(
    store: Store,
    *pairs: ConfirmedPair,
    start: int = 8,
    state: SweepState = SweepState.DONE,
    measured_at: dt.datetime | None = None,
    tau: float | None = None,
) -> str:
    """The id of the sweep of a race that confirmed the pairs."""
    spec = replace(create_spec(mode="race", start=start), tau=tau)
    sweep, _ = store.create_sweep(spec, host="east")
    curve = replace(create_curve(), confirmed=pairs)
    if measured_at is not None:
        curve = replace(curve, measured_at=measured_at)
    store.finish_sweep(sweep.id, curve, state=state)
    return sweep.id


def find(store: Store, dims: Sequence[int] = (8,)) -> list[Fact]:
    return store.find_facts(*HERE, dims, limit=99)


def test_a_confirmed_pair_comes_back_with_where_it_is_from(store: Store, host: Host) -> None:
    pair = replace(
        confirm(10, 0.96, 0.98),
        num_children=2,
        num_arenas=3,
        between_arenas=-1e-6,
        noise=0.002,
        tau=0.004,
    )
    # What the interval allows for counts, not what the race was told before it began.
    sweep_id = keep(store, pair, tau=0.003)
    [fact] = find(store)
    curve = create_curve()
    assert fact == Fact(
        id=fact.id,
        curve_id=store.get_sweep(sweep_id).curve_id or "",
        sweep_id=sweep_id,
        host="east",
        workload=curve.workload,
        platform_key=curve.platform.key,
        protocol_key=curve.protocol.key,
        pair=pair,
        tau=0.004,
        worker="",
        measured_at=curve.measured_at,
    )
    assert find(store, (9,)) == []


def test_a_cancelled_race_keeps_the_pairs_that_it_confirmed(store: Store, host: Host) -> None:
    keep(store, confirm(10, 0.96, 0.98), state=SweepState.CANCELLED)
    assert [fact.pair.rival for fact in find(store)] == [(10,)]


def test_a_sweep_that_is_ended_twice_keeps_its_facts_once(store: Store, host: Host) -> None:
    sweep_id = keep(store, confirm(10, 0.96, 0.98))
    again = replace(create_curve(), confirmed=(confirm(10, 0.96, 0.98),))
    store.finish_sweep(sweep_id, again, state=SweepState.DONE)
    assert len(find(store)) == 1


def test_facts_at_a_point_come_in_order_the_newest_if_they_are_too_many(
    store: Store, host: Host
) -> None:
    for rival in (9, 10, 11):
        keep(store, confirm(rival, 0.96, 0.98))
    assert [fact.pair.rival for fact in find(store)] == [(9,), (10,), (11,)]
    newest = store.find_facts(*HERE, (8,), limit=2)
    assert [fact.pair.rival for fact in newest] == [(10,), (11,)]


def test_a_fact_names_the_one_before_it_about_the_same_pair(store: Store, host: Host) -> None:
    keep(store, confirm(10, 0.96, 0.98))
    keep(store, confirm(12, 0.96, 0.98))
    keep(store, confirm(10, 0.97, 0.99))
    keep(store, confirm(10, 0.95, 0.97))
    first, other, second, third = find(store)
    assert [fact.repeats for fact in (first, other, second, third)] == [
        None,
        None,
        first.id,
        second.id,
    ]


def test_repeats_are_those_of_another_worker(database_url: str, store: Store, host: Host) -> None:
    facts = []
    for number in (1, 1, 2, 3):
        identity = WorkerIdentity(id=f"w{number}", description="a worker", device_lock="lock")
        worker = Store.open(database_url, worker=identity)
        worker.take_lease("east")
        keep(worker, confirm(10, 0.96, 0.98))
        worker.release_lease("east")
        worker.close()
        facts = find(store)
    assert [fact.worker for fact in facts] == ["w1", "w1", "w2", "w3"]
    _, second, third, fourth = facts
    # The newest first, each after the one that it repeats. The second repeats the first one's work.
    repeats = store.find_repeats("matmul", *HERE[1:], limit=9)
    assert repeats == [(third, fourth), (second, third)]
    assert store.find_repeats("matmul", *HERE[1:], limit=1) == [(third, fourth)]
    assert store.find_repeats("linear", *HERE[1:], limit=9) == []


@pytest.mark.parametrize(
    ("low", "high", "overrules"),
    [
        (1.01, 1.03, True),  # slower
        (0.99, 1.01, True),  # not told apart, but surely above the earlier interval
        (0.97, 1.01, False),  # overlaps it: both may be true
        (0.90, 0.92, False),  # faster still: the verdicts agree
        (0.96, 0.98, False),
    ],
)
def test_a_later_fact_overrules_what_cannot_be_true_with_it(
    store: Store, host: Host, low: float, high: float, overrules: bool
) -> None:
    keep(store, confirm(10, 0.96, 0.98))
    keep(store, confirm(12, 0.96, 0.98))
    keep(store, confirm(10, low, high))
    earlier, other, later = find(store)
    assert earlier.overruled_by == (later.id if overrules else None)
    # Nothing is said about another pair.
    assert other.overruled_by is None
    expected = {later.id: [earlier.id]} if overrules else {}
    assert store.find_overruled([earlier.id, later.id]) == expected


def test_who_overruled_a_fact_first_stays(store: Store, host: Host) -> None:
    for low, high in ((0.96, 0.98), (1.01, 1.03), (1.02, 1.04)):
        keep(store, confirm(10, low, high))
    first, second, third = find(store)
    assert (first.overruled_by, second.overruled_by, third.overruled_by) == (second.id, None, None)


def test_lists_of_facts_are_filtered(store: Store, host: Host) -> None:
    old, new = (dt.datetime(2026, month, 1, tzinfo=dt.UTC) for month in (3, 5))
    keep(store, confirm(10, 0.96, 0.98), confirm(12, 0.99, 1.01), measured_at=old)
    keep(store, confirm(20, 1.01, 1.02, dims=16), start=16, measured_at=new)

    def rivals(wanted: FactFilter) -> list[int]:
        return [fact.pair.rival[0] for fact in store.list_facts(wanted).items]

    assert rivals(FactFilter()) == [20, 12, 10]
    assert rivals(FactFilter(kind="matmul")) == [20, 12, 10]
    assert rivals(FactFilter(kind="linear")) == []
    assert rivals(FactFilter(workload_key=HERE[0])) == [20, 12, 10]
    assert rivals(FactFilter(workload_key="matmul[batch=1]")) == []
    assert rivals(FactFilter(platform_key=HERE[1], host="east")) == [20, 12, 10]
    assert rivals(FactFilter(host="west")) == []
    assert rivals(FactFilter(dims=(8,))) == [12, 10]
    assert rivals(FactFilter(verdict="ambiguous")) == [12]
    assert rivals(FactFilter(since=new)) == [20]
    assert rivals(FactFilter(since=new + dt.timedelta(microseconds=1))) == []
    assert rivals(FactFilter(since=old)) == [20, 12, 10]


def test_pages_of_facts_follow_their_cursor(store: Store, host: Host) -> None:
    for rival in (9, 10, 11):
        keep(store, confirm(rival, 0.96, 0.98))
    first = store.list_facts(FactFilter(), limit=2)
    keep(store, confirm(12, 0.96, 0.98))
    second = store.list_facts(FactFilter(), limit=2, cursor=first.next_cursor)
    pages = [[fact.pair.rival for fact in page.items] for page in (first, second)]
    assert pages == [[(11,), (10,)], [(9,)]]
    assert second.next_cursor is None
    with pytest.raises(InvalidRequestError):
        store.list_facts(FactFilter(), cursor="nonsense")


def test_the_newest_race_with_a_noise_is_found_for_each_host(store: Store, host: Host) -> None:
    def noisy(rival: int, noise: float | None) -> ConfirmedPair:
        return replace(confirm(rival, 0.96, 0.98), noise=noise)

    assert store.find_newest_noise(["east"]) == []
    keep(store, noisy(10, 0.001))
    newest = keep(store, noisy(10, 0.002), noisy(12, 0.003), noisy(14, None), start=9)
    keep(store, noisy(10, None), start=10)  # of a version that didn't note it
    found = store.find_newest_noise(["east", "elsewhere"])
    assert {fact.sweep_id for fact in found} == {newest}
    assert [fact.pair.noise for fact in found] == [0.002, 0.003]
    assert store.find_newest_noise(["elsewhere"]) == []
    assert store.find_newest_noise([]) == []
