"""Which names and addresses mean this machine itself. Looks nothing up."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether the name or address can only mean this machine.

    `localhost` and every name below it (RFC 6761), 127.0.0.0/8 and ::1. An IPv6 address may be in
    brackets, and a name may end with a dot.
    """
    name = host.lower().removesuffix(".").removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
