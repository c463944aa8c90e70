"""The results of measuring: the platform, the timing protocol, and raw samples.

Pure: imports neither torch, SQL nor HTTP, and knows nothing of statistics.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_ABSENT: Final = "not recorded"


def _digest(fields: Mapping[str, object]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Platform:
    """Everything that must match for two latencies to be comparable.

    Declared facts only: no clocks (they drift) and no hostname (two equal machines are
    one platform). Equal platforms have equal keys.
    """

    device: str
    """`cpu` or `cuda`."""
    device_model: str
    memory_bytes: int
    """Memory of the device (for a CPU: of the machine), rounded down to whole GiB."""
    driver: str
    """GPU driver version; for a CPU, the operating system's kernel."""
    framework: str
    """For example `torch 2.13.0+cpu`."""
    libraries: tuple[tuple[str, str], ...]
    """(name, version) of BLAS and kernel libraries, sorted by name."""
    threads: int
    """Threads a product may use."""
    cpus: int
    """Processors that those threads are pinned to."""
    flags: tuple[tuple[str, str], ...]
    """(name, value) of what changes arithmetic or kernels: TF32, denormals; sorted."""

    @property
    def key(self) -> str:
        """16 hexadecimal digits, stable across processes and machines."""
        return _digest(self.to_json())

    def to_json(self) -> dict[str, object]:
        """The fields as JSON-ready values."""
        fields = asdict(self)
        fields["libraries"] = [list(pair) for pair in self.libraries]
        fields["flags"] = [list(pair) for pair in self.flags]
        return fields

    def describe_change(self, later: Platform) -> tuple[str, ...]:
        """What is different on `later`, one text for each field: `threads: 1 → 3`."""
        before, after = self.flat_fields(), later.flat_fields()
        names = [*before, *(name for name in after if name not in before)]
        return tuple(
            f"{name}: {before.get(name, _ABSENT)} → {after.get(name, _ABSENT)}"
            for name in names
            if before.get(name) != after.get(name)
        )

    def flat_fields(self) -> dict[str, object]:
        """All fields by name, libraries and flags among them."""
        fields = asdict(self)
        del fields["libraries"], fields["flags"]
        return {**fields, **dict(self.libraries), **dict(self.flags)}

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> Platform:
        """The inverse of `to_json`."""
        values = dict(fields)
        for name in ("libraries", "flags"):
            pairs = values[name]
            assert isinstance(pairs, Sequence)
            values[name] = tuple((str(a), str(b)) for a, b in pairs)
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class TimingProtocol:
    """How latencies were timed. Latencies of different protocols can't be compared."""

    timer: str
    """`perf_counter` on a CPU; `cuda_slope` on a GPU. Earlier versions had `cuda_graph`."""
    cache: str = "warm"
    """The cache. `warm`: as the previous call left it, with equal operands; `flushed`: without any
    operand of the call."""
    version: int = 1
    """Raised with every change of the measuring code that changes latencies."""

    @property
    def key(self) -> str:
        """Stable text, for example `perf_counter-warm-v1`."""
        return f"{self.timer}-{self.cache}-v{self.version}"


@dataclass(frozen=True, kw_only=True)
class OthersUse:
    """How much of the measured device others used, over the time for which that is known."""

    others_s: float = 0.0
    """Time of the device that others used. Its counters are coarse, so this may be a little below
    0 for a short time. Only sums over longer times are meaningful."""
    watched_s: float = 0.0
    """All time of the device, while it was watched."""

    def __add__(self, more: OthersUse) -> OthersUse:
        """Both together."""
        return OthersUse(
            others_s=self.others_s + more.others_s, watched_s=self.watched_s + more.watched_s
        )

    @property
    def share(self) -> float | None:
        """The share of the time that others used, from 0 to 1; None if it was never watched."""
        if not self.watched_s:
            return None
        return min(1.0, max(0.0, self.others_s / self.watched_s))


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Raw samples of one measured batch, in the order in which they were taken.

    All arrays have length n (number of samples). A point that failed has no sample here,
    and an entry in `failures`: a latency is never replaced by NaN or a default.
    """

    point: npt.NDArray[np.int32]
    """Number of the measured point in the sweep's grid."""
    round: npt.NDArray[np.int32]
    """Number of the round, from 0, in which the sample was taken."""
    time_s: npt.NDArray[np.float32]
    """Seconds from the start of the batch to the start of the sample."""
    latency_s: npt.NDArray[np.float64]
    """Seconds per call: the mean of `calls` consecutive calls."""
    calls: int
    """Calls timed together in each sample."""
    unstable: npt.NDArray[np.bool_]
    """True if the sample was still disturbed after the allowed number of discards."""
    lost_s: npt.NDArray[np.float32] | None = None
    """Seconds per call, part of `latency_s`, in which a measuring thread had no processor; NaN for
    a sample of which that isn't known. None: not recorded."""
    clock_hz: npt.NDArray[np.float32] | None = None
    """The device's clock while each sample was taken. None: not recorded, as on a CPU."""
    num_discarded: int = 0
    """Number of disturbed samples that were discarded and taken again."""
    failures: Mapping[int, str] = field(default_factory=dict)
    """Point number → why it couldn't be measured."""
    child: int = 0
    """Number of the measuring process that took them."""
    use: OthersUse = field(default_factory=OthersUse)
    """What others used of the measured device meanwhile, where the samples' device tells."""
    seconds: float = 0.0
    """Wall time of the whole batch, including warm-ups and discards."""

    def __post_init__(self) -> None:
        n = len(self.point)
        lengths = {len(self.round), len(self.time_s), len(self.latency_s), len(self.unstable)}
        lengths |= {len(each) for each in (self.lost_s, self.clock_hz) if each is not None}
        if lengths != {n}:
            raise ValueError(f"columns of unequal length: {sorted(lengths | {n})}")
        if n and not (np.isfinite(self.latency_s).all() and self.latency_s.min() > 0):
            raise ValueError("latencies must be finite and positive")

    def __len__(self) -> int:
        return len(self.point)

    @classmethod
    def join(cls, parts: Sequence[Samples]) -> Samples:
        """The samples of a batch that was measured in these parts, as if in one go.

        Its time goes on from part to part: what was measured in between isn't part of it. A point
        that failed in one part has no sample of another.
        """
        if len(parts) == 1:
            return parts[0]
        failures = {point: reason for part in parts for point, reason in part.failures.items()}
        kept = [~np.isin(part.point, list(failures)) for part in parts]
        before_s = np.cumsum([0.0, *(part.seconds for part in parts)])[:-1]
        parts = [
            replace(part, time_s=(start_s + part.time_s).astype(np.float32))
            for part, start_s in zip(parts, before_s, strict=True)
        ]

        def column(name: str) -> Any:
            arrays = [getattr(part, name) for part in parts]
            if any(array is None for array in arrays):
                return None
            return np.concatenate([a[k] for a, k in zip(arrays, kept, strict=True)])

        return replace(
            parts[0],
            # Of several processes, the first one: it may have chosen the points.
            child=min(part.child for part in parts),
            point=column("point"),
            round=column("round"),
            time_s=column("time_s"),
            latency_s=column("latency_s"),
            unstable=column("unstable"),
            lost_s=column("lost_s"),
            clock_hz=column("clock_hz"),
            num_discarded=sum(part.num_discarded for part in parts),
            failures=failures,
            use=sum((part.use for part in parts), OthersUse()),
            seconds=sum(part.seconds for part in parts),
        )
