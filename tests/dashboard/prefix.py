"""A proxy that offers a service below a path, which it strips, as nginx does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx

DROPPED = {"transfer-encoding", "content-encoding", "content-length", "connection"}


@contextlib.contextmanager
def offered_below(path: str, url: str) -> Iterator[str]:
    """The address at which the service at `url` is offered below `path`; nothing else is there."""

    class Handler(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            if not self.path.startswith(f"{path}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sent = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            reply = httpx.request(
                self.command,
                url + self.path.removeprefix(path),
                headers=sent,
                content=body,
                timeout=60,
            )
            self.send_response(reply.status_code)
            for name, value in reply.headers.items():
                if name.lower() not in DROPPED:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        do_GET = do_POST = _forward  # noqa: N815  the names that http.server calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{path}"
        server.shutdown()
