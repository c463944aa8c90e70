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

logger = logging.getLogger(__name__)

BACKLOG = 2048
GRACE_S = 1
"""How long open requests may take to end once the service is asked to stop."""


class ListenError(LhpError):
    """The service can't listen on the given address or port."""


def upgrade_database(settings: Settings) -> None:
    """Brings the tables of the store and of the job engine up to date. Raises StoreError."""
    from profiler_service import jobs
    from profiler_service.storage import schema

    schema.upgrade(settings.database_url)
    jobs.upgrade(settings)


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
    with contextlib.closing(listen_on(settings.listen, settings.port)) as listener:
        prepare_database(settings)
        if with_worker:
            _make_way(settings)
        return _serve(settings, listener, with_worker=with_worker, greet=greet)


def listen_on(address: str, port: int) -> socket.socket:
    """A socket that listens on `address` and `port` (0: any free port).

    Raises ListenError if the port is in use, or if other machines could reach the address.
    """
    try:
        family, _, _, _, target = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ListenError(
            f"can't listen on {address!r}: {error}", hint="use --listen 127.0.0.1"
        ) from error
    if not ipaddress.ip_address(target[0]).is_loopback:
        raise ListenError(
            f"refusing to listen on {address}: anyone who reaches it could start measurements,"
            " and there are no access tokens yet",
            hint="listen on 127.0.0.1, and reach it from elsewhere through an SSH tunnel",
        )
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
    from profiler_service.api.app import create_app
    from profiler_service.processes.connections import BoundedConnection

    keeper = WorkerKeeper(
        [sys.executable, "-P", "-m", "profiler_service.cli", "worker", "--until-stdin-closes"]
    )
    app = create_app(settings, own_worker=(lambda: keeper.worker) if with_worker else None)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedConnection,
        ws="none",
        proxy_headers=False,  # no response depends on them
        lifespan="off",  # the server below runs it
        log_config=None,
        access_log=False,
        root_path=settings.root_path,
        limit_concurrency=settings.max_connections,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
    )

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
