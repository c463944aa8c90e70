"""What a host may be called. Knows neither settings nor storage, which both ask."""

from __future__ import annotations

MAX_LENGTH = 255
TAKEN = ("keys", "join")
"""What stands below `/hosts` besides the hosts."""


def check_host_name(name: str) -> str:
    """The name, where a host may be called that.

    Printable characters, with spaces only inside, 255 at most. A name is only ever compared and
    printed, so nothing else is refused, except for what would be another address of the service.
    Raises ValueError.
    """
    if not name.strip():
        raise ValueError("the name of a host can't be empty")
    if len(name) > MAX_LENGTH:
        raise ValueError(f"the name of a host has {MAX_LENGTH} characters at most")
    if name != name.strip() or not name.isprintable():
        raise ValueError(
            "the name of a host is printable, and neither begins nor ends with a space"
        )
    if name in TAKEN:
        raise ValueError(f"no host is called {name!r}: /hosts/{name} is something else")
    return name
