"""The address of the service: reads and checks it.

Sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

import httpx

from profiler_service.client.errors import ContractError
from profiler_service.errors import InvalidRequestError
from profiler_service.loopback import is_loopback


@dataclass(frozen=True, kw_only=True)
class Address:
    """The address of a service, with a path if a proxy offers it below one.

    `http://proxy/lhp` is such an address: its `/hosts` is at `http://proxy/lhp/hosts`.
    """

    url: httpx.URL
    """Without a slash at its end."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address, read from text. Raises InvalidRequestError."""
        try:
            url = httpx.URL(text.rstrip("/"))
            url.host.encode("idna")  # refuses names that can't be looked up, such as a..b
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InvalidRequestError(
                f"{text!a} is no address of a service: {error}", hint="write it as http://HOST:PORT"
            ) from error
        if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
            raise InvalidRequestError(
                f"{text!r} is no address of a service", hint="write it as http://HOST:PORT"
            )
        return cls(url=url)

    def __str__(self) -> str:
        """The address as text for people, without a password."""
        return str(self.url.copy_with(userinfo=b"")).rstrip("/")

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, where no proxy can reach it."""
        return is_loopback(self.url.host)

    def join(self, path: str) -> str:
        """The full address of a path of the service, for people."""
        return f"{self}/{path.lstrip('/')}"

    def resolve(self, location: str, *, asked: httpx.URL) -> str:
        """The path of the service that `location` means, in the response to a request at `asked`.

        `location` may be relative, or begin with a slash, or be a whole address. It may have the
        path that a proxy puts before all others, or not. Raises ContractError if it leads to
        another service: a token must not be sent there.
        """
        try:
            where = asked.join(location)
        except httpx.InvalidURL:
            where = asked
        origin = (asked.scheme, asked.host, asked.port)
        if where == asked or (where.scheme, where.host, where.port) != origin:
            raise ContractError(
                f"{self} says that the sweep is at {location or 'no address'!r}",
                hint="is this an LHP service? a proxy in front of it must not change the address",
            )
        path = where.raw_path.decode("ascii").partition("?")[0]
        if ".." in unquote(path).replace("\\", "/").split("/"):
            # A proxy would go up from the path below which it offers the service.
            raise ContractError(
                f"{self} says that the sweep is at {location!r}", hint="is this an LHP service?"
            )
        prefix = self.url.raw_path.decode("ascii").rstrip("/")
        return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path
