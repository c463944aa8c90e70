from __future__ import annotations

import pytest
import torch

from profiler_service.errors import MeasurementFailedError
from profiler_service.measurement.copies import Copies
from profiler_service.measurement.cuda_device import CudaDevice, create_flush


def test_a_flush_reads_five_times_the_cache() -> None:
    flush = create_flush(1000, "cpu")
    memory: torch.Tensor = flush.__self__  # type: ignore[attr-defined]
    assert memory.nbytes == 5000
    read = flush()
    assert isinstance(read, torch.Tensor)
    assert read.shape == ()


def test_a_cache_of_unknown_size_is_not_flushed() -> None:
    with pytest.raises(MeasurementFailedError, match="size of its L2 cache") as caught:
        create_flush(0, "cpu")
    assert "LHP_CACHE=warm" in caught.value.hint


@pytest.mark.gpu
@pytest.mark.parametrize("cache", ["warm", "flushed"])
@pytest.mark.parametrize("is_captured", [False, True])
def test_products_are_timed_on_a_real_gpu(cache: str, is_captured: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = CudaDevice(cache=cache)

    def make() -> torch.Tensor:
        return torch.randn(1024, 1024, device="cuda")

    x = make()
    copies = Copies(make=lambda: (lambda weight: lambda: x @ weight)(make()), size_bytes=1 << 22)
    samples = [
        device.sample(
            lambda: x @ x, calls=1, warmup_calls=1, copies=copies, is_captured=is_captured
        )
        for _ in range(20)
    ]
    # 2 · 1024³ operations: 2 ms at 1 TFLOP/s, 2 µs at 1,000.
    assert all(2e-6 < sample.latency_s < 2e-3 for sample in samples)
    assert all(1e8 < sample.clock_hz < 3e9 for sample in samples)
    assert sum(sample.unstable for sample in samples) < 5
