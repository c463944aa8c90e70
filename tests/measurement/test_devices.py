from __future__ import annotations

import time

import pytest
import torch

from profiler_service.errors import MeasurementFailedError
from profiler_service.measurement.devices import (
    CpuDevice,
    open_device,
)


def test_a_cpu_s_cache_is_not_flushed() -> None:
    with pytest.raises(MeasurementFailedError, match="on a GPU only") as caught:
        open_device("cpu", cpus=[0], cache="flushed")
    assert "LHP_CACHE=warm" in caught.value.hint


def test_a_cache_is_warm_or_flushed() -> None:
    with pytest.raises(MeasurementFailedError, match="no cache mode 'cold'") as caught:
        open_device("cpu", cpus=[0], cache="cold")
    assert "warm or flushed" in caught.value.hint


def test_a_sample_without_a_processor_is_disturbed_and_says_for_how_long() -> None:
    # Sleeping is no work: nearly all of the 5 ms is lost, and 1 % of the warm-up's work is allowed.
    device = CpuDevice(cpus=[0], denormals_flushed=True)
    sample = device.sample(lambda: time.sleep(0.005), calls=2, warmup_calls=1)
    assert (sample.num_discarded, sample.unstable) == (3, True)
    assert 0.0045 < sample.lost_s <= sample.latency_s


def test_a_sample_of_a_cpu_that_works_loses_next_to_nothing() -> None:
    device = CpuDevice(cpus=[0], denormals_flushed=True)
    x = torch.ones(64, 64)
    samples = [device.sample(lambda: x @ x, calls=1, warmup_calls=8) for _ in range(50)][1:]
    # On a busy machine some lose more than 1 % in spite of the retakes, but not most of them.
    assert sum(sample.unstable for sample in samples) < 25
    assert all(s.lost_s <= 0.01 * s.latency_s + 1e-5 for s in samples if not s.unstable)
