"""Scores of predictions, on every database that the store runs on."""

from __future__ import annotations

import math
from dataclasses import replace

from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.latency_model.calibration import Score
from profiler_service.storage.model_records import ScoredPair
from profiler_service.storage.store import Host, Store
from tests.storage.examples import PROTOCOL, create_platform
from tests.storage.learned import KEY, KEY_TAIL, finish


def scored(
    measured: float, *, half_width: float | None = 0.02, distance: float = 0.5
) -> ScoredPair:
    return ScoredPair(
        workload_key=KEY.workload.key,
        dims=(8,),
        rival=(16,),
        score=Score(
            predicted=-0.05,
            deviation=0.01,
            half_width=half_width,
            distance=distance,
            measured=measured,
        ),
    )


def list_scores(store: Store, kind: str = "matmul", *, limit: int = 9) -> list[ScoredPair]:
    return store.list_scores(kind, *KEY_TAIL, limit=limit)


def test_scores_come_back_in_the_order_in_which_they_were_kept(store: Store, host: Host) -> None:
    given = [scored(-0.04), scored(0.01, half_width=None), scored(0.02, distance=math.inf)]
    for number, each in enumerate(given):
        assert store.add_score(finish(store, start=1 + 10 * number), KEY, each)
    found = list_scores(store)
    assert [replace(each, scored_at=None) for each in found] == given
    times = [each.scored_at for each in found]
    assert None not in times
    assert times == sorted(times, key=str)
    assert [each.score.measured for each in list_scores(store, limit=2)] == [0.01, 0.02]


def test_a_sweep_has_one_score(store: Store, host: Host) -> None:
    sweep_id = finish(store)
    assert store.add_score(sweep_id, KEY, scored(-0.04))
    assert not store.add_score(sweep_id, KEY, scored(0.9))
    assert [each.score.measured for each in list_scores(store)] == [-0.04]


def test_scores_are_pooled_by_kind_platform_and_protocol(store: Store, host: Host) -> None:
    """Workloads of one kind share them; another kind or platform has its own."""
    upgraded = create_platform(threads=2)
    store.register_host("west", upgraded, protocol=PROTOCOL, dtypes=[])
    keys = [
        KEY,
        replace(KEY, workload=MATMUL.describe({"batch": 3})),
        replace(KEY, workload=LINEAR.describe()),
        replace(KEY, platform_key=upgraded.key),
        replace(KEY, protocol_key="cuda_events-warm-v1"),
    ]
    for number, key in enumerate(keys):
        store.add_score(finish(store, start=1 + 10 * number), key, scored(number / 100))
    assert [each.score.measured for each in list_scores(store)] == [0.0, 0.01]
    assert [each.workload_key for each in list_scores(store)] == [
        keys[0].workload.key,
        keys[1].workload.key,
    ]
    assert [each.score.measured for each in list_scores(store, "linear")] == [0.02]
    other = store.list_scores("matmul", upgraded.key, KEY.protocol_key, limit=9)
    assert [each.score.measured for each in other] == [0.03]
