"""Checks of settings that are texts: each gives the text in its one form, or raises ValueError.

Doesn't know which setting a text is of.
"""

from __future__ import annotations

import ipaddress
import re


def check_device(name: str) -> str:
    """The name of a device: `auto`, `cpu` or `cuda`."""
    if name not in ("auto", "cpu", "cuda"):
        advice = ", and CUDA_VISIBLE_DEVICES says which" if name.startswith("cuda") else ""
        raise ValueError(f"the device is auto, cpu or cuda{advice}")
    return name


def with_one_slash(path: str) -> str:
    """The path with a slash before it and none after it; empty for the root."""
    inner = path.strip("/")
    return f"/{inner}" if inner else ""


def check_hosts(text: str) -> str:
    """Names of hosts, separated by commas without spaces."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            if not re.fullmatch(r"(\*\.)?[A-Za-z0-9._-]+", name):
                raise ValueError(
                    f"{name!r} is no host: give names or addresses without port and path"
                ) from None
    return ",".join(names)


def check_origins(text: str) -> str:
    """Origins as browsers write them, separated by commas without spaces; or `*`."""
    origins = [each.strip().lower().rstrip("/") for each in text.split(",") if each.strip()]
    for each in origins:
        if each != "*" and not re.fullmatch(
            r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", each
        ):
            raise ValueError(
                f"{each!r} is no origin: give scheme and name, and the port if it isn't the usual"
                " one, such as https://tools.example:8443"
            )
    if "*" in origins and len(origins) > 1:
        raise ValueError("`*` means every origin: give it alone, or list origins")
    usual = {"http": ":80", "https": ":443"}
    return ",".join(each.removesuffix(usual.get(each.partition(":")[0], ",")) for each in origins)


def check_variables(text: str) -> str:
    """Names and patterns of environment variables, separated by commas without spaces."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not re.fullmatch(r"[A-Za-z_*?][A-Za-z0-9_*?]*", name):
            raise ValueError(f"{name!r} is no variable: give names or patterns such as MINE_*")
    return ",".join(names)


def check_networks(text: str) -> str:
    """Addresses and networks, separated by commas without spaces."""
    networks = [each.strip() for each in text.split(",") if each.strip()]
    for each in networks:
        try:
            network = ipaddress.ip_network(each)
        except ValueError as error:
            raise ValueError(f"{error}: give addresses or networks such as 10.0.0.0/8") from None
        if network.prefixlen == 0:
            raise ValueError(f"{each} is everybody, and anybody can write X-Forwarded-For")
    return ",".join(networks)


def check_rate(text: str) -> str:
    """A number of requests in a time, such as `1000/second`; or nothing."""
    if not re.fullmatch(r"([1-9][0-9]{0,8}/(second|minute|hour))?", text.strip()):
        raise ValueError("write a number and a time: 1000/second, 60/minute, 500/hour")
    return text.strip()


MAX_CANARIES = 20


def check_canaries(text: str) -> str:
    """Dims of `linear`, separated by semicolons without spaces."""
    points = [point.replace(" ", "") for point in text.split(";") if point.strip()]
    if any(not re.fullmatch(r"[1-9][0-9]{0,8},[1-9][0-9]{0,8}", point) for point in points):
        raise ValueError("write dims of `linear`, separated by semicolons: 1197,317;512,512")
    if len(points) > MAX_CANARIES:
        raise ValueError(f"at most {MAX_CANARIES} points are shown")
    return ";".join(dict.fromkeys(points))
