"""Texts about a curve: its heading, its redundancy, its undecided points.

Imports no plotting package, so that the command line can use these texts quickly.
"""

from __future__ import annotations

from profiler_service.plan.modes import MODES
from profiler_service.wire import CurveDetail, CurveInfo, PlatformInfo

MOST_UNDECIDED = 0.5
"""If a larger share of a curve's points is undecided, too little of it was measured."""


def format_redundancy(curve: CurveInfo) -> str:
    """The redundancy as a percentage, or as a range if points are undecided.

    Undecided points may be LHPs, so the lower end counts them as LHPs. A dash if nothing was
    measured, or only the points that one query needed.
    """
    if curve.redundancy is None or not MODES[curve.mode].decides_every_point:
        return "–"
    high = 100 * curve.redundancy
    if not curve.num_undecided:
        return f"{high:.1f} %"
    low = max(0.0, high - 100 * curve.num_undecided / curve.num_measured)
    return f"{low:.1f} to {high:.1f} %"


def format_undecided(curve: CurveInfo) -> str:
    """The share of undecided points, as a percentage; a dash if the curve decides none."""
    return "–" if curve.undecided is None else f"{100 * curve.undecided:.1f} %"


def plot_title(curve: CurveDetail, platform: PlatformInfo | None = None) -> tuple[str, str]:
    """Both lines of a picture's heading: the workload; then platform, result and date.

    The first line also says if too little was measured to see the curve.
    """
    if platform is None:
        where = f"platform {curve.platform}"
    else:
        threads = "1 thread" if platform.threads == 1 else f"{platform.threads} threads"
        # The text in brackets (a processor's features) is too long for the picture.
        where = f"{platform.device_model.partition(' (')[0]}, {threads}"
    if not curve.num_measured:
        found = "nothing measured"
    elif MODES[curve.mode].is_race:
        asked = ",".join(str(axis.first) for axis in curve.axes)
        found = f"{curve.num_measured} of {curve.num_points} points looked at for one at {asked}"
    elif not MODES[curve.mode].decides_every_point:
        found = f"{curve.num_measured} of {curve.num_points} kernels compared"
    else:
        found = (
            f"{curve.num_lhps} of {curve.num_measured} points are LHPs,"
            f" {format_undecided(curve)} undecided, redundancy {format_redundancy(curve)}"
        )
    title = curve.workload
    if shortage := describe_shortage(curve):
        title += f" – {shortage}"
    return title, f"{where} · {found} · {curve.measured_at:%Y-%m-%d}"


def describe_shortage(curve: CurveInfo) -> str:
    """What shows that too little was measured; empty if enough was."""
    if curve.evidence.cut_short and MODES[curve.mode].is_race:
        return "measured too little: its budget ended before anything could be judged"
    if curve.undecided is not None and curve.undecided > MOST_UNDECIDED:
        return f"measured too little: {format_undecided(curve)} undecided"
    return ""
