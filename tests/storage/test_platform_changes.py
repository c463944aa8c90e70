"""Changes of hosts' platforms and what is measured again, on every database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import pytest

from profiler_service.analysis.platform_change import Agreement, Contrast, Pattern
from profiler_service.analysis.samples import Platform
from profiler_service.errors import HostTakenError
from profiler_service.plan.spec import SweepState
from profiler_service.storage import schema
from profiler_service.storage.platform_change_records import ChangeState, PlatformChange
from profiler_service.storage.store import Fact, Host, HostStatus, Store, WorkerIdentity
from tests.processes.fake_worker import platform
from tests.storage.examples import PROTOCOL, create_curve, create_platform, create_spec
from tests.storage.test_facts import confirm
from tests.storage.test_joining import create_key, machine, url_of
from tests.storage.test_leases import identity
from tests.storage.test_schema import downgrade

A, B, C = (create_platform(threads=threads) for threads in (1, 2, 3))


@pytest.fixture
def host(store: Store) -> Host:
    return register(store, A)


def register(store: Store, platform: Platform, *, quarantine: bool = False) -> Host:
    return store.register_host(
        "east", platform, protocol=PROTOCOL, dtypes=["float32"], quarantine_changed=quarantine
    )


def keep(
    store: Store,
    rival: int,
    *,
    platform: Platform = A,
    ratio: float = 0.97,
    batch: int = 16,
) -> Fact:
    """The fact that a race on the host confirmed just now."""
    spec = create_spec(mode="race", start=rival, batch=batch)
    sweep, _ = store.create_sweep(spec, host="east")
    curve = create_curve(workload=spec.workload, platform=platform)
    pair = confirm(rival, ratio - 0.005, ratio + 0.005)
    store.finish_sweep(sweep.id, replace(curve, confirmed=(pair,)), state=SweepState.DONE)
    key = (spec.workload.key, platform.key, PROTOCOL.key)
    return store.find_facts(*key, (8,), limit=99)[-1]


def get_open(store: Store) -> PlatformChange:
    change = store.find_open_change("east")
    assert change is not None
    return change


def newest(store: Store) -> PlatformChange:
    return store.find_platform_changes(["east"])["east"]


def test_a_changed_platform_is_kept_and_waits_for_its_replay(store: Store, host: Host) -> None:
    assert store.find_open_change("east") is None
    assert store.find_platform_changes(["east"]) == {}
    before = dt.datetime.now(dt.UTC)
    register(store, B)
    change = get_open(store)
    assert before <= change.changed_at <= dt.datetime.now(dt.UTC)
    assert change == PlatformChange(
        id=change.id,
        host="east",
        old_platform_key=A.key,
        new_platform_key=B.key,
        protocol_key=PROTOCOL.key,
        changed_at=change.changed_at,
        state=ChangeState.OPEN,
        num_contrasts=None,
        agreement=Agreement(),
        patterns=(),
        finished_at=None,
    )
    assert newest(store) == change
    assert store.find_platform_changes(["west"]) == {} == store.find_platform_changes([])
    # The worker is started again: nothing has changed.
    register(store, B)
    assert get_open(store) == change


def test_what_becomes_of_each_fact_is_kept_and_counted(store: Store, host: Host) -> None:
    facts = [keep(store, rival) for rival in (10, 12, 14)]
    register(store, B)
    change = get_open(store)
    store.keep_contrasts(change, [each.id for each in facts])
    store.keep_contrasts(change, [facts[0].id])  # only once
    replayed = store.list_replayed(change.id)
    assert [each.before for each in replayed] == facts
    assert all((each.sweep_id, each.outcome, each.after) == (None, None, None) for each in replayed)
    assert get_open(store).num_contrasts == 3

    again = keep(store, 10, platform=B)
    store.begin_replayed(change, 0, again.sweep_id)
    store.settle_replayed(change, 0, "agrees", after=again)
    store.settle_replayed(change, 1, "failed", reason="out of memory")
    first, second, third = store.list_replayed(change.id)
    assert (first.sweep_id, first.outcome, first.after) == (again.sweep_id, "agrees", again)
    assert first.contrast == Contrast(before=facts[0].pair, after=again.pair)
    assert (second.outcome, second.after, second.reason) == ("failed", None, "out of memory")
    assert second.contrast.outcome == "failed"
    assert third.outcome is None
    assert get_open(store).agreement == Agreement(num_agree=1, num_failed=1)

    store.settle_replayed(change, 2, "changed", after=keep(store, 14, platform=B, ratio=1.2))
    pattern = Pattern(multiple=16, wins_now=False)
    done = store.finish_change(change, [pattern])
    assert store.find_open_change("east") is None
    assert (done, done.state, done.patterns) == (newest(store), ChangeState.DONE, (pattern,))
    assert done.agreement == Agreement(num_agree=1, num_changed=1, num_failed=1)
    assert done.finished_at is not None and not done.is_inherited


def finish(store: Store, *, num_agree: int = 0) -> PlatformChange:
    """Ends the replay, in which so many facts agree."""
    change = get_open(store)
    facts = [keep(store, 100 + number, platform=B) for number in range(num_agree)]
    store.keep_contrasts(change, [each.id for each in facts])
    for number, fact in enumerate(facts):
        store.settle_replayed(change, number, "agrees", after=fact)
    return store.finish_change(change, [])


def test_a_platform_that_agrees_is_inherited_from_its_predecessor(store: Store, host: Host) -> None:
    assert store.find_predecessor(A.key) is None
    register(store, B)
    # Not as long as nothing is known.
    change = store.find_predecessor(B.key)
    assert change is not None and not change.is_inherited
    # 0.025^(1/13) = 75.3 % is just above three quarters.
    done = finish(store, num_agree=13)
    assert store.find_predecessor(B.key) == done
    assert (done.old_platform_key, done.is_inherited) == (A.key, True)
    assert store.find_predecessor(A.key) is None
    assert store.find_predecessor("0123456789abcdef") is None


def test_too_few_facts_inherit_nothing(store: Store, host: Host) -> None:
    register(store, B)
    assert not finish(store).is_inherited


def test_a_platform_that_changes_back_and_forth_is_compared_once(store: Store, host: Host) -> None:
    keep(store, 10)
    register(store, B)
    done = finish(store, num_agree=13)
    register(store, A)
    # Its curves are there: nothing need be measured.
    assert store.find_open_change("east") is None
    back = newest(store)
    assert (back.state, back.old_platform_key) == (ChangeState.RETURNED, B.key)
    for _ in range(3):
        register(store, B)
        again = newest(store)
        assert again == replace(done, changed_at=again.changed_at)
        assert again.changed_at > done.changed_at
        register(store, A)
        assert newest(store).id == back.id
    assert store.find_open_change("east") is None
    # What was learned on A is never inherited from B, which came after it.
    assert store.find_predecessor(A.key) is None
    predecessor = store.find_predecessor(B.key)
    assert predecessor is not None and predecessor.id == done.id


def test_a_replay_goes_on_where_it_was_interrupted(store: Store, host: Host) -> None:
    facts = [keep(store, rival) for rival in (10, 12)]
    register(store, B)
    change = get_open(store)
    store.keep_contrasts(change, [each.id for each in facts])
    store.settle_replayed(change, 0, "agrees", after=keep(store, 10, platform=B))
    register(store, A)
    assert store.find_open_change("east") is None
    assert newest(store).state is ChangeState.RETURNED
    # A worker that hadn't heard of it ends nothing.
    assert store.finish_change(change, []).state is ChangeState.INTERRUPTED
    register(store, B)
    again = get_open(store)
    assert (again.id, again.num_contrasts) == (change.id, 2)
    assert again.agreement == Agreement(num_agree=1)
    assert [each.outcome for each in store.list_replayed(change.id)] == ["agrees", None]


def test_a_change_before_the_replay_has_ended_is_compared_with_the_same_platform(
    store: Store, host: Host
) -> None:
    keep(store, 10)
    register(store, B)
    first = get_open(store)
    register(store, C)
    # More is known of A than of B.
    second = get_open(store)
    assert (second.old_platform_key, second.new_platform_key) == (A.key, C.key)
    assert second.id != first.id
    store.keep_contrasts(second, [])
    store.finish_change(second, [])
    # Once the replay has ended, the next change is compared with the platform just before it.
    register(store, B)
    assert (newest(store).old_platform_key, newest(store).new_platform_key) == (C.key, B.key)


def test_a_change_without_facts_is_compared_when_it_comes_back_with_some(
    store: Store, host: Host
) -> None:
    register(store, B)
    nothing = finish(store)
    assert (nothing.state, nothing.num_contrasts) == (ChangeState.DONE, 0)
    register(store, A)
    finish_if_open(store)
    keep(store, 10)
    register(store, B)
    again = get_open(store)
    assert (again.id, again.num_contrasts, again.finished_at) == (nothing.id, None, None)


def finish_if_open(store: Store) -> None:
    change = store.find_open_change("east")
    if change is not None:
        store.keep_contrasts(change, [])
        store.finish_change(change, [])


def test_a_host_may_wait_for_an_operator_with_its_new_platform(store: Store, host: Host) -> None:
    waiting = register(store, B, quarantine=True)
    assert (waiting.platform_key, waiting.offered_platform_key) == (A.key, B.key)
    assert waiting.status is HostStatus.QUARANTINED
    assert store.find_platform_changes(["east"]) == {}
    # The old platform is back.
    assert register(store, A, quarantine=True).status is HostStatus.APPROVED
    register(store, B, quarantine=True)
    approved = store.set_status("east", HostStatus.APPROVED)
    assert (approved.platform_key, approved.offered_platform_key) == (B.key, None)
    assert get_open(store).old_platform_key == A.key
    assert store.touch_host("east")[0] is HostStatus.APPROVED
    # Approving it twice changes nothing.
    change = get_open(store)
    store.set_status("east", HostStatus.APPROVED)
    assert get_open(store) == change


def test_who_need_not_wait_any_more_is_let_in(store: Store, host: Host) -> None:
    register(store, B, quarantine=True)
    taken = register(store, B)
    assert (taken.platform_key, taken.offered_platform_key) == (B.key, None)
    assert (taken.status, get_open(store).old_platform_key) == (HostStatus.APPROVED, A.key)


def test_a_split_host_is_compared_with_the_one_before(store: Store, host: Host) -> None:
    register(store, B, quarantine=True)
    store.change_host("east", split_to="west")
    assert store.find_platform_changes(["east"]) == {}
    change = store.find_open_change("west")
    assert change is not None
    assert (change.old_platform_key, change.new_platform_key) == (A.key, B.key)


def test_a_renamed_host_keeps_its_changes(store: Store, host: Host) -> None:
    register(store, B)
    store.rename_host("east", "west")
    change = store.find_open_change("west")
    assert change is not None and change.host == "west"


def test_facts_to_choose_among_are_the_newest_of_each_workload(store: Store, host: Host) -> None:
    oldest = keep(store, 10)
    of_others = [keep(store, rival, batch=1) for rival in (10, 12, 14)]
    wrong = keep(store, 12)
    right = keep(store, 12, ratio=1.1)  # overrules it
    keep(store, 10, platform=B)

    def find(most: int, *, protocol: str = PROTOCOL.key) -> Sequence[str]:
        found = store.find_replayable(A.key, protocol, most_of_workload=most)
        return [each.id for each in found]

    assert wrong.id not in find(9)
    assert find(9) == [right.id, *(each.id for each in of_others[::-1]), oldest.id]
    assert find(1) == [right.id, of_others[-1].id]
    assert find(9, protocol="other") == []


@pytest.fixture
def worker(database_url: str, store: Store, host: Host) -> Iterator[Store]:
    """The store as the worker that holds the host's lease uses it."""
    identity = WorkerIdentity(id="w", description="a worker", device_lock="lock")
    with closing(Store.open(database_url, worker=identity)) as opened:
        opened.take_lease("east")
        yield opened


