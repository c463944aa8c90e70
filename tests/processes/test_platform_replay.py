"""After a change of platform, an idle worker measures facts of the platform before again."""

from __future__ import annotations

import dataclasses

import pytest

from profiler_service.analysis.facts import ConfirmedPair
from profiler_service.analysis.platform_change import PLATFORM_CHANGE, Agreement, Pattern
from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.grid import Grid
from profiler_service.kinds import CALLABLE, LINEAR
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.processes.platform_replay import PlatformReplay
from profiler_service.settings import Settings
from profiler_service.storage.platform_change_records import ChangeState, PlatformChange
from profiler_service.storage.store import Sweep
from profiler_service.workload import Workload
from tests.api.conftest import DTYPES, HOST, Worker
from tests.api.curves import PLATFORM, PROTOCOL
from tests.api.test_lhp_facts import growing, pair, race
from tests.processes.test_rechecks import end

NEWER = dataclasses.replace(PLATFORM, libraries=(("blas", "3.15"),))
SETTINGS = Settings(database_url="sqlite:///unused", host=HOST)


def move(
    worker: Worker, platform: Platform = NEWER, protocol: TimingProtocol = PROTOCOL
) -> PlatformReplay:
    """The replay of a worker that has just started on that platform."""
    host = worker.store.register_host(HOST, platform, protocol=protocol, dtypes=DTYPES)
    return PlatformReplay(worker.store, host, worker.enqueue, SETTINGS)


def keep(
    worker: Worker, confirmed: ConfirmedPair, workload: Workload, platform: Platform = PLATFORM
) -> None:
    """Keeps the fact of a race of another workload than `linear`."""
    spec = SweepSpec(
        workload=workload, mode="race", grid=Grid.window((5,) * len(workload.axes), (9,) * 2)
    )
    sweep, _ = worker.store.create_sweep(spec, host=HOST)
    worker.finish(sweep, growing, confirmed=[confirmed], platform=platform)


def finish(worker: Worker, sweep: Sweep, low: float, high: float) -> None:
    """Ends the race with a fact about its pair."""
    [found] = [pair(sweep.spec.grid.last, low, high)]
    worker.finish(sweep, growing, confirmed=[found], platform=NEWER)


def newest(worker: Worker) -> PlatformChange:
    return worker.store.find_platform_changes([HOST])[HOST]


def test_facts_are_raced_again_one_after_the_other_in_the_background(worker: Worker) -> None:
    race(worker, growing, pair((8, 8), 0.94, 0.95), pair((16, 16), 0.84, 0.85))
    replay = move(worker)
    first = replay.consider()
    assert first is not None
    assert worker.handed_in.get_nowait().id == first.id
    # Between two points alone, on the new platform, and nobody waits for it.
    grid = first.spec.grid
    assert (first.spec.mode, grid.first, grid.num_candidates) == ("race", (5, 6), 2)
    [waiting] = worker.store.list_open(HOST)
    assert not waiting.is_awaited
    assert replay.consider() is None  # it is under way
    assert newest(worker).num_contrasts == 2

    # Kept last: (16,16), so it comes first. It is the same; the other isn't.
    assert grid.last == (16, 16)
    finish(worker, first, 0.84, 0.85)
    second = replay.consider()
    assert second is not None and second.spec.grid.last == (8, 8)
    finish(worker, second, 1.02, 1.03)
    assert newest(worker).state is ChangeState.OPEN
    assert replay.consider() is None
    done = newest(worker)
    assert done.state is ChangeState.DONE
    assert done.agreement == Agreement(num_agree=1, num_changed=1)
    # One pair isn't enough to speak of multiples of 8.
    assert done.patterns == ()
    # What was found are facts of the new platform.
    key = (LINEAR.describe().key, NEWER.key, PROTOCOL.key)
    kept = worker.store.find_facts(*key, (5, 6), limit=9)
    assert [fact.pair.rival for fact in kept] == [(16, 16), (8, 8)]
    replayed = worker.store.list_replayed(done.id)
    assert [each.after for each in replayed] == kept
    # Nothing is measured twice, also by the next worker.
    assert replay.consider() is None is move(worker).consider()


