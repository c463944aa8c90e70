"""Domain objects as they travel: what is computed on the way."""

from __future__ import annotations

import dataclasses

import pytest

from profiler_service.analysis.evidence import Evidence
from profiler_service.answering.resources import curve_info
from profiler_service.kinds import LINEAR
from profiler_service.plan.modes import Mode
from profiler_service.storage.store import CurveHeader
from tests.api.curves import MEASURED_AT, PLATFORM, square

# A sweep of ten by ten points, stopped early: 10 failed, 60 were measured, 15 of those are
# undecided. So 45 of the 90 that didn't fail are decided.
STOPPED = CurveHeader(
    id="c",
    sweep_id="s",
    host="here",
    workload=LINEAR.describe(),
    platform_key=PLATFORM.key,
    protocol_key="p",
    grid=square(1, 10),
    mode="grid",
    num_measured=60,
    num_lhps=12,
    num_undecided=15,
    num_failures=10,
    measured_at=MEASURED_AT,
    evidence=Evidence(),
)


def test_points_not_measured_yet_are_undecided_and_failed_ones_are_not() -> None:
    info = curve_info(STOPPED, stale=False)
    assert info.undecided == 0.5
    assert info.redundancy == pytest.approx(1 - 12 / 60)


@pytest.mark.parametrize("mode", ["race", "survey"])
def test_a_race_has_no_share_of_undecided_points(mode: Mode) -> None:
    info = curve_info(dataclasses.replace(STOPPED, mode=mode), stale=False)
    assert info.undecided is None and info.redundancy is None


def test_where_every_point_failed_nothing_is_undecided() -> None:
    failed = dataclasses.replace(
        STOPPED, num_measured=0, num_lhps=0, num_undecided=0, num_failures=100
    )
    info = curve_info(failed, stale=False)
    assert info.undecided is None and info.redundancy is None
