"""The names of the kernels that a curve compares, whose dims are only numbers."""

from __future__ import annotations

from collections.abc import Mapping

from profiler_service.kinds.kernels import KERNEL_KINDS, Kernel
from profiler_service.wire import CurveDetail

MOST_TICKS = 12
"""Most names below an axis. More would overlap."""


def kernel_names(curve: CurveDetail) -> dict[int, str]:
    """The name of each measured kernel by its number; empty for a curve over sizes."""
    kind = curve.workload.partition("[")[0]
    if kind not in {each.name for each in KERNEL_KINDS}:
        return {}
    return {number: str(Kernel.from_dims((number,))) for (number,) in curve.points.dims}


def choose_ticks(names: Mapping[int, str]) -> dict[int, str]:
    """At most MOST_TICKS of the names, evenly spread, with the dense kernels first."""
    numbers = sorted(names)
    dense = [number for number in numbers if Kernel.from_dims((number,)).is_dense]
    sparse = numbers[len(dense) :]
    space = MOST_TICKS - len(dense)
    every = max(1, -(-len(sparse) // space))
    return {number: names[number] for number in [*dense, *sparse[::every]]}
