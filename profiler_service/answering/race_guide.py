"""Finds the newest stored curve that may guide a network's race.

Knows neither HTTP nor how a race uses it.
"""

from __future__ import annotations

from typing import Final

from profiler_service.grid import Grid
from profiler_service.plan.race.guide import OPERATORS, covers, find_factors, guide_of
from profiler_service.storage.store import CurveFilter, Host, Store
from profiler_service.workload import Workload

MAX_CURVES: Final = 200
"""Number of the newest curves that are searched: the search must be fast."""


def find_guide(
    store: Store, workload: Workload, window: Grid, host: Host
) -> tuple[tuple[float, ...], ...] | None:
    """The guide for the window's positions, from the newest curve of one of its operators.

    Uses only curves of the host's platform and protocol that cover all positions. None if there is
    none. Also None for workloads that aren't networks: their races take only a second.
    """
    if workload.kind not in OPERATORS:
        return None
    wanted = CurveFilter(platform_key=host.platform_key)
    for header in store.list_curves(wanted, limit=MAX_CURVES).items:
        factors = find_factors(workload, header.workload)
        if (
            factors is not None
            and header.protocol_key == host.protocol_key
            and covers(header.grid, factors, window)
        ):
            guide = guide_of(store.load_curve(header.id), factors, window)
            if guide is not None:
                return guide
    return None
