from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from profiler_service.kinds import LeftOut
from profiler_service.measurement.cgroups import Throttling
from profiler_service.measurement.diagnosis import Diagnosis, Finding
from profiler_service.measurement.doctor import (
    examine,
    examine_disturbances,
    examine_drift,
    examine_governor,
    examine_load,
    examine_others,
    examine_pinning,
    examine_spread,
    examine_steal,
    examine_throttling,
    examine_turbo,
    examine_workloads,
    smallest_resolvable_effect,
)
from profiler_service.measurement.topology import Core


def test_this_host_is_examined() -> None:
    diagnosis = examine(device="cpu", seconds=0.5)
    assert [finding.name for finding in diagnosis.findings] == [
        *("spread", "drift", "disturbances", "others", "steal", "throttling"),
        *("load", "governor", "turbo", "threads", "workloads"),
    ]
    assert diagnosis.num_samples >= 250
    assert diagnosis.smallest_effect > 0
    fields = json.loads(json.dumps(diagnosis.to_json()))
    assert fields["quiet_enough"] is diagnosis.quiet_enough
    assert fields["findings"][0]["name"] == "spread"


def test_each_finding_has_a_value_for_programs_beside_its_text() -> None:
    spread = examine_spread(1e-4 * np.linspace(0.98, 1.02, 101))
    # The quartiles lie at 0.99 and 1.01 of the median of 100 µs.
    assert spread.value == pytest.approx(0.02)
    assert spread.unit == "of the median"
    assert spread.details == {"median_s": pytest.approx(1e-4)}
    lost = examine_disturbances(10, 90)
    assert (lost.value, lost.unit, lost.details) == (0.1, "of the samples", {"num_discarded": 10})
    load = examine_load(1.5, num_cpus=2)
    assert (load.value, load.details) == (1.5, {"num_cpus": 2})
    pinned = examine_pinning((1, 3), cores((0,), (1,), (3,)))
    assert (pinned.value, pinned.unit) == (2, "threads")
    assert pinned.details == {"measured_cpus": [1, 3], "available_cpus": [0, 1, 3]}
    kinds = examine_workloads(["linear"], [LeftOut(name="mine", reason="it failed to import")])
    assert (kinds.value, kinds.details) == (1, {"left_out": ["mine"]})
    numbers = [spread, lost, load, pinned, kinds]
    assert all(isinstance(each.value, float | int) for each in numbers)


def test_what_is_not_visible_has_no_value(tmp_path: Path) -> None:
    assert examine_governor(tmp_path).value is None
    assert examine_turbo(tmp_path).value is None


def test_smallest_effect_of_known_noise() -> None:
    # Log-latencies with a standard deviation of 1 % each: a pair's ratio has √2 %, the median
    # of 400 of them 1.2533 · √2 % / 20, and 2.8 of these are 0.248 %.
    rng = np.random.default_rng(0)
    latency_s = 1e-4 * np.exp(rng.normal(0, 0.01, 100_000))
    assert smallest_resolvable_effect(latency_s) == pytest.approx(0.00248, rel=0.02)
    # Four times the rounds resolve half the effect.
    assert smallest_resolvable_effect(latency_s, rounds=1600) == pytest.approx(0.00124, rel=0.02)


def test_slow_drift_does_not_hide_small_effects() -> None:
    # Neighbouring visits are paired: a doubling over the whole time cancels.
    steady = np.full(1001, 1e-4)
    assert smallest_resolvable_effect(steady * np.linspace(1, 2, 1001)) < 1e-3


def diagnosis(smallest_effect: float) -> Diagnosis:
    return Diagnosis(findings=(), smallest_effect=smallest_effect, num_samples=1)


def test_a_host_is_quiet_enough_when_half_a_percent_can_be_resolved() -> None:
    assert diagnosis(0.005).quiet_enough
    assert not diagnosis(0.0051).quiet_enough


