"""`lhp serve`: starts and stops the HTTP service and the worker process beside it.

Doesn't know what they do. This process never measures and never imports torch.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from profiler_service.errors import LhpError
from profiler_service.measurement.processors import find_measured_cpus, pin_away
from profiler_service.processes.exit_codes import INTERRUPTED
from profiler_service.processes.supervisor import WorkerKeeper
from profiler_service.settings import Settings
from profiler_service.telemetry.logs import configure_logging
from profiler_service.telemetry.traces import traced_as

logger = logging.getLogger(__name__)

BACKLOG = 2048
GRACE_S = 1
"""How long open requests may take to end once the service is asked to stop."""


SECURITY_HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("content-security-policy", "frame-ancestors 'none'; base-uri 'none'; object-src 'none'"),
]
"""Sent with every response: no browser takes it for something else, or shows it in another page."""


class ListenError(LhpError):
    """The service can't listen on the given address or port."""


def upgrade_database(settings: Settings) -> None:
    """Brings the tables of the store and of the job engine up to date. Raises StoreError.

    Hosts' roles get the rights on what is new.
    """
    from profiler_service import jobs
    from profiler_service.storage import schema

    schema.upgrade(settings.database_url)
    jobs.upgrade(settings)
    schema.renew_rights(settings.database_url)


def prepare_database(settings: Settings) -> None:
    """Returns if the database can be used. Creates and upgrades the embedded default database.

    Raises StoreError, also if a database that an operator has chosen needs `lhp db upgrade`.
    """
    from profiler_service.storage.store import Store

    if settings.database_url == Settings.model_fields["database_url"].get_default(
        call_default_factory=True
    ):
        upgrade_database(settings)
    Store.open(settings.database_url).close()


def run_service(settings: Settings, *, with_worker: bool, greet: Callable[[str], None]) -> int:
    """Runs the service until it is stopped; returns its exit code: 0, or 130 after Ctrl-C.

    Calls `greet` with the service's address once it answers.

    Raises ListenError if it can't listen, StoreError if it can't use its database, and
    MeasurementFailedError if the machine doesn't have the threads asked for. Nothing has been
    started then.
    """
    configure_logging(settings.log_format)
    with (
        traced_as("lhp-service"),
        contextlib.closing(listen_on(settings.listen, settings.port)) as listener,
    ):
        prepare_database(settings)
        _refuse_without_tokens(settings, listener)
        if with_worker:
            _make_way(settings)
        return _serve(settings, listener, with_worker=with_worker, greet=greet)


def listen_on(address: str, port: int) -> socket.socket:
    """A socket that listens on `address` and `port` (0: any free port).

    Raises ListenError if the port is in use, or the address isn't one of this machine.
    """
    try:
        family, _, _, _, target = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ListenError(
            f"can't listen on {address!r}: {error}", hint="use --listen 127.0.0.1"
        ) from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(target)
        # Listen at once, so that no other process can take the port while we start.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if port and error.errno == errno.EADDRINUSE:
            raise ListenError(
                f"port {port} is in use", hint="choose another with --port or LHP_PORT"
            ) from error
        raise ListenError(
            f"can't listen on {address}:{port}: {error.strerror}",
            hint="choose another address with --listen, or another port with --port",
        ) from error
    return listener


def _refuse_without_tokens(settings: Settings, listener: socket.socket) -> None:
    """Returns if only this machine reaches the service, or if there is an access token.

    Raises ListenError.
    """
    from profiler_service.storage.store import Store

    is_wide = not ipaddress.ip_address(listener.getsockname()[0]).is_loopback
    if not (settings.is_exposed or is_wide):
        return
    with contextlib.closing(Store.open(settings.database_url)) as store:
        num_tokens, _ = store.count_token_changes()
    if not num_tokens:
        where = f"listen on {settings.listen}" if is_wide else "serve a proxy"
        raise ListenError(
            f"refusing to {where}: anyone who reaches it could start measurements, and there are no"
            " access tokens yet",
            hint="run `lhp tokens bootstrap` first; or listen on 127.0.0.1, and reach it from"
            " elsewhere through an SSH tunnel",
        )
    if is_wide and not (settings.ssl_certfile or settings.trusted_proxies):
        logger.warning("listening without HTTPS: others on the network can read the tokens")


