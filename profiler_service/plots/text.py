"""Texts about a curve: its finding, what was measured, its redundancy, its undecided points.

Imports no plotting package and no numpy, so that the command line can use these texts quickly.
"""

from __future__ import annotations

from profiler_service.kinds.kernels import KERNEL_KINDS, Kernel
from profiler_service.plan.modes import MODES
from profiler_service.plots.quantities import format_dims, format_gain, say_share
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


def names_kernels(curve: CurveInfo) -> bool:
    """Whether the curve's dims number kernels."""
    return curve.workload.partition("[")[0] in {each.name for each in KERNEL_KINDS}


def describe_finding(curve: CurveDetail) -> str:
    """What a picture of the curve shows, as a sentence without a full stop: its title."""
    if not curve.num_measured:
        return "Nothing could be measured"
    if shortage := describe_shortage(curve):
        return shortage
    if names_kernels(curve):
        return _describe_kernels(curve)
    if MODES[curve.mode].is_race:
        return _describe_answer(curve)
    if not MODES[curve.mode].decides_every_point:
        return f"{curve.num_measured} of {curve.num_points} points are compared"
    nouns = ("size", "sizes") if len(curve.axes) == 1 else ("point", "points")
    num_dominated = curve.num_dominated
    if num_dominated is None:
        num_dominated = curve.points.status.count("dominated")
    share, verb = say_share(num_dominated, curve.num_measured, *nouns)
    return f"{share} {verb} slower than a larger one"


def _describe_kernels(curve: CurveDetail) -> str:
    latency_s = curve.points.latency_s
    best = min(range(len(latency_s)), key=latency_s.__getitem__)
    names = [str(Kernel.from_dims((dims[0],))) for dims in curve.points.dims]
    text = f"{names[best]} is the fastest of {len(names)} kernels"
    if "dense" not in names or names[best] == "dense":
        return text
    gain = latency_s[names.index("dense")] / latency_s[best]
    return f"{text}: {format_gain(gain)}{' as' if '×' in format_gain(gain) else ' than'} dense"


def _describe_answer(curve: CurveDetail) -> str:
    points, asked = curve.points, [axis.first for axis in curve.axes]
    if points.dims[:1] != [asked]:
        return f"{format_dims(asked)} couldn't be measured"
    rival, ratio, ratio_high = points.rival[0], points.ratio[0], points.ratio_high[0]
    if rival is None or ratio is None or ratio_high is None or ratio_high >= 1:
        return f"Keep {format_dims(asked)}: nothing larger is clearly faster"
    return f"Use {format_dims(rival)} instead of {format_dims(asked)}: {format_gain(1 / ratio)}"


def describe_curve_keys(curve: CurveInfo, platform: PlatformInfo | None = None) -> str:
    """What was measured, where and when: workload, platform, date."""
    if platform is None:
        where = f"platform {curve.platform}"
    else:
        threads = "1 thread" if platform.threads == 1 else f"{platform.threads} threads"
        # The text in brackets (a processor's features) is too long for the picture.
        where = f"{platform.device_model.partition(' (')[0]}, {threads}"
    return f"{curve.workload} · {where} · {curve.measured_at:%Y-%m-%d}"


def describe_counts(curve: CurveInfo) -> str:
    """How many points were measured, LHPs among them, and the redundancy."""
    if not curve.num_measured:
        return "nothing measured"
    if MODES[curve.mode].is_race:
        asked = ",".join(str(axis.first) for axis in curve.axes)
        return f"{curve.num_measured} of {curve.num_points} points looked at for one at {asked}"
    if not MODES[curve.mode].decides_every_point:
        return f"{curve.num_measured} of {curve.num_points} kernels compared"
    return (
        f"{curve.num_lhps} of {curve.num_measured} points are LHPs,"
        f" {format_undecided(curve)} undecided, redundancy {format_redundancy(curve)}"
    )


def describe_shortage(curve: CurveInfo) -> str:
    """What shows that too little was measured; empty if enough was."""
    if curve.evidence.cut_short and MODES[curve.mode].is_race:
        return "Too little was measured: the budget ended before anything could be judged"
    if curve.undecided is not None and curve.undecided > MOST_UNDECIDED:
        return f"Too little was measured: {format_undecided(curve)} undecided"
    return ""
