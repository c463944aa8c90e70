"""A proxy before PostgreSQL that can swallow what is sent, as a dead server or network does.

Its connections stay open meanwhile, so that only the time that passes tells.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa


class Proxy:
    """Forwards connections to the server's socket, until told to hang."""

    def __init__(self, server: Path) -> None:
        self._server = str(server)
        self._flowing = threading.Event()
        self._flowing.set()
        self._hang_at = b""
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self) -> None:
        """From now on, nothing is passed on, in either direction."""
        self._flowing.clear()

    def hang_at(self, words: bytes) -> None:
        """Hangs as soon as a client sends these words, which the server won't see."""
        self._hang_at = words

    def recover(self) -> None:
        """Passes on what was held back, and everything from now on."""
        self._hang_at = b""
        self._flowing.set()

    def cut(self) -> None:
        """Ends all connections, which both sides notice."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends everything."""
        self._listener.close()
        self.cut()
        self.recover()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(
                    target=self._forward, args=(source, target, source is client), daemon=True
                ).start()

    def _forward(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if from_client and self._hang_at and self._hang_at in data:
                    self.hang()
                self._flowing.wait()
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxied(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the PostgreSQL at `url`, and the URL that leads through it."""
    parsed = sa.make_url(url)
    directory = parsed.query["host"]
    assert isinstance(directory, str)
    proxy = Proxy(Path(directory) / f".s.PGSQL.{parsed.port or 5432}")
    through = parsed.set(host="127.0.0.1", port=proxy.port, query={})
    try:
        yield proxy, through.render_as_string(hide_password=False)
    finally:
        proxy.close()
