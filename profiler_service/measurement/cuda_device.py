"""The CUDA device: describes it as a Platform, and times calls on it. Runs only in the child."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Final

import torch

from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.errors import MeasurementFailedError
from profiler_service.measurement.event_timer import EventStopwatch, take_lasting_sample
from profiler_service.measurement.gpu_probe import open_gpu_probe
from profiler_service.measurement.kernel_variables import kernel_variables
from profiler_service.measurement.loaded_libraries import find_cublas_version, find_loaded_files
from profiler_service.measurement.operations import Call
from profiler_service.measurement.platform_probe import read_nvidia_driver
from profiler_service.measurement.timer import PROTOCOL_VERSION, Reading, Sample, UsualClock
from profiler_service.measurement.torch_settings import changed_switches, float32_precision

_GIB: Final = 1 << 30
_MAX_CUDA_CLOCK_HZ: Final = 3e9
"""No GPU has a faster clock. On a slower one, a delay given in cycles lasts longer."""


class CudaDevice:
    """The first CUDA device, timed by CUDA graphs.

    Every visit captures its calls in one graph and times replays of it between two CUDA events.
    A small product takes less time than its launch. Timed one by one, all small products would seem
    equally fast. Large products are timed in the same way, because the latencies of one curve must
    be comparable. The replays are queued behind a delay, so that the device never waits for the
    host. They are repeated until they last `min_sample_s`.

    With a flushed cache the graph has one call. Each replay is timed by itself, after a write of
    twice the L2 cache, so the latency includes the start of a graph.
    """

    name = "cuda"
    min_sample_s = 50e-6  # events resolve 0.5 µs: 1 % of it

    def __init__(self, *, cache: str) -> None:
        self.protocol = TimingProtocol(timer="cuda_graph", cache=cache, version=PROTOCOL_VERSION)
        properties = torch.cuda.get_device_properties(0)
        self.gpu_uuid: str | None = str(properties.uuid)
        probe = open_gpu_probe(self.gpu_uuid)
        self._stopwatch = EventStopwatch(
            start=torch.cuda.Event(enable_timing=True),  # type: ignore[no-untyped-call]
            end=torch.cuda.Event(enable_timing=True),  # type: ignore[no-untyped-call]
            delay=delay_cuda,
            is_throttled=probe.is_throttled,
            read_clock_hz=probe.read_clock_hz,
            clock_s=time.perf_counter,
            flush=create_flush(properties.L2_cache_size, "cuda") if cache == "flushed" else None,
        )
        self._usual_clock = UsualClock()
        self._side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._capture_failed = False

    def platform(self) -> Platform:
        """The device and its memory, the driver, torch, CUDA, cuBLAS and cuDNN."""
        properties = torch.cuda.get_device_properties(0)
        libraries = {
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
            "cublas": find_cublas_version(find_loaded_files()) or f"of CUDA {torch.version.cuda}",
        }
        flags = {
            "cudnn_tf32": str(torch.backends.cudnn.allow_tf32).lower(),
            "float32_matmul_precision": float32_precision(),
            "compute_capability": f"{properties.major}.{properties.minor}",
            **changed_switches(),
            **kernel_variables(os.environ),
        }
        return Platform(
            device="cuda",
            device_model=properties.name,
            memory_bytes=properties.total_memory // _GIB * _GIB,
            driver=read_nvidia_driver(),
            framework=f"torch {torch.__version__}",
            libraries=tuple(sorted(libraries.items())),
            threads=1,
            cpus=1,
            flags=tuple(sorted(flags.items())),
        )

    def sample(
        self,
        call: Call,
        *,
        calls: int,
        warmup_calls: int,
        check_stop: Callable[[], None] = lambda: None,
    ) -> Sample:
        """One sample of `call` by CUDA events around replays of a graph of it."""
        # Before a capture, libraries must be initialised on a stream other than the default one.
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            for _ in range(max(1, warmup_calls)):
                call()
        torch.cuda.current_stream().wait_stream(self._side)
        is_flushed = self.protocol.cache == "flushed"
        graph = self._capture(call, calls=1 if is_flushed else calls)
        graph.replay()  # the first one also uploads the graph
        replays = calls if is_flushed else 1

        def read(repeats: int) -> Reading:
            check_stop()
            return self._stopwatch.read(graph.replay, repeats * replays)

        return take_lasting_sample(
            read,
            calls=calls,
            min_sample_s=self.min_sample_s,
            usual_clock=self._usual_clock,
        )

    def _capture(self, call: Call, *, calls: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        self._capture_failed = True
        with torch.cuda.graph(graph, stream=self._side):
            for _ in range(calls):
                call()
        self._capture_failed = False
        return graph

    def is_usable(self) -> bool:
        """Whether the CUDA context and torch's allocator survived.

        An illegal access, for example, ends the context for good. After a failed capture, torch
        can't give back some memory, and in some versions its allocator refuses every later
        capture (Source: pytorch/pytorch#180395, #190348).
        """
        if self._capture_failed:
            return False
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return False
        return True

    def release_memory(self) -> None:
        """Gives back to the device what torch's caching allocator holds and nothing uses."""
        torch.cuda.empty_cache()


def create_flush(cache_bytes: int, device: str) -> Callable[[], object]:
    """A function that queues a write of twice the cache's size, into memory of its own.

    Raises MeasurementFailedError if the cache's size isn't known.
    """
    if cache_bytes <= 0:
        raise MeasurementFailedError(
            "this GPU doesn't show the size of its L2 cache, so it can't be flushed",
            hint="set LHP_CACHE=warm",
        )
    return torch.empty(2 * cache_bytes, dtype=torch.uint8, device=device).zero_


def delay_cuda(seconds: float) -> None:
    """Queues a kernel that does nothing for `seconds`, or up to about three times as long."""
    torch.cuda._sleep(math.ceil(seconds * _MAX_CUDA_CLOCK_HZ))  # type: ignore[no-untyped-call]