def test_only_the_worker_that_measures_replays(store: Store, worker: Store, host: Host) -> None:
    register(worker, B)
    change = get_open(store)
    for act in (
        lambda: store.keep_contrasts(change, []),
        lambda: store.begin_replayed(change, 0, "sweep"),
        lambda: store.settle_replayed(change, 0, "failed"),
        lambda: store.finish_change(change, []),
    ):
        with pytest.raises(HostTakenError):
            act()
    assert get_open(store) == change
    worker.keep_contrasts(change, [])
    assert worker.finish_change(change, []).state is ChangeState.DONE


def test_a_schema_from_before_there_were_changes_is_upgraded(database_url: str) -> None:
    with closing(Store.open(database_url)) as store:
        register(store, A)
        keep(store, 10)
        register(store, B)
    downgrade(database_url, "0020")
    schema.upgrade(database_url)
    with closing(Store.open(database_url)) as store:
        assert store.find_platform_changes(["east"]) == {}
        # What it measured on A tells that it was there before.
        register(store, A)
        assert newest(store).state is ChangeState.RETURNED
        assert store.find_replayable(A.key, PROTOCOL.key, most_of_workload=9)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_joined_host_replays_with_the_rights_of_its_role_once_it_is_approved(
    store: Store, database_url: str
) -> None:
    joined = store.join(create_key(store), machine("east", "m1"))
    worker_url = url_of(database_url, joined)
    with closing(Store.open(worker_url, worker=identity("w", machine="m1"))) as worker:
        worker.take_lease("east")
        # Whatever the worker wants, what was approved is the operators' to change.
        assert register(worker, B).status is HostStatus.QUARANTINED
        assert worker.find_open_change("east") is None
        store.set_status("east", HostStatus.APPROVED)
        change = get_open(worker)
        assert (change.old_platform_key, change.new_platform_key) == (platform().key, B.key)
        fact = keep(worker, 10, platform=B)
        worker.keep_contrasts(change, [fact.id])
        worker.begin_replayed(change, 0, fact.sweep_id)
        worker.settle_replayed(change, 0, "agrees", after=fact)
        assert worker.finish_change(change, []).state is ChangeState.DONE
        assert worker.find_predecessor(B.key) == newest(store)