@pytest.mark.parametrize(("spread", "verdict"), [(0.02, "good"), (0.06, "fair"), (0.30, "poor")])
def test_spread(spread: float, verdict: str) -> None:
    # Evenly from 1 − spread to 1 + spread: the quartiles lie `spread` apart.
    finding = examine_spread(1e-4 * np.linspace(1 - spread, 1 + spread, 101))
    assert finding.found == f"{spread:.1%} between quartiles, median 100.0 µs"
    assert finding.verdict == verdict
    assert bool(finding.advice) == (verdict != "good")


@pytest.mark.parametrize(("drift", "verdict"), [(0.01, "good"), (0.10, "fair"), (0.30, "poor")])
def test_drift(drift: float, verdict: str) -> None:
    # Three windows of 0.25 s with latencies of 1 − drift/2, 1 and 1 + drift/2.
    time_s = np.repeat([0.1, 0.3, 0.6], 5)
    latency_s = np.repeat([1 - drift / 2, 1, 1 + drift / 2], 5)
    finding = examine_drift(time_s, latency_s)
    assert finding.found == f"{drift:.1%} over 3 windows of 0.25 s"
    assert finding.verdict == verdict


def test_spread_within_a_window_is_no_drift() -> None:
    time_s = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.45])
    assert examine_drift(time_s, np.array([1.0, 5.0, 9.0, 1.0, 5.0, 9.0])).verdict == "good"


def test_disturbances() -> None:
    assert examine_disturbances(0, 100).verdict == "good"
    assert examine_disturbances(10, 90).found == "10.0% of samples discarded (10)"
    assert examine_disturbances(10, 90).verdict == "fair"
    assert examine_disturbances(100, 100).verdict == "poor"


def test_steal_is_the_share_of_the_measured_processors() -> None:
    before = (30, 2, 4, 6, 8, 10, 12, 15, 30, 0)
    # 90 ticks of user time and 10 stolen ones; guest time (90) is part of user time.
    finding = examine_steal(before, (120, 2, 4, 6, 8, 10, 12, 25, 120, 0))
    assert finding.found == "10.0% of the time taken by the hypervisor"
    assert finding.verdict == "poor"
    assert examine_steal(before, (130, 2, 4, 6, 8, 10, 12, 15, 130, 0)).verdict == "good"
    assert examine_steal(before, before).verdict == "good"  # not a tick has passed


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.0, "good"), (0.02, "good"), (0.05, "fair"), (0.34, "poor")]
)
def test_use_by_others_is_told(share: float, verdict: str) -> None:
    finding = examine_others(share)
    assert finding.found == f"{share:.1%} of the measured device's time used by others"
    assert finding.verdict == verdict
    assert bool(finding.advice) == (verdict != "good")


def test_use_that_the_device_does_not_show_is_no_good_sign() -> None:
    assert examine_others(None).verdict == "fair"


def throttling(*, periods: int, throttled: int, seconds: float) -> Throttling:
    return Throttling(periods=periods, throttled=throttled, seconds=seconds)


def test_throttling_by_the_group_that_did_most_is_told() -> None:
    own, parent = Path("/cg/batch.slice/lhp.service"), Path("/cg/batch.slice")
    before = {
        own: throttling(periods=100, throttled=0, seconds=0.0),
        parent: throttling(periods=200, throttled=7, seconds=0.5),
    }
    after = {
        own: throttling(periods=150, throttled=0, seconds=0.0),
        parent: throttling(periods=250, throttled=17, seconds=1.25),
    }
    finding = examine_throttling(before, after)  # 10 of 50 periods: one in five
    assert finding.found == (
        "stopped in 10 of 50 periods, for 0.75 s in all, by the CPU quota of /cg/batch.slice"
    )
    assert finding.verdict == "poor"
    assert "LHP_THREADS" in finding.advice


def test_a_quota_that_is_not_used_up_throttles_nobody() -> None:
    group = Path("/cg/lhp.service")
    before = {group: throttling(periods=0, throttled=3, seconds=1.0)}
    after = {group: throttling(periods=50, throttled=3, seconds=1.0)}
    finding = examine_throttling(before, after)
    assert (finding.verdict, finding.advice) == ("good", "")
    assert finding.found.startswith("stopped in 0 of 50 periods")


