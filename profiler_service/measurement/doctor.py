"""Whether this host is quiet enough to measure on, and what to change if it isn't.

Measures one product again and again for a few seconds, and reads /proc and /sys. Knows neither
storage nor planners.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.evidence import DISTURBED_SHARE
from profiler_service.analysis.resolution import ROUNDS, find_resolvable_effect
from profiler_service.analysis.samples import OthersUse
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, LeftOut, kinds_left_out, workload_kinds
from profiler_service.measurement.cgroups import Throttling, read_throttling
from profiler_service.measurement.device_use import read_cpu_times, wait_for_others
from profiler_service.measurement.diagnosis import Diagnosis, Finding, Verdict
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.processors import available_cpus
from profiler_service.measurement.topology import Core, read_cores
from profiler_service.plan.base import Batch

F64 = npt.NDArray[np.float64]

NOT_VISIBLE: Final = "not visible: a virtual machine, most likely"
_ANCHOR: Final = Grid(axes=(GridAxis(first=1197, count=1), GridAxis(first=317, count=1)))
_VISITS: Final = 250
_DRIFT_WINDOW_S: Final = 0.25


def examine(
    *, device: str = "auto", threads: int = 0, cache: str = "warm", seconds: float = 5.0
) -> Diagnosis:
    """The diagnosis of this host, after measuring an anchor product for `seconds`.

    `device`, `threads` and `cache` are those of `Measurer`. Raises MeasurementFailedError if the
    host can't measure at all.
    """
    # read before this program adds load of its own
    load = examine_load(os.getloadavg()[0], num_cpus=len(available_cpus()))
    with Measurer(device=device, threads=threads, cache=cache) as measurer:
        gpu_others_share = _find_gpu_others_share(measurer)
        before, throttling_before = read_cpu_times(measurer.measured_cpus), read_throttling()
        measured = _measure_anchor(measurer, seconds)
        after, throttling_after = read_cpu_times(measurer.measured_cpus), read_throttling()
        measured_cpus = measurer.measured_cpus
        on_cpu = measurer.platform.device == "cpu"
    latency_s = measured.latency_s
    return Diagnosis(
        findings=(
            examine_spread(latency_s),
            examine_drift(measured.time_s, latency_s),
            examine_disturbances(measured.num_discarded, len(latency_s)),
            examine_others(measured.use.share if on_cpu else gpu_others_share),
            examine_steal(before, after),
            examine_throttling(throttling_before, throttling_after),
            load,
            *([examine_governor(), examine_turbo()] if on_cpu else []),
            examine_pinning(measured_cpus, read_cores(available_cpus())),
            examine_workloads(workload_kinds(), kinds_left_out()),
        ),
        smallest_effect=smallest_resolvable_effect(latency_s),
        num_samples=len(latency_s),
    )


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """The anchor's samples."""

    time_s: F64
    """When each was taken, from the first one on."""
    latency_s: F64
    num_discarded: int
    use: OthersUse
    """What others used of the measured processors meanwhile."""


def _find_gpu_others_share(measurer: Measurer) -> float | None:
    """The share of the GPU's time that others use; None on a CPU, or if the GPU doesn't tell."""

    def pause(seconds: float) -> bool:
        time.sleep(seconds)
        return True

    return wait_for_others(
        measurer.read_gpu_use,
        longest_s=0,
        own_use_ended_s=time.monotonic(),
        pause=pause,
        clock_s=time.monotonic,
    )


def _measure_anchor(measurer: Measurer, seconds: float) -> _Measured:
    visits = np.zeros(_VISITS, dtype=np.int32)
    batch = Batch(point=visits, round=visits)
    started_s = time.perf_counter()
    times: list[F64] = []
    latencies: list[F64] = []
    num_discarded = 0
    use = OthersUse()
    while not latencies or time.perf_counter() < started_s + seconds:
        batch_started_s = time.perf_counter() - started_s
        samples = measurer.measure(LINEAR.describe(), _ANCHOR, batch)
        times.append(batch_started_s + samples.time_s.astype(np.float64))
        latencies.append(samples.latency_s)
        num_discarded += samples.num_discarded
        use += samples.use
    return _Measured(
        time_s=np.concatenate(times),
        latency_s=np.concatenate(latencies),
        num_discarded=num_discarded,
        use=use,
    )


