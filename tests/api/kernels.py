"""Comparisons of kernels on a device of which the truth is known."""

from __future__ import annotations

import numpy as np

from profiler_service.kinds.kernels import Kernel
from profiler_service.plan.create import create_planner
from profiler_service.plan.spec import SweepState
from profiler_service.storage.store import Store, Sweep
from tests.api.conftest import DTYPES
from tests.api.curves import PLATFORM, PROTOCOL
from tests.synthetic import SyntheticDevice

BACKENDS = {
    "dense": DTYPES,
    "packed": DTYPES,
    "compiled": DTYPES,
    "csr": ("float32",),
    "packed_conv2d": DTYPES,
    "compiled_layer": DTYPES,
    "math": DTYPES,
    "fused": DTYPES,
}
# 1 ms, 350 µs and 380 µs dense; the sparse kernel takes 5 µs and 20 µs for each percent of
# nonzeros. Below 1 ms from 50.25 % zeros on, below 350 µs from 82.75 %, below 380 from 81.25 %.
LATENCY_S = np.r_[1000e-6, 350e-6, 380e-6, 5e-6 + 20e-6 * np.arange(1, 101)]
CSR_POINTS = frozenset(Kernel("csr", percent).point for percent in range(100))


def measure(
    store: Store,
    sweep: Sweep,
    *,
    failing: frozenset[int] = frozenset(),
    ended_as: SweepState = SweepState.DONE,
    most_batches: int | None = None,
    has_lower_ends: bool = True,
) -> str:
    """Carries the sweep out on a device of which LATENCY_S is the truth; its curve's id.

    Without lower ends, its intervals are as earlier versions kept some.
    """
    device = SyntheticDevice(latency_s=LATENCY_S, noise=0.01, failing=failing)
    planner = create_planner(sweep.spec)
    number = 0
    while number != most_batches and (batch := planner.next_batch()) is not None:
        samples = device.measure(batch)
        planner.record(samples)
        store.commit_batch(sweep.id, number, samples, planner.progress())
        number += 1
    curve = planner.build_curve(PLATFORM, PROTOCOL, store.last_measured_at(sweep.id))
    if not has_lower_ends:
        curve.answers.ratio_low[:] = 0.0
    curve_id = store.finish_sweep(sweep.id, curve, state=ended_as)
    assert curve_id is not None
    return curve_id
