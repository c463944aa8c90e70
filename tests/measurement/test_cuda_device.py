from __future__ import annotations

import pytest
import torch

from profiler_service.errors import MeasurementFailedError
from profiler_service.measurement.cuda_device import create_flush, delay_cuda


def test_a_flush_writes_twice_the_cache() -> None:
    written = create_flush(1000, "cpu")()
    assert isinstance(written, torch.Tensor)
    assert written.nbytes == 2000
    assert not written.any()


def test_a_cache_of_unknown_size_is_not_flushed() -> None:
    with pytest.raises(MeasurementFailedError, match="size of its L2 cache") as caught:
        create_flush(0, "cpu")
    assert "LHP_CACHE=warm" in caught.value.hint


def test_delay_is_long_enough_on_the_fastest_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[int] = []
    monkeypatch.setattr(torch.cuda, "_sleep", slept.append)
    delay_cuda(50e-6)
    assert slept == [150_000]  # 50 µs at 3 GHz; 75 µs at 2 GHz
