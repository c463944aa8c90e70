"""Compares stored curves of one workload family. Knows neither HTTP nor the store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import Verdict
from profiler_service.analysis.curve import F64, LatencyCurve, PointStatus
from profiler_service.analysis.curve_comparison import (
    AlignedCurve,
    Ratios,
    RatioSummary,
    align,
    count_lhps,
    divide,
    summarize,
)
from profiler_service.analysis.samples import Platform
from profiler_service.answering.curve_traits import find_traits
from profiler_service.answering.downsampling import ALWAYS_KEPT, Numbers, thin
from profiler_service.answering.findings import describe_finding
from profiler_service.answering.resources import curve_info
from profiler_service.errors import IncomparableCurvesError, InvalidRequestError
from profiler_service.plan.modes import MODES
from profiler_service.storage.store import CurveHeader
from profiler_service.wire import (
    ComparedCurve,
    CurveComparison,
    CurveRatios,
    CurveRatioSummary,
)

LEAST_CURVES: Final = 2
MOST_CURVES: Final = 6
"""More lines in one chart can't be told apart."""


def read_ids(text: str) -> list[str]:
    """The ids that the text lists, separated by commas. Raises InvalidRequestError."""
    ids = [each.strip() for each in text.split(",")]
    if not LEAST_CURVES <= len(ids) <= MOST_CURVES:
        raise InvalidRequestError(
            f"ids names {'1 curve' if len(ids) == 1 else f'{len(ids)} curves'}",
            hint=f"name {LEAST_CURVES} to {MOST_CURVES}, separated by commas",
            see="/curves",
        )
    return ids


def check_comparable(headers: Sequence[CurveHeader]) -> None:
    """Returns if the curves are of one family, and timed alike.

    Raises IncomparableCurvesError; InvalidRequestError for a curve that is there twice.
    """
    if len({each.id for each in headers}) < len(headers):
        raise InvalidRequestError("ids names a curve twice", hint="name each curve once")
    first = headers[0]
    for other in headers[1:]:
        if (other.workload.kind, other.workload.axes) != (first.workload.kind, first.workload.axes):
            raise IncomparableCurvesError(
                f"curve {first.id} is of {_describe_family(first)}, and curve {other.id} of"
                f" {_describe_family(other)}",
                hint="compare curves of one workload kind and with the same axes; their fixed"
                " parameters may differ",
                see="/curves",
            )
        if other.protocol_key != first.protocol_key:
            raise IncomparableCurvesError(
                f"curve {first.id} was timed as {first.protocol_key}, and curve {other.id} as"
                f" {other.protocol_key}",
                hint="compare curves that were timed alike, or measure again",
                see="/curves",
            )


def _describe_family(header: CurveHeader) -> str:
    return f"{header.workload.kind} over {', '.join(header.workload.axes)}"


def compare_curves(
    headers: Sequence[CurveHeader],
    curves: Sequence[LatencyCurve],
    *,
    is_stale: Mapping[str, bool],
    platforms: Mapping[str, Platform],
    max_points: int,
) -> CurveComparison:
    """The curves, each compared with the first one.

    They were checked. `is_stale` has an entry for each id, `platforms` for each of their keys.
    Raises IncomparableCurvesError if a curve has no point in common with the first one.
    """
    dims, aligned = align(curves)
    traits = find_traits(headers, platforms)
    ratios = [divide(points, aligned[0]) for points in aligned[1:]]
    summaries: list[RatioSummary] = []
    for header, its in zip(headers[1:], ratios, strict=True):
        summary = summarize(its)
        if summary is None:
            raise IncomparableCurvesError(
                f"curves {headers[0].id} and {header.id} have no measured point in common",
                hint="choose curves whose grids overlap",
                see="/curves",
            )
        summaries.append(summary)
    shown = _choose(dims, aligned, ratios, max_points)
    compared = [
        ComparedCurve(
            curve=curve_info(header, stale=is_stale[header.id]),
            label=label,
            **_point_columns(points, shown),
            ratios=None,
            summary=None,
        )
        for header, label, points in zip(headers, traits.labels, aligned, strict=True)
    ]
    for each, points, its, summary in zip(
        compared[1:], aligned[1:], ratios, summaries, strict=True
    ):
        decide_all = all(
            MODES[curve.mode].decides_every_point for curve in (each.curve, compared[0].curve)
        )
        each.ratios = _ratio_columns(its, shown)
        each.summary = _sum_up(summary, count_lhps(points, aligned[0]) if decide_all else None)
    return CurveComparison(
        finding=" ".join(
            describe_finding(summary, label=label, reference=traits.labels[0])
            for summary, label in zip(summaries, traits.labels[1:], strict=True)
        ),
        workload=headers[0].workload.kind,
        axis_names=list(headers[0].workload.axes),
        differs=list(traits.differs),
        same=list(traits.same),
        intervals="independent",
        num_points=len(dims),
        num_left_out=len(dims) - len(shown),
        dims=dims[shown].tolist(),
        curves=compared,
    )


def _choose(
    dims: npt.NDArray[np.int32],
    aligned: Sequence[AlignedCurve],
    ratios: Sequence[Ratios],
    max_points: int,
) -> Numbers:
    """The points to show: every LHP and edge of a curve, and what shows the shape of each line."""
    statuses = np.stack([each.status for each in aligned])
    is_kept = np.asarray(np.isin(statuses, ALWAYS_KEPT).any(axis=0))
    series = [*(each.latency_s for each in aligned), *(each.ratio for each in ratios)]
    return thin(dims, series, is_kept, max_points)


def _point_columns(points: AlignedCurve, shown: Numbers) -> dict[str, Any]:
    names = {status: status.name.lower() for status in PointStatus}
    return {
        "latency_s": _known(points.latency_s[shown]),
        "low_s": _known(points.low_s[shown]),
        "high_s": _known(points.high_s[shown]),
        "status": [
            names[PointStatus(status)] if is_measured else None
            for status, is_measured in zip(
                points.status[shown].tolist(), points.is_measured[shown].tolist(), strict=True
            )
        ],
    }


def _ratio_columns(ratios: Ratios, shown: Numbers) -> CurveRatios:
    return CurveRatios(
        ratio=_known(ratios.ratio[shown]),
        ratio_low=_known(ratios.low[shown]),
        ratio_high=_known(ratios.high[shown]),
        verdict=[
            _name_verdict(*of_point)
            for of_point in zip(
                ratios.ratio[shown].tolist(),
                ratios.is_faster[shown].tolist(),
                ratios.is_slower[shown].tolist(),
                strict=True,
            )
        ],
    )


def _name_verdict(ratio: float, is_faster: bool, is_slower: bool) -> Verdict | None:
    if math.isnan(ratio):
        return None
    return "faster" if is_faster else "slower" if is_slower else "ambiguous"


def _sum_up(summary: RatioSummary, num_lhps: tuple[int, int] | None) -> CurveRatioSummary:
    typical = summary.typical
    of_both, of_any = num_lhps or (None, None)
    return CurveRatioSummary(
        num_points=typical.num_pairs,
        num_faster=summary.num_faster,
        num_slower=summary.num_slower,
        num_undecided=summary.num_undecided,
        verdict=typical.verdict,
        ratio=typical.ratio,
        ratio_interval=(
            typical.low if typical.low > 0 else None,
            typical.high if typical.high < math.inf else None,
        ),
        spread=summary.spread,
        num_lhps_of_both=of_both,
        num_lhps_of_any=of_any,
    )


def _known(column: F64) -> list[float | None]:
    """The column; None for a value that isn't known."""
    return [None if math.isnan(value) else value for value in column.tolist()]
