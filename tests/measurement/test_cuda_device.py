from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from unittest.mock import Mock, create_autospec

import pytest
import torch

from profiler_service.errors import MeasurementFailedError
from profiler_service.measurement import cuda_device
from profiler_service.measurement.copies import Copies
from profiler_service.measurement.cuda_device import CudaDevice, create_flush
from profiler_service.measurement.event_timer import Work
from tests.measurement.fake_gpu import FakeGpu


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


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """What `CudaDevice` uses of torch.cuda, with the signatures of this torch, on a made-up GPU."""
    gpu, graph_type = FakeGpu(clock_hz=1.5e9), torch.cuda.CUDAGraph

    def graph(captured: Mock, *, pool: object, stream: object) -> AbstractContextManager[None]:
        gpu.log.append("capture")
        captured.replay.side_effect = gpu.work(60e-6, name="graph")
        return nullcontext()

    properties = Mock(uuid="1-2", L2_cache_size=1 << 20, multi_processor_count=132)
    fakes: dict[str, object] = {
        "get_device_properties": create_autospec(
            torch.cuda.get_device_properties, return_value=properties
        ),
        "Event": create_autospec(
            torch.cuda.Event, side_effect=lambda enable_timing: gpu.create_mark()
        ),
        "_sleep": create_autospec(torch.cuda._sleep, side_effect=gpu.sleep),
        "Stream": create_autospec(torch.cuda.Stream),
        "stream": create_autospec(torch.cuda.stream, side_effect=lambda stream: nullcontext()),
        "current_stream": create_autospec(torch.cuda.current_stream),
        "graph_pool_handle": create_autospec(torch.cuda.graph_pool_handle),
        "CUDAGraph": create_autospec(
            graph_type, side_effect=lambda: create_autospec(graph_type, instance=True)
        ),
        "graph": create_autospec(torch.cuda.graph, side_effect=graph),
    }
    fakes |= {
        name: create_autospec(getattr(torch.cuda, name)) for name in ("synchronize", "empty_cache")
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it raises ImportError
    # The host's clock is the made-up one.
    monkeypatch.setattr(cuda_device, "time", Mock(perf_counter=lambda: gpu.host_s))
    return gpu


@pytest.mark.parametrize("is_captured", [False, True])
def test_torch_is_called_as_it_can_be_called(gpu: FakeGpu, is_captured: bool) -> None:
    device = CudaDevice(cache="warm")
    assert device.protocol.key == "cuda_slope-warm-v3"
    sample = device.sample(
        gpu.work(60e-6, name="call"), calls=1, warmup_calls=0, is_captured=is_captured
    )
    assert sample.latency_s == pytest.approx(60e-6)
    assert sample.clock_hz == pytest.approx(1.5e9)
    # One untimed call; timed ones, or graphs, one of which is untimed.
    assert gpu.log.count("call") == (2 if is_captured else 1 + 4)
    assert gpu.log.count("graph") == (1 + 4 if is_captured else 0)


def test_with_a_flushed_cache_copies_are_timed_after_a_flush(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(cache_bytes: int, device: str) -> Work:
        assert (cache_bytes, device) == (1 << 20, "cuda")
        return gpu.work(70e-6, name="flush")

    monkeypatch.setattr(cuda_device, "create_flush", create)
    device = CudaDevice(cache="flushed")
    assert device.protocol.key == "cuda_slope-flushed-v3"
    copy = gpu.work(60e-6, name="copy")
    sample = device.sample(
        gpu.work(60e-6, name="call"),
        calls=1,
        warmup_calls=1,
        copies=Copies(make=lambda: copy, size_bytes=1),
    )
    assert sample.latency_s == pytest.approx(60e-6)
    # An untimed call, and passes of one, of one, and of two.
    own = [name for name in gpu.log if name in ("flush", "call", "copy")]
    assert own == ["call", *["flush", "call"] * 3, "copy"]


def test_after_a_failed_capture_the_process_is_of_no_more_use(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = CudaDevice(cache="warm")
    device.sample(gpu.work(60e-6), calls=1, warmup_calls=1, is_captured=True)
    device.release_memory()
    assert device.is_usable()
    error = RuntimeError("operation not permitted when stream is capturing")
    monkeypatch.setattr(torch.cuda, "graph", Mock(side_effect=error))
    with pytest.raises(RuntimeError, match="not permitted"):
        device.sample(gpu.work(60e-6), calls=1, warmup_calls=1, is_captured=True)
    assert not device.is_usable()


def test_a_lost_device_is_of_no_more_use(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    device = CudaDevice(cache="warm")
    lost = Mock(side_effect=RuntimeError("CUDA error: an illegal memory access"))
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    assert not device.is_usable()


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
