"""Names the kernels of a call, by making the call once. Runs only in the measuring child.

On a CPU, oneDNN and MKL are told to print what they do for that one call. They print to the file
descriptor 1, whatever Python's `sys.stdout` is, so that descriptor is a file in memory meanwhile.
On a GPU, torch's profiler records the kernels. Knows nothing of points.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, Protocol

import torch

from profiler_service.measurement.kernel_verbose import join_kernels, read_kernel
from profiler_service.measurement.operations import Call

MAX_READ_BYTES: Final = 1 << 20
"""No more of what the libraries print is read: one call may make thousands of products."""
VERBOSE_VARIABLES: Final = ("ONEDNN_VERBOSE", "DNNL_VERBOSE", "MKL_VERBOSE")
"""Whoever sets one of them wants to see the output, and has it in the latencies, too. Nothing is
named then: the libraries would be silent afterwards."""
_STDOUT: Final = 1
_NO_KERNEL: Final = re.compile(r"Mem(cpy|set)\b")


Verbose = Callable[[], AbstractContextManager[object]]
"""Makes a context in which a library prints what it does."""


class KernelReader(Protocol):
    """Names the kernels of calls on one device."""

    def read(self, call: Call) -> str:
        """The kernels that the call ran, as `join_kernels` joins them; empty if unknown.

        Makes the call once. Raises what the call raises.
        """


def open_kernel_reader(device: str) -> KernelReader:
    """The reader for `cpu` or `cuda`. One that knows nothing if torch has nothing that tells."""
    if device == "cuda":
        return ProfiledKernels(_profile_cuda, torch.cuda.synchronize)
    if any(os.environ.get(name, "0") not in ("", "0") for name in VERBOSE_VARIABLES):
        return SilentKernels()
    backends: list[Any] = [torch.backends.mkldnn, torch.backends.mkl]
    libraries: list[Verbose] = [
        partial(each.verbose, each.VERBOSE_ON) for each in backends if each.is_available()
    ]
    if not libraries:
        return SilentKernels()
    reader = PrintedKernels(libraries)
    # Before its first line, MKL finds out the processor's clock, for a third of a second.
    ones = torch.ones(8, 8)
    reader.read(lambda: ones @ ones)
    return reader


class SilentKernels:
    """Knows no kernel, and makes no call."""

    def read(self, call: Call) -> str:
        """Nothing."""
        return ""


class PrintedKernels:
    """Reads what libraries print in contexts in which they say what they do."""

    def __init__(self, libraries: Sequence[Verbose]) -> None:
        self._libraries = libraries
        self._c = ctypes.CDLL(None)
        self._fd = os.memfd_create("lhp-verbose")

    def read(self, call: Call) -> str:
        """The kernels that the libraries named; empty if they named none."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        with self._redirected(), contextlib.ExitStack() as stack:
            for verbose in self._libraries:
                stack.enter_context(verbose())
            call()
        printed = os.pread(self._fd, MAX_READ_BYTES, 0)
        # The last line may be cut off.
        return read_kernel(printed[: printed.rfind(b"\n") + 1].decode(errors="replace"))

    @contextlib.contextmanager
    def _redirected(self) -> Iterator[None]:
        """In this context, whatever this process prints goes to the file in memory."""
        self._flush()
        kept = os.dup(_STDOUT)
        try:
            os.dup2(self._fd, _STDOUT)
            try:
                yield
            finally:
                self._flush()
                os.dup2(kept, _STDOUT)
        finally:
            os.close(kept)

    def _flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        self._c.fflush(None)


class Profile(Protocol):
    """What a profiler has recorded."""

    def events(self) -> Any:
        """Each event, with its `name` and its `device_type`; None if there is nothing."""


class ProfiledKernels:
    """Reads what a profiler records on the device."""

    def __init__(
        self,
        profile: Callable[[], AbstractContextManager[Profile]],
        synchronize: Callable[[], object],
    ) -> None:
        """`synchronize` returns when the device has done what was queued."""
        self._profile = profile
        self._synchronize = synchronize

    def read(self, call: Call) -> str:
        """The kernels that ran on the device; copies of memory don't count."""
        with self._profile() as profile:
            call()
            self._synchronize()
        return join_kernels(
            shorten_cuda_name(event.name)
            for event in profile.events() or ()
            if getattr(event.device_type, "name", "") == "CUDA" and not _NO_KERNEL.match(event.name)
        )


def _profile_cuda() -> AbstractContextManager[Profile]:
    activities = [torch.profiler.ProfilerActivity.CUDA]
    profile: AbstractContextManager[Profile] = torch.profiler.profile(activities=activities)
    return profile


def shorten_cuda_name(name: str) -> str:
    """The kernel's name without `void`, arguments and template parameters.

    The name that a library's generator made is kept, if one is inside:
    `void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_64x64>(…)` is
    `cutlass_80_tensorop_bf16_s16816gemm_64x64`.
    """
    generated = re.search(r"\b(cutlass|cublasLt|sm\d+|ampere|hopper|volta)_\w+", name)
    if generated is not None:
        return generated[0]
    return re.split(r"[<(]", name.removeprefix("void "), maxsplit=1)[0].strip()