def test_many_facts_are_too_many_and_a_pattern_is_found(worker: Worker) -> None:
    rivals = [(16 * number, 16 * number) for number in range(1, 80, 2)]  # 40 pairs
    race(worker, growing, *(pair(rival, 0.94, 0.95) for rival in rivals))
    replay = move(worker)
    count = 0
    while (sweep := replay.consider()) is not None:
        finish(worker, sweep, 1.02, 1.03)
        count += 1
    assert count == PLATFORM_CHANGE.num_contrasts == 30
    done = newest(worker)
    assert done.agreement == Agreement(num_changed=30)
    assert done.patterns == (Pattern(multiple=16, wins_now=False),)
    assert (done.agreement.verdict, done.is_inherited) == ("differ", False)


def test_a_host_that_has_something_to_measure_is_not_idle(worker: Worker) -> None:
    race(worker, growing, pair((8, 8), 0.94, 0.95))
    replay = move(worker)
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=Grid.window((50, 50), (9, 9)))
    sweep, _ = worker.store.create_sweep(spec, host=HOST)
    assert replay.consider() is None
    worker.store.start_sweep(sweep.id)
    assert replay.consider() is None
    worker.finish(sweep, growing, platform=NEWER)
    assert replay.consider() is not None


def test_the_next_worker_goes_on_where_one_was_killed(worker: Worker) -> None:
    race(worker, growing, pair((8, 8), 0.94, 0.95), pair((16, 16), 0.84, 0.85))
    under_way = move(worker).consider()
    assert under_way is not None
    # Its race is still open, and the engine resumes that; no second one is started.
    replay = move(worker)
    assert replay.consider() is None
    finish(worker, under_way, 0.84, 0.85)
    second = replay.consider()
    assert second is not None and second.spec.grid.last == (8, 8)
    assert newest(worker).agreement == Agreement(num_agree=1)


def test_a_race_that_was_started_and_not_noted_is_not_started_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    race(worker, growing, pair((8, 8), 0.94, 0.95))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    killed = move(worker)
    with monkeypatch.context() as patched:
        patched.setattr(worker.store, "begin_replayed", die)
        with pytest.raises(KeyboardInterrupt):
            killed.consider()
    lost = worker.handed_in.get_nowait()
    replay = move(worker)
    assert replay.consider() is None
    finish(worker, lost, 0.94, 0.95)
    # Its fact counts.
    assert replay.consider() is None
    assert newest(worker).agreement == Agreement(num_agree=1)
    assert worker.handed_in.empty()


def test_a_pair_that_was_asked_about_meanwhile_is_not_raced(worker: Worker) -> None:
    race(worker, growing, pair((8, 8), 0.94, 0.95))
    replay = move(worker)
    spec = SweepSpec(workload=LINEAR.describe(), mode="race", grid=Grid.window((5, 6), (32, 32)))
    sweep, _ = worker.store.create_sweep(spec, host=HOST)
    worker.finish(sweep, growing, confirmed=[pair((8, 8), 0.90, 0.91)], platform=NEWER)
    assert replay.consider() is None
    assert newest(worker).agreement == Agreement(num_changed=1)
    assert worker.handed_in.empty()


@pytest.mark.parametrize("how", ["fails", "is cancelled", "tells nothing"])
def test_a_pair_that_can_t_be_measured_again_is_not_tried_for_ever(
    worker: Worker, how: str
) -> None:
    race(worker, growing, pair((8, 8), 0.94, 0.95))
    replay = move(worker)
    sweep = replay.consider()
    assert sweep is not None
    if how == "fails":
        worker.store.fail_sweep(sweep.id, "the device is broken")
    elif how == "is cancelled":
        worker.store.request_cancel(sweep.id)
    else:
        end(worker.store, sweep)
    assert replay.consider() is None
    done = newest(worker)
    assert (done.state, done.agreement) == (ChangeState.DONE, Agreement(num_failed=1))
    [replayed] = worker.store.list_replayed(done.id)
    reasons = {
        "fails": "the device is broken",
        "is cancelled": "its race was cancelled",
        "tells nothing": "its race confirmed nothing",
    }
    assert (replayed.outcome, replayed.reason) == ("failed", reasons[how])
    assert move(worker).consider() is None


