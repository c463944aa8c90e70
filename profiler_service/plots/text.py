"""What is said of a curve in words: its heading, its redundancy, its undecided points.

Imports nothing that draws, so that the command line can say the same at no cost.
"""

from __future__ import annotations

from profiler_service.plan.modes import MODES
from profiler_service.wire import CurveDetail, CurveInfo, PlatformInfo


def format_redundancy(curve: CurveInfo) -> str:
    """The redundancy as a percentage, or as a range where points are undecided.

    Undecided points may turn out to be LHPs, so the lower end counts them as such. A dash
    where nothing was measured, or only what one query needed.
    """
    if curve.redundancy is None or not MODES[curve.mode].decides_every_point:
        return "–"
    high = 100 * curve.redundancy
    if not curve.num_undecided:
        return f"{high:.1f} %"
    low = max(0.0, high - 100 * curve.num_undecided / curve.num_measured)
    return f"{low:.1f} to {high:.1f} %"


def format_undecided(curve: CurveInfo) -> str:
    """The share of points left undecided, as a percentage; a dash where none was to be decided."""
    return "–" if curve.undecided is None else f"{100 * curve.undecided:.1f} %"


def plot_title(curve: CurveDetail, platform: PlatformInfo | None = None) -> tuple[str, str]:
    """The heading of a curve's picture: what was measured; on what, and what was found."""
    if platform is None:
        where = f"platform {curve.platform}"
    else:
        threads = "1 thread" if platform.threads == 1 else f"{platform.threads} threads"
        # What stands in brackets (a processor's features) is longer than the picture is wide.
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
    return curve.workload, f"{where} · {found} · {curve.measured_at:%Y-%m-%d}"