def _load(config: uvicorn.Config) -> None:
    """Returns when the server can start. Raises ListenError if HTTPS can't be set up."""
    if config.ssl_keyfile and not config.ssl_certfile:
        raise ListenError(
            "there is a key for HTTPS, but no certificate", hint="set LHP_SSL_CERTFILE"
        )
    try:
        config.load()
    except OSError as error:  # an ssl.SSLError is one
        raise ListenError(
            f"the certificate or the key for HTTPS can't be used: {error}",
            hint="LHP_SSL_CERTFILE and LHP_SSL_KEYFILE name PEM files that belong together",
        ) from error


def _make_way(settings: Settings) -> None:
    """Moves this process off the processors that the worker will measure on."""
    if settings.device == "cuda":
        return
    pin_away(find_measured_cpus(settings.threads))


def _serve(
    settings: Settings,
    listener: socket.socket,
    *,
    with_worker: bool,
    greet: Callable[[str], None],
) -> int:
    from profiler_service.app import create_app
    from profiler_service.processes.connections import (
        THIS_MACHINE,
        BoundedConnection,
        ConnectionLimits,
    )

    proxies = [each for each in settings.trusted_proxies.split(",") if each]

    class Connection(BoundedConnection):
        limits = ConnectionLimits(
            of_one_client=settings.share_of_client(settings.max_connections),
            shared=[*THIS_MACHINE, *map(ipaddress.ip_network, proxies)],
        )

    keeper = WorkerKeeper(
        [sys.executable, "-P", "-m", "profiler_service.cli", "worker", "--until-stdin-closes"]
    )
    app = create_app(settings, own_worker=(lambda: keeper.worker) if with_worker else None)
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.ssl_certfile else "http"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        ws="none",
        headers=SECURITY_HEADERS,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=proxies,
        ssl_certfile=settings.ssl_certfile or None,
        ssl_keyfile=settings.ssl_keyfile or None,
        lifespan="off",  # the server below runs it
        log_config=None,
        access_log=False,
        root_path=settings.root_path,
        limit_concurrency=settings.max_connections,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
    )
    _load(config)

    def begin_stopping() -> None:
        app.state.shutdown.begin()
        keeper.ask_to_stop()

    server = _Server(
        config,
        services=app.router.lifespan_context(app),
        on_started=lambda: greet(url),
        on_stopping=begin_stopping,
    )
    received: list[int] = []

    def exit_code() -> int:
        return INTERRUPTED if received[0] == signal.SIGINT else 0

    def stop(signal_number: int, _frame: FrameType | None) -> None:
        if received:
            # The worker ends when the pipe to it closes.
            os._exit(exit_code())
        received.append(signal_number)
        server.should_exit = True

    # Never undone: Ctrl-C must print nothing while Python ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with contextlib.ExitStack() as cleanup:
        if with_worker:
            keeper.start()
            cleanup.callback(keeper.stop)
        server.run(sockets=[listener])
    if not received:
        raise LhpError("the service ended without being stopped", hint="the log above says why")
    logger.info("stopped")
    return exit_code()


class _Server(uvicorn.Server):
    """uvicorn's server, which reports when it is ready and when it stops. Handles no signals.

    It runs in the context `services`. uvicorn would write a traceback if that can't be entered, and
    hide the error, which says what to do: the database is damaged, for example.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        services: contextlib.AbstractAsyncContextManager[object],
        on_started: Callable[[], None],
        on_stopping: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._services = services
        self._on_started = on_started
        self._on_stopping = on_stopping

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        async with self._services:
            await super().serve(sockets=sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stopping()
        await super().shutdown(sockets=sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
