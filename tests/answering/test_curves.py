"""What is kept of curves in memory is bounded."""

from __future__ import annotations

import pytest

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.answering.curves import KnownCurves
from profiler_service.grid import Grid
from profiler_service.storage.store import Store
from tests.api.conftest import keep_curve
from tests.api.curves import stairs

pytestmark = pytest.mark.anyio


async def test_small_curves_are_not_kept_without_end(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load_curve = sqlite_store.load_curve

    def counted(curve_id: str) -> LatencyCurve:
        loads.append(curve_id)
        return load_curve(curve_id)

    monkeypatch.setattr(sqlite_store, "load_curve", counted)
    # One point, and 100 for the curve itself: two curves fit, three don't.
    kept = [
        keep_curve(sqlite_store, Grid.window((first, 1), (0, 0)), stairs(8)) for first in (1, 2, 3)
    ]
    known = KnownCurves(sqlite_store, max_cached_points=250)
    for curve_id in (*kept, kept[2], kept[1], kept[0]):
        await known.load_curve(curve_id)
    # The last two were in memory; the first had been dropped for them.
    assert loads == [*kept, kept[0]]