def test_a_change_without_facts_ends_at_once(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    replay = move(worker)
    assert replay.consider() is None
    done = newest(worker)
    assert (done.state, done.num_contrasts) == (ChangeState.DONE, 0)
    assert caplog.messages[-1] == (
        "the platform has changed: blas 3.14 → 3.15: what that changed isn't known, as there is no"
        " fact to measure again"
    )


def test_what_the_host_can_t_measure_any_more_says_why(worker: Worker) -> None:
    large = dataclasses.replace(pair((8, 8), 0.94, 0.95), dims=(5, 6), rival=(1 << 19, 1 << 19))
    float16 = LINEAR.describe({"dtype": "float16"})  # the host multiplies float32 and bfloat16
    gone = Workload(kind="gone", params=(), axes=("a", "b"))
    # As a version might have stored it that knew no dtypes.
    older = Workload(kind="linear", params=(("batch", 16),), axes=("out_features", "in_features"))
    race(worker, growing, large)
    keep(worker, pair((8, 8), 0.94, 0.95), float16)
    keep(worker, pair((8, 8), 0.94, 0.95), gone)
    keep(worker, pair((8, 8), 0.94, 0.95), older)
    assert move(worker).consider() is None
    done = newest(worker)
    assert (done.state, done.agreement) == (ChangeState.DONE, Agreement(num_failed=4))
    reasons = {
        each.before.workload.key: each.reason for each in worker.store.list_replayed(done.id)
    }
    assert reasons[gone.key] == "there is no workload 'gone'"
    assert reasons[older.key] == "internal error: KeyError('dtype')"
    assert "doesn't multiply float16" in reasons[float16.key]
    assert "MiB are measured" in reasons[LINEAR.describe().key]


def test_users_own_code_is_left_to_their_command(worker: Worker) -> None:
    own = Workload(kind=CALLABLE.name, params=(("function", "mine:build"),), axes=("a", "b"))
    keep(worker, pair((8, 8), 0.94, 0.95), own)
    assert move(worker).consider() is None
    assert newest(worker).num_contrasts == 0


def test_facts_of_another_timing_are_never_compared(worker: Worker) -> None:
    race(worker, growing, pair((8, 8), 0.94, 0.95))
    flushed = dataclasses.replace(PROTOCOL, cache="flushed")
    # Both at once: no fact was timed as the host times now.
    assert move(worker, NEWER, flushed).consider() is None
    assert newest(worker).num_contrasts == 0


def test_a_timing_that_changes_during_the_replay_ends_it(worker: Worker) -> None:
    race(worker, growing, pair((8, 8), 0.94, 0.95))
    sweep = move(worker).consider()
    assert sweep is not None
    worker.store.fail_sweep(sweep.id, "its samples were timed differently")
    flushed = dataclasses.replace(PROTOCOL, cache="flushed")
    assert move(worker, NEWER, flushed).consider() is None
    done = newest(worker)
    assert done.agreement == Agreement(num_failed=1)
    [replayed] = worker.store.list_replayed(done.id)
    assert replayed.reason == f"timing has changed from {PROTOCOL.key} to {flushed.key}"


def test_a_platform_that_is_back_measures_nothing_again(worker: Worker) -> None:
    race(worker, growing, pair((8, 8), 0.94, 0.95))
    sweep = move(worker).consider()
    assert sweep is not None
    # Back and forth, while the race is open: the engine ends it, as its platform is gone.
    assert move(worker, PLATFORM).consider() is None
    worker.store.fail_sweep(sweep.id, "the platform has changed")
    assert newest(worker).state is ChangeState.RETURNED
    replay = move(worker)
    assert replay.consider() is None
    done = newest(worker)
    # Its one race failed, and isn't tried again.
    assert (done.state, done.agreement) == (ChangeState.DONE, Agreement(num_failed=1))
    assert worker.store.get_sweep(sweep.id).state is SweepState.FAILED