def test_without_a_quota_there_is_no_throttling() -> None:
    group = Path("/cg")
    unlimited = {group: throttling(periods=0, throttled=0, seconds=0.0)}
    for counted in ({}, unlimited):
        finding = examine_throttling(counted, counted)
        assert (finding.found, finding.verdict) == ("no CPU quota in force", "good")


def test_load_counts_per_processor() -> None:
    assert examine_load(0.4, num_cpus=2).verdict == "good"
    assert examine_load(1.0, num_cpus=2).verdict == "fair"
    assert examine_load(2.0, num_cpus=2).verdict == "poor"
    assert examine_load(2.0, num_cpus=64).verdict == "good"


def test_governor(tmp_path: Path) -> None:
    assert examine_governor(tmp_path).found.startswith("not visible")
    for cpu, governor in (("cpu0", "performance"), ("cpu1", "performance")):
        (tmp_path / cpu / "cpufreq").mkdir(parents=True)
        (tmp_path / cpu / "cpufreq" / "scaling_governor").write_text(governor + "\n")
    assert examine_governor(tmp_path) == Finding(
        name="governor", value="performance", found="performance", verdict="good"
    )
    (tmp_path / "cpu1" / "cpufreq" / "scaling_governor").write_text("powersave\n")
    finding = examine_governor(tmp_path)
    assert (finding.found, finding.verdict) == ("performance, powersave", "fair")
    assert "cpupower" in finding.advice


@pytest.mark.parametrize(
    ("file", "on", "off"), [("intel_pstate/no_turbo", "0", "1"), ("cpufreq/boost", "1", "0")]
)
def test_turbo(tmp_path: Path, file: str, on: str, off: str) -> None:
    assert examine_turbo(tmp_path).found.startswith("not visible")
    path = tmp_path / file
    path.parent.mkdir()
    path.write_text(on + "\n")
    finding = examine_turbo(tmp_path)
    assert finding.verdict == "fair"
    assert finding.advice == f"echo {off} | sudo tee {path}"
    path.write_text(off + "\n")
    assert examine_turbo(tmp_path) == Finding(
        name="turbo", value="off", found="off", verdict="good"
    )


def cores(*groups: tuple[int, ...], slow: tuple[int, ...] = ()) -> list[Core]:
    """Cores of these processors; those with a processor of `slow` are slow."""
    return [Core(cpus=cpus, is_fast=not set(cpus) & set(slow)) for cpus in groups]


def test_pinning() -> None:
    finding = examine_pinning((1, 2, 3, 5), cores((0,), (1,), (2,), (3,), (4,), (5,)))
    assert finding.found == "4 threads on processors 1-3,5 of 0-5"
    assert finding.verdict == "good"
    assert examine_pinning((0,), cores((0,))).verdict == "fair"


@pytest.mark.parametrize(
    ("measured", "advice"),
    [
        ((1,), ""),
        ((1, 3), ""),
        ((1, 2, 3), "share a core"),
        ((1, 3, 4), "slow core"),
        ((0, 1, 2, 3, 4), "leave a processor"),
    ],
)
def test_threads_that_hinder_each_other_are_told(measured: tuple[int, ...], advice: str) -> None:
    finding = examine_pinning(measured, cores((0, 1), (2, 3), (4,), slow=(4,)))
    assert finding.verdict == ("fair" if advice else "good")
    assert advice in finding.advice


def test_kinds_that_are_left_out_are_named() -> None:
    whole = examine_workloads({"linear": 1, "matmul": 2}, ())
    assert (whole.found, whole.verdict, whole.advice) == ("2 kinds", "good", "")
    found = examine_workloads(["linear"], [LeftOut(name="mine", reason="it failed to import")])
    assert (found.found, found.verdict) == ("1 kinds, 1 left out", "fair")
    assert found.advice == "mine: it failed to import"
