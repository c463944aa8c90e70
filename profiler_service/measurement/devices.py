"""Devices: describes a device as a Platform, and times calls on it. Runs only in the child.

Knows neither which points are measured nor where samples go.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Collection
from typing import Final, Protocol

import torch

from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.errors import MeasurementFailedError
from profiler_service.measurement.copies import Copies
from profiler_service.measurement.cuda_device import CudaDevice
from profiler_service.measurement.kernel_variables import kernel_variables
from profiler_service.measurement.loaded_libraries import (
    find_allocators,
    find_loaded_files,
    find_openblas_version,
)
from profiler_service.measurement.lost_time import open_lost_clock
from profiler_service.measurement.operations import Call
from profiler_service.measurement.platform_probe import (
    cpu_model,
    host_memory_flags,
    parse_libraries,
    read_cpuinfo,
)
from profiler_service.measurement.timer import (
    PROTOCOL_VERSION,
    CpuStopwatch,
    Reading,
    Sample,
    allowed_lost_s,
    take_sample,
)
from profiler_service.measurement.topology import describe_cores
from profiler_service.measurement.torch_settings import changed_switches, float32_precision

_GIB: Final = 1 << 30
_PARALLEL_ELEMENTS: Final = 1 << 20
"""An operation on so many elements is done by all threads."""
# Instruction sets that decide which kernels the libraries use, as /proc/cpuinfo names them.
_KERNEL_ISAS: Final = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimd", "bf16", "i8mm", "sve", "sve2"),
)


class Device(Protocol):
    """A device that can be measured on."""

    name: str
    """The name that torch uses."""
    protocol: TimingProtocol
    gpu_uuid: str | None
    """Which GPU it is, as NVML names it, without `GPU-`; None for a CPU."""

    def platform(self) -> Platform:
        """Everything that must be equal for latencies to be comparable."""

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
        """One sample of `call` after `warmup_calls` untimed calls.

        Between calls that aren't timed together, `check_stop` may raise, which ends the visit. Only
        a GPU uses the others: `copies` of the call, for a flushed cache, and whether a call is
        captured before it is timed.
        """

    def is_usable(self) -> bool:
        """Whether the device still works in this process after an error."""

    def release_memory(self) -> None:
        """Returns to the device the memory that torch keeps for later use."""


def open_device(name: str, *, cpus: Collection[int], cache: str = "warm") -> Device:
    """The device `name`: `cpu`, `cuda`, or `auto` (CUDA if there is any).

    `cpus` are the processors that this process is pinned to. torch gets one thread for each.
    `cache` is that of `TimingProtocol`.

    Sets torch's process-wide state: threads, denormals.

    Raises MeasurementFailedError if there is no such device, or its cache can't be flushed.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise MeasurementFailedError(
            f"there is no device {name!r}", hint="set LHP_DEVICE to auto, cpu or cuda"
        )
    if name == "cuda" and not torch.cuda.is_available():
        raise MeasurementFailedError(
            f"torch {torch.__version__} finds no CUDA device here",
            hint="check the driver with nvidia-smi and that torch is a CUDA build,"
            " or set LHP_DEVICE=cpu",
        )
    if cache not in ("warm", "flushed"):
        raise MeasurementFailedError(
            f"there is no cache mode {cache!r}", hint="set LHP_CACHE to warm or flushed"
        )
    on_cpu = name == "cpu" or not torch.cuda.is_available()
    if on_cpu and cache == "flushed":
        # Writing twice the size of the last cache (up to a gigabyte) takes far longer than most
        # products.
        raise MeasurementFailedError(
            "the cache can be flushed on a GPU only, and this measures on the CPU",
            hint="set LHP_CACHE=warm",
        )
    torch.set_num_threads(len(cpus))
    torch.set_num_interop_threads(1)
    denormals_flushed = torch.set_flush_denormal(True)
    if on_cpu:
        return CpuDevice(cpus=cpus, denormals_flushed=denormals_flushed)
    return CudaDevice(cache=cache)


class CpuDevice:
    """The processors that this process is pinned to."""

    name = "cpu"
    protocol = TimingProtocol(timer="perf_counter", version=PROTOCOL_VERSION)
    gpu_uuid: str | None = None

    def __init__(self, *, cpus: Collection[int], denormals_flushed: bool) -> None:
        self._cpus = cpus
        self._denormals_flushed = denormals_flushed
        if len(cpus) > 1:
            torch.zeros(_PARALLEL_ELEMENTS).add_(1)  # starts torch's threads
        self._stopwatch = CpuStopwatch(
            clock_ns=time.perf_counter_ns, lost_ns=open_lost_clock(len(cpus))
        )
        self._usual_s = math.inf
        """How long one of the calls made last took, without lost time."""

    def platform(self) -> Platform:
        """This machine's processors and memory, the kernel, torch and its libraries."""
        cpuinfo = read_cpuinfo()
        isas = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
        files = find_loaded_files()
        libraries = parse_libraries(torch.__config__.show())
        if libraries.get("blas") == "open":  # torch's text doesn't tell its version
            libraries["openblas"] = find_openblas_version(files) or "unknown"
        variables = kernel_variables(os.environ)
        flags = {
            "flush_denormal": str(self._denormals_flushed).lower(),
            "float32_matmul_precision": float32_precision(),
            "isa": " ".join(isa for isa in _KERNEL_ISAS if isa in isas),
            "torch_isa": torch.backends.cpu.get_cpu_capability(),
            **describe_cores(self._cpus),
            **host_memory_flags(cpuinfo),
            **changed_switches(),
            **variables,
            **find_allocators(files, variables),
        }
        pages = os.sysconf("SC_PHYS_PAGES")
        return Platform(
            device="cpu",
            device_model=cpu_model(cpuinfo),
            memory_bytes=pages * os.sysconf("SC_PAGE_SIZE") // _GIB * _GIB,
            driver=f"{platform.system()} {platform.release()}",
            framework=f"torch {torch.__version__}",
            libraries=tuple(sorted(libraries.items())),
            threads=torch.get_num_threads(),
            cpus=len(self._cpus),
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
        """One sample of `call` by the wall clock after `warmup_calls` untimed calls."""

        def read() -> Reading:
            check_stop()
            return self._stopwatch.read(call, calls)

        if warmup_calls:
            warmup = self._stopwatch.read(call, warmup_calls)
            self._usual_s = (warmup.elapsed_s - warmup.lost_s) / warmup_calls
        sample = take_sample(
            read, calls=calls, allowed_lost_s=allowed_lost_s(self._usual_s * calls)
        )
        self._usual_s = sample.latency_s - sample.lost_s
        return sample

    def is_usable(self) -> bool:
        """True: after an error, a CPU works as before."""
        return True

    def release_memory(self) -> None:
        """Does nothing: on a CPU, torch keeps no memory."""
