"""Places the kernels that a curve compares side by side, and names them: dims only number them."""

from __future__ import annotations

from collections.abc import Mapping

from profiler_service.kinds.kernels import DENSE_BACKENDS, Kernel
from profiler_service.plots.text import names_kernels
from profiler_service.wire import AxisRange, CurveDetail

MOST_TICKS = 12
"""Most names below an axis. More would overlap."""


def place_kernels(curve: CurveDetail) -> tuple[CurveDetail, dict[int, str]]:
    """The curve with its kernels numbered from 1 without gaps, and the name of each number.

    A curve over sizes comes back as it is, without names. The numbers of the sparse kernels have
    gaps, because few of them are measured: the dense ones would lie on top of each other.
    """
    if not names_kernels(curve):
        return curve, {}
    kernels = sorted(
        [*(dims[0] for dims in curve.points.dims), *(each.dims[0] for each in curve.failures)]
    )
    places = {kernel: number for number, kernel in enumerate(kernels, start=1)}
    points = curve.points.model_copy(
        update={
            "dims": [[places[kernel]] for (kernel,) in curve.points.dims],
            "rival": [
                None if rival is None or rival[0] not in places else [places[rival[0]]]
                for rival in curve.points.rival
            ],
        }
    )
    failures = [each.model_copy(update={"dims": [places[each.dims[0]]]}) for each in curve.failures]
    axes = [AxisRange(first=1, last=max(1, len(kernels)))]
    placed = curve.model_copy(update={"points": points, "failures": failures, "axes": axes})
    return placed, {number: str(Kernel.from_dims((kernel,))) for kernel, number in places.items()}


def choose_ticks(names: Mapping[int, str]) -> dict[int, str]:
    """At most MOST_TICKS of the names, evenly spread, with the dense kernels first."""
    dense = [number for number, name in names.items() if name in DENSE_BACKENDS]
    sparse = [number for number in names if number not in dense]
    every = max(1, -(-len(sparse) // (MOST_TICKS - len(dense))))
    return {number: names[number] for number in [*dense, *sparse[::every]]}
