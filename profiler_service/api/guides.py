"""The newest stored curve that may guide a race of a network.

Knows neither HTTP nor how a race uses it.
"""

from __future__ import annotations

from typing import Final

from profiler_service.grid import Grid
from profiler_service.guide import OPERATOR_AXES, covers, find_axis_map, guide_of
from profiler_service.storage.store import Host, Store
from profiler_service.workload import Workload

MAX_CURVES: Final = 200
"""So many of the newest curves are looked through: nobody is to wait for it."""


def find_guide(
    store: Store, workload: Workload, window: Grid, host: Host
) -> tuple[tuple[float, ...], ...] | None:
    """What the newest curve of one of the network's operators says of the window's positions.

    Only curves of the host's platform and protocol that cover all positions count. None where
    there is none, and for workloads that aren't networks: those are raced in a second.
    """
    if workload.kind not in OPERATOR_AXES:
        return None
    for header in store.list_curves(platform_key=host.platform_key, limit=MAX_CURVES).items:
        axis_map = find_axis_map(workload, header.workload)
        if (
            axis_map is not None
            and header.protocol_key == host.protocol_key
            and covers(header.grid, axis_map, window)
        ):
            guide = guide_of(store.load_curve(header.id), axis_map, window)
            if guide is not None:
                return guide
    return None
