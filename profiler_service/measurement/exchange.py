"""What the parent and the child exchange: messages, and a block of shared memory.

Messages say what to do and what went wrong. Samples are written into the block one by one, so
that those already taken remain when the child dies. Knows neither torch nor processes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.measurement.timer import Sample
from profiler_service.workload import ParamValue

CAPACITY: Final = 8192
"""Most visits in one order."""
NOWHERE: Final = -1
"""Value of `Block.under_way` if no visit is under way."""
PAIR: Final = 2
"""The first two points of a `NameOrder` are named even if each takes as long as all may: one alone
says nothing."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Parent to child, once: the device to measure on."""

    device: str
    """`cpu`, `cuda`, or `auto`."""
    cpus: tuple[int, ...]
    """Processors to run on, one thread each."""
    cache: str = "warm"
    """As in `TimingProtocol`: `warm` or `flushed`."""
    keep_variables: tuple[str, ...] = ()
    """Names or patterns of environment variables that the child gets besides the usual ones."""
    is_inference: bool = True
    """Whether everything runs under `torch.inference_mode`."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Child to parent, once: the platform and the timing protocol."""

    platform: Platform
    protocol: TimingProtocol
    dtypes: tuple[str, ...]
    backends: Mapping[str, tuple[str, ...]]
    """Backend of products → the dtypes that it multiplies."""
    gpu_uuid: str | None = None
    """Which GPU it measures on, as NVML names it, without `GPU-`; None on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Child to parent: the setup or the order can't be carried out."""

    message: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Parent to child: visits to make, at most CAPACITY. Their results go into the block."""

    builder: str
    axes: Sequence[str]
    """The axes of the workload's kind."""
    params: Mapping[str, ParamValue]
    dims: npt.NDArray[np.int32]
    """[visits, axes]"""
    point: npt.NDArray[np.int32]
    """[visits]; equal numbers are the same point."""
    calls: int
    warmup_calls: int
    warms_once: bool = False
    """Whether a CPU makes these only at the process' first visit of each point."""
    is_captured: bool = False
    """Whether a GPU captures a call before it times it: see `WorkloadKind.has_few_launches`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NameOrder:
    """Parent to child: points whose kernels are to be named. Nothing is timed."""

    builder: str
    axes: Sequence[str]
    params: Mapping[str, ParamValue]
    dims: npt.NDArray[np.int32]
    """[points, axes]; the most important ones first."""
    limit_s: float
    """After the first PAIR, no point is begun that would most likely end later than this."""


@dataclass(frozen=True, kw_only=True)
class KernelNamed:
    """Child to parent: the kernels of a point of a `NameOrder`."""

    place: int
    """The row of `dims`."""
    name: str


@dataclass(frozen=True, kw_only=True)
class PointFailed:
    """Child to parent: a point couldn't be measured. Its other visits are left out."""

    point: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Child to parent: the order is done, or `Block.stop` has stopped it."""


_BLOCK: Final = np.dtype(
    [
        ("under_way", np.int64),
        ("stop", np.int64),
        ("prepared_s", np.float64),
        ("started_s", np.float64, CAPACITY),
        ("latency_s", np.float64, CAPACITY),
        ("num_discarded", np.int32, CAPACITY),
        ("unstable", np.bool_, CAPACITY),
        ("lost_s", np.float32, CAPACITY),
        ("clock_hz", np.float32, CAPACITY),
    ]
)


class Block:
    """Shared memory: the visit under way, and the samples of the current order."""

    def __init__(self, fd: int) -> None:
        """Maps the block behind the file descriptor `fd`, which stays open."""
        self._fields = np.ndarray((), _BLOCK, buffer=mmap.mmap(fd, _BLOCK.itemsize))
        self.started_s: npt.NDArray[np.float64] = self._fields["started_s"]
        self.latency_s: npt.NDArray[np.float64] = self._fields["latency_s"]
        """0 for visits that have no sample (yet)."""
        self.num_discarded: npt.NDArray[np.int32] = self._fields["num_discarded"]
        self.unstable: npt.NDArray[np.bool_] = self._fields["unstable"]
        self.lost_s: npt.NDArray[np.float32] = self._fields["lost_s"]
        self.clock_hz: npt.NDArray[np.float32] = self._fields["clock_hz"]

    @staticmethod
    def create_fd() -> int:
        """The file descriptor of a new block full of zeros; the caller closes it."""
        fd = os.memfd_create("lhp-samples")
        os.truncate(fd, _BLOCK.itemsize)
        return fd

    @property
    def under_way(self) -> int:
        """Number of the visit under way, or NOWHERE."""
        return int(self._fields["under_way"])

    @under_way.setter
    def under_way(self, visit: int) -> None:
        self._fields["under_way"] = visit

    @property
    def stop(self) -> bool:
        """Whether the child must stop after the call under way."""
        return bool(self._fields["stop"])

    @stop.setter
    def stop(self, value: bool) -> None:
        self._fields["stop"] = value

    @property
    def prepared_s(self) -> float:
        """Seconds of the order so far in which what is kept was made. `started_s` doesn't count
        them."""
        return float(self._fields["prepared_s"])

    @prepared_s.setter
    def prepared_s(self, value: float) -> None:
        self._fields["prepared_s"] = value

    def clear(self) -> None:
        """Forgets all samples, the visit under way and what was prepared, but not `stop`."""
        self.under_way = NOWHERE
        self.prepared_s = 0.0
        self.latency_s[:] = 0

    def put(self, visit: int, sample: Sample) -> None:
        """Keeps the sample of one visit."""
        self.started_s[visit] = sample.started_s
        self.num_discarded[visit] = sample.num_discarded
        self.unstable[visit] = sample.unstable
        self.lost_s[visit] = sample.lost_s
        self.clock_hz[visit] = sample.clock_hz
        # written last: a latency other than 0 means that the row is complete
        self.latency_s[visit] = sample.latency_s