def smallest_resolvable_effect(latency_s: F64, *, rounds: int = ROUNDS) -> float:
    """The smallest relative difference that the median of `rounds` paired ratios resolves.

    Two visits next to each other stand for a pair within a round. With a robust standard
    deviation s of their log-ratio, the median of n has the standard error 1.2533 s / √n. (Source:
    ours, from the normal approximation.)
    """
    log_ratio = np.log(latency_s[1::2]) - np.log(latency_s[: len(latency_s) // 2 * 2 : 2])
    s = 1.4826 * float(np.median(np.abs(log_ratio - np.median(log_ratio))))
    return find_resolvable_effect(1.2533 * s, num_pairs=1, rounds=rounds)


def examine_spread(latency_s: F64) -> Finding:
    """The interquartile range of the anchor's latency, relative to its median."""
    low, median, high = np.percentile(latency_s, [25, 50, 75])
    spread = float((high - low) / median)
    return Finding(
        name="spread",
        value=spread,
        unit="of the median",
        details={"median_s": float(median)},
        found=f"{spread:.1%} between quartiles, median {median * 1e6:.1f} µs",
        verdict=_grade(spread, fair=0.04, poor=0.10),
        advice="" if spread <= 0.04 else "stop other programs, or use a machine of your own",
    )


def examine_drift(time_s: F64, latency_s: F64) -> Finding:
    """How far the anchor's medians over quarters of a second move, relative to their median."""
    window = (time_s / _DRIFT_WINDOW_S).astype(np.int64)
    medians = np.array([np.median(latency_s[window == w]) for w in np.unique(window)])
    drift = float((medians.max() - medians.min()) / np.median(medians))
    return Finding(
        name="drift",
        value=drift,
        unit="of the median",
        details={"num_windows": len(medians), "window_s": _DRIFT_WINDOW_S},
        found=f"{drift:.1%} over {len(medians)} windows of {_DRIFT_WINDOW_S:g} s",
        verdict=_grade(drift, fair=0.05, poor=0.20),
        advice=""
        if drift <= 0.05
        else "clocks or neighbours change while measuring: fix the clock, wait for a quieter time",
    )


def examine_disturbances(num_discarded: int, num_samples: int) -> Finding:
    """The share of samples that were discarded because something disturbed them."""
    share = num_discarded / (num_discarded + num_samples)
    return Finding(
        name="disturbances",
        value=share,
        unit="of the samples",
        details={"num_discarded": num_discarded},
        found=f"{share:.1%} of samples discarded ({num_discarded})",
        verdict=_grade(share, fair=0.05, poor=0.30),
        advice=""
        if share <= 0.05
        else "other programs run on the measured processors, or the device throttles",
    )


def examine_others(share: float | None) -> Finding:
    """The share of the measured device's time that others use; answers say when it is too large."""
    if share is None:
        return Finding(name="others", value=None, found="not visible", verdict="fair")
    return Finding(
        name="others",
        value=share,
        unit="of the time",
        found=f"{share:.1%} of the measured device's time used by others",
        verdict=_grade(share, fair=0.02, poor=DISTURBED_SHARE),
        advice=""
        if share <= 0.02
        else "stop them while this machine measures: answers measured beside others who use more"
        f" than {DISTURBED_SHARE:.0%} are marked `disturbed`",
    )


def examine_throttling(
    before: Mapping[Path, Throttling], after: Mapping[Path, Throttling]
) -> Finding:
    """How often the CPU quota of a control group stopped this host meanwhile.

    `before` and `after` are readings of `read_throttling`. If several groups did, the worst one.
    """
    counted = {group: after[group].since(then) for group, then in before.items() if group in after}
    limited = {group: found for group, found in counted.items() if found.periods}
    if not limited:
        return Finding(
            name="throttling",
            value=0.0,
            unit="of the periods",
            found="no CPU quota in force",
            verdict="good",
        )
    group, worst = max(limited.items(), key=lambda item: item[1].throttled / item[1].periods)
    share = worst.throttled / worst.periods
    return Finding(
        name="throttling",
        value=share,
        unit="of the periods",
        details={"stopped_s": worst.seconds, "group": str(group)},
        found=f"stopped in {worst.throttled} of {worst.periods} periods, for {worst.seconds:.2f} s"
        f" in all, by the CPU quota of {group}",
        verdict=_grade(share, fair=0, poor=0.05),
        advice=""
        if not share
        else "raise that quota (`cpu.max`; CPUQuota in systemd; --cpus in Docker), or set"
        " LHP_THREADS lower",
    )


def examine_steal(before: Sequence[int], after: Sequence[int]) -> Finding:
    """The share of the measured processors' time that the hypervisor gave to others.

    `before` and `after` are readings of `read_cpu_times`.
    """
    spent = [b - a for a, b in zip(before, after, strict=True)]
    # Fields of /proc/stat: user nice system idle iowait irq softirq steal. Guest time comes next,
    # and is already part of user time.
    total = sum(spent[:8])
    steal = spent[7] / total if total else 0.0
    return Finding(
        name="steal",
        value=steal,
        unit="of the time",
        found=f"{steal:.1%} of the time taken by the hypervisor",
        verdict=_grade(steal, fair=0.005, poor=0.03),
        advice="" if steal <= 0.005 else "use a machine with processors of its own",
    )


def examine_load(load: float, *, num_cpus: int) -> Finding:
    """The load average of the last minute, against the number of processors."""
    share = load / num_cpus
    return Finding(
        name="load",
        value=load,
        unit="processes",
        details={"num_cpus": num_cpus},
        found=f"{load:.2f} before measuring, on {num_cpus} processors",
        verdict=_grade(share, fair=0.25, poor=0.75),
        advice="" if share <= 0.25 else "wait until other programs have ended, or stop them",
    )


def examine_governor(root: Path = Path("/sys/devices/system/cpu")) -> Finding:
    """The frequency governors of the processors."""
    files = sorted(root.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    governors = sorted({path.read_text().strip() for path in files})
    if not governors:
        return Finding(name="governor", value=None, found=NOT_VISIBLE, verdict="fair")
    found = ", ".join(governors)
    if governors == ["performance"]:
        return Finding(name="governor", value=found, found=found, verdict="good")
    return Finding(
        name="governor",
        value=found,
        found=found,
        verdict="fair",
        advice="sudo cpupower frequency-set -g performance",
    )


def examine_turbo(root: Path = Path("/sys/devices/system/cpu")) -> Finding:
    """Whether the processors may raise their clock for as long as heat allows."""
    no_turbo, boost = root / "intel_pstate" / "no_turbo", root / "cpufreq" / "boost"
    if no_turbo.is_file():
        switch, is_on = no_turbo, no_turbo.read_text().strip() == "0"
    elif boost.is_file():
        switch, is_on = boost, boost.read_text().strip() == "1"
    else:
        return Finding(name="turbo", value=None, found=NOT_VISIBLE, verdict="fair")
    if not is_on:
        return Finding(name="turbo", value="off", found="off", verdict="good")
    return Finding(
        name="turbo",
        value="on",
        found="on: the clock depends on heat and on the other processors",
        verdict="fair",
        advice=f"echo {1 if switch is no_turbo else 0} | sudo tee {switch}",
    )


def examine_pinning(measured: Sequence[int], cores: Sequence[Core]) -> Finding:
    """Which processors measure, whether they share cores, and what is left for everything else."""
    available = sorted(cpu for core in cores for cpu in core.cpus)
    threads = "1 thread" if len(measured) == 1 else f"{len(measured)} threads"
    processors = "processor" if len(measured) == 1 else "processors"
    advice = ""
    if len(measured) == len(available):
        advice = "leave a processor to the rest of the system: LHP_THREADS=0 on two or more"
    elif any(len(set(core.cpus) & set(measured)) > 1 for core in cores):
        advice = "two threads share a core, and compete for it: set LHP_THREADS lower"
    elif not all(core.is_fast for core in cores if set(core.cpus) & set(measured)):
        advice = "a thread is on a slow core, and the others wait for it: set LHP_THREADS lower"
    return Finding(
        name="threads",
        value=len(measured),
        unit="threads",
        details={"measured_cpus": list(measured), "available_cpus": available},
        found=f"{threads} on {processors} {_ranges(measured)} of {_ranges(available)}",
        verdict="fair" if advice else "good",
        advice=advice,
    )


def examine_workloads(kinds: Collection[str], left_out: Sequence[LeftOut]) -> Finding:
    """How many workload kinds can be measured here, and which installed ones can't."""
    found = f"{len(kinds)} kinds"
    return Finding(
        name="workloads",
        value=len(kinds),
        unit="kinds",
        details={"left_out": [each.name for each in left_out]},
        found=f"{found}, {len(left_out)} left out" if left_out else found,
        verdict="fair" if left_out else "good",
        advice="; ".join(f"{each.name}: {each.reason}" for each in left_out),
    )


def _grade(value: float, *, fair: float, poor: float) -> Verdict:
    if value > poor:
        return "poor"
    return "fair" if value > fair else "good"


def _ranges(cpus: Sequence[int]) -> str:
    starts = [cpu for cpu in cpus if cpu - 1 not in cpus]
    ends = [cpu for cpu in cpus if cpu + 1 not in cpus]
    pairs = zip(starts, ends, strict=True)
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)
