"""The header `Location` of a sweep, in responses and in OpenAPI.

It is relative to the address of the request, `/lhp`, `/crossover` or `/sweeps`: a proxy may offer
the service below a path that the service doesn't know.
"""

from __future__ import annotations

from typing import Any

LOCATION_HEADER: dict[str, Any] = {
    "Location": {
        "description": "Address of the sweep, relative to this one.",
        "schema": {"type": "string"},
    }
}
"""The header's description in OpenAPI."""


def sweep_location(sweep_id: str) -> str:
    """The relative reference from such an address to that sweep."""
    return f"sweeps/{sweep_id}"
