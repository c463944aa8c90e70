"""How many requests one client may send in a time: counted by the library `limits`, in memory.

Each process of the service counts for itself. Knows no route.
"""

from __future__ import annotations

import ipaddress
import math
import time

import limits
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

SHARE_AT_A_TIME = 100
"""A client takes a hundredth of its limit at a time, because counting takes about as long as
sending a known answer. So a limit may be exceeded by one percent."""


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the 64 bits of an IPv6 address's network.

    A network of 64 bits is the least that a customer gets (RFC 6177): one machine can have all of
    its addresses.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))


class RateLimit:
    """A limit such as `1000/second`, for each client of its own."""

    def __init__(self, text: str) -> None:
        """An empty text is no limit."""
        self._item = limits.parse(text) if text else None
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._num_at_a_time = max(1, self._item.amount // SHARE_AT_A_TIME) if self._item else 1
        self._left: dict[str, int] = {}
        """Client → requests that it has taken and not sent yet."""

    def take(self, client: str) -> int | None:
        """Takes one request of a known client. If there is none left, seconds until there is."""
        if self._item is None:
            return None
        left = self._left.get(client, 0)
        if left:
            self._left[client] = left - 1
            return None
        if self._limiter.hit(self._item, client, cost=self._num_at_a_time):
            self._left[client] = self._num_at_a_time - 1
            return None
        return self.take_one(client)

    def take_one(self, client: str) -> int | None:
        """As `take`, without keeping anything of the client beyond the limit's time."""
        if self._item is None or self._limiter.hit(self._item, client):
            return None
        reset_s = self._limiter.get_window_stats(self._item, client).reset_time - time.time()
        return max(1, math.ceil(reset_s))
