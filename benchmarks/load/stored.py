"""Fills a database with synthetic curves: this part alone uses the service's own store."""

from __future__ import annotations

from dataclasses import replace

HOST = "stored"
FIRST, SIDE = 200, 100
"""Each curve is a grid of SIDE × SIDE points from FIRST × FIRST on: 10,000 points."""
LAST_ASKED = 256
"""Largest dims asked for on each axis: the window above it (an eighth) is inside of the curve."""


def fill(database_url: str, num_curves: int) -> None:
    """Stores so many curves of `linear`, one for each batch size from 1 on."""
    from benchmarks.stored_curve import PLATFORM, PROTOCOL, make_curve, store_many
    from profiler_service.kinds import LINEAR
    from profiler_service.storage.store import Store

    curve = make_curve(first=FIRST, side=SIDE)
    store = Store.open(database_url)
    store.register_host(HOST, PLATFORM, protocol=PROTOCOL, dtypes=("float32",))
    store.close()
    workloads = (LINEAR.describe({"batch": number + 1}) for number in range(num_curves))
    store_many(database_url, HOST, (replace(curve, workload=each) for each in workloads))
