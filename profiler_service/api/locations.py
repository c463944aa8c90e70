"""Where a sweep is, as responses and OpenAPI tell it.

Relative to the address that was asked, `/lhp`, `/crossover` or `/sweeps`: a proxy may serve the
service below a path that the service itself doesn't know.
"""

from __future__ import annotations

from typing import Any

LOCATION_HEADER: dict[str, Any] = {
    "Location": {
        "description": "Address of the sweep, relative to this one.",
        "schema": {"type": "string"},
    }
}
"""What OpenAPI says of the header."""


def sweep_location(sweep_id: str) -> str:
    """The reference that leads from where sweeps are asked for to that sweep."""
    return f"sweeps/{sweep_id}"
