"""Ended sweeps and the key of their model, for the tests of what hosts learn."""

from __future__ import annotations

from profiler_service.analysis.samples import Platform
from profiler_service.kinds import MATMUL
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepState
from profiler_service.storage.model_records import ModelKey
from profiler_service.storage.store import Store
from tests.storage.examples import (
    PROGRESS,
    PROTOCOL,
    create_curve,
    create_platform,
    create_samples,
    create_spec,
)

KEY = ModelKey(
    workload=MATMUL.describe(), platform_key=create_platform().key, protocol_key=PROTOCOL.key
)
KEY_TAIL = (KEY.platform_key, KEY.protocol_key)


def finish(
    store: Store,
    *,
    start: int = 1,
    mode: Mode = "grid",
    state: SweepState = SweepState.DONE,
    platform: Platform | None = None,
) -> str:
    """The id of a sweep that has ended, with one batch and a curve."""
    sweep, new = store.create_sweep(create_spec(start=start, mode=mode), host="east")
    assert new
    store.commit_batch(sweep.id, 0, create_samples(20, seed=start), PROGRESS)
    store.finish_sweep(sweep.id, create_curve(platform=platform), state=state)
    return sweep.id
