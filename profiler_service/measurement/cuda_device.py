"""The CUDA device: describes it as a Platform, and times calls on it. Runs only in the child."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch

from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.errors import MeasurementFailedError
from profiler_service.measurement.copies import Copies
from profiler_service.measurement.device_clock import ClockWatch
from profiler_service.measurement.event_timer import EventStopwatch, Work
from profiler_service.measurement.gpu_probe import open_gpu_probe
from profiler_service.measurement.graph_pool import GraphPool
from profiler_service.measurement.kernel_variables import kernel_variables
from profiler_service.measurement.loaded_libraries import find_cublas_version, find_loaded_files
from profiler_service.measurement.operations import Call
from profiler_service.measurement.platform_probe import read_nvidia_driver
from profiler_service.measurement.queue_timer import QueueTimer
from profiler_service.measurement.timer import PROTOCOL_VERSION, Sample
from profiler_service.measurement.torch_settings import changed_switches, float32_precision

_GIB: Final = 1 << 30
FLUSHED_CACHES: Final = 5
"""A flush reads so many times the size of the L2 cache. The cache doesn't evict the least recently
used line first, so reading its size once would leave some operands in it."""


class CudaDevice:
    """The first CUDA device, timed as `QueueTimer` does.

    With a warm cache, all calls of a sample have the same operands. With a flushed one, the cache
    is read full of other data before each pass, and every call of a pass has operands of its own.
    """

    name = "cuda"

    def __init__(self, *, cache: str) -> None:
        self.protocol = TimingProtocol(timer="cuda_slope", cache=cache, version=PROTOCOL_VERSION)
        properties = torch.cuda.get_device_properties(0)
        self.gpu_uuid: str | None = str(properties.uuid)
        self._side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graphs = GraphPool(create_pool=torch.cuda.graph_pool_handle, capture=self._capture)
        self._timer = QueueTimer(
            EventStopwatch(
                create_mark=lambda: torch.cuda.Event(enable_timing=True),  # type: ignore[no-untyped-call]
                sleep=torch.cuda._sleep,
                is_throttled=open_gpu_probe(self.gpu_uuid).is_throttled,
                clock_s=time.perf_counter,
                flush=create_flush(properties.L2_cache_size, "cuda")
                if cache == "flushed"
                else None,
            ),
            watch=ClockWatch(time.sleep),
            graphs=self._graphs,
            stand_aside=self._stand_aside,
            clock_s=time.perf_counter,
        )

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
            "multiprocessors": str(properties.multi_processor_count),  # fewer in a part of a GPU
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
        copies: Copies | None = None,
        is_captured: bool = False,
    ) -> Sample:
        """One sample of `call` by CUDA events. A flushed cache needs `copies`."""
        return self._timer.sample(
            call,
            calls=calls,
            warmup_calls=max(1, warmup_calls),
            check_stop=check_stop,
            copies=copies,
            is_captured=is_captured,
        )

    @contextlib.contextmanager
    def _stand_aside(self) -> Iterator[None]:
        """Queues on the stream of captures: before one, libraries must be initialised there."""
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            yield
        torch.cuda.current_stream().wait_stream(self._side)

    def _capture(self, work: Work, pool: Any) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=self._side):
            work()
        return graph

    def is_usable(self) -> bool:
        """Whether the CUDA context and torch's allocator survived.

        An illegal access, for example, ends the context for good. After a failed capture, torch
        can't give back some memory, and in some versions its allocator refuses every later
        capture (Source: pytorch/pytorch#180395, #190348).
        """
        if self._graphs.has_failed:
            return False
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return False
        return True

    def release_memory(self) -> None:
        """Gives back to the device what torch's caching allocator holds and nothing uses."""
        self._graphs.release()
        torch.cuda.empty_cache()


def create_flush(cache_bytes: int, device: str) -> Work:
    """A function that queues a read of FLUSHED_CACHES times the cache's size, of memory of its own.

    It reads, because written lines would have to be stored later, while a call is timed.

    Raises MeasurementFailedError if the cache's size isn't known.
    """
    if cache_bytes <= 0:
        raise MeasurementFailedError(
            "this GPU doesn't show the size of its L2 cache, so it can't be flushed",
            hint="set LHP_CACHE=warm",
        )
    count = -(-FLUSHED_CACHES * cache_bytes // torch.float32.itemsize)
    return torch.zeros(count, dtype=torch.float32, device=device).sum
