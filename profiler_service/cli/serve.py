"""`lhp serve`: the HTTP service, and the worker process beside it, from start to end.

Knows the parts and the order in which they start and stop; nothing of what they do. This
process never measures and never imports torch.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import typer
import uvicorn

from profiler_service.cli import CANNOT_RUN, INTERRUPTED
from profiler_service.errors import LhpError
from profiler_service.measurement.processors import (
    available_cpus,
    choose_measured_cpus,
    find_cpu_quota,
    pin_away,
)
from profiler_service.settings import Settings

logger = logging.getLogger(__name__)

BACKLOG = 2048
GRACE_S = 3
"""How long open requests may take to end once the service is asked to stop."""
WORKER_GRACE_S = 10.0
"""How long the worker may take to put its batch away before it is killed."""


class ListenError(LhpError):
    """The service can't listen where it was told to."""


def configure_logging() -> None:
    """Sends what is logged to stderr, one line each: libraries from warnings on, us from info."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    logging.getLogger("profiler_service").setLevel(logging.INFO)


def upgrade_database(settings: Settings) -> None:
    """Brings the schema of store and job engine up to date. Raises StoreError."""
    from profiler_service import jobs
    from profiler_service.storage import schema

    schema.upgrade(settings.database_url)
    jobs.upgrade(settings)


def prepare_database(settings: Settings) -> None:
    """Returns where the database can be used; the embedded default is made and upgraded here.

    Raises StoreError; of a database that an operator has chosen, also where it needs
    `lhp db upgrade`.
    """
    from profiler_service.storage.store import Store

    if settings.database_url == Settings.model_fields["database_url"].get_default(
        call_default_factory=True
    ):
        upgrade_database(settings)
    Store.open(settings.database_url).close()


def run_service(settings: Settings, *, with_worker: bool) -> int:
    """The exit code of the service, once it was stopped: 0, or 130 after Ctrl-C.

    Raises ListenError where it can't listen, StoreError where it can't use its database, and
    MeasurementError where it can't have the threads asked for; nothing has been started then.
    """
    configure_logging()
    with contextlib.closing(listen_on(settings.listen, settings.port)) as listener:
        prepare_database(settings)
        if with_worker:
            _make_way(settings)
        return _serve(settings, listener, with_worker=with_worker)


def listen_on(address: str, port: int) -> socket.socket:
    """A socket that listens on `address` and `port` (0: any free port).

    Raises ListenError where the port is in use, or the address is wider than this machine.
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
        # Listening from now on, so that nobody else can take the port while we start.
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
    cpus = choose_measured_cpus(available_cpus(), settings.threads, quota=find_cpu_quota())
    pin_away(cpus)


def _serve(settings: Settings, listener: socket.socket, *, with_worker: bool) -> int:
    from profiler_service.api.app import create_app

    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    config = uvicorn.Config(
        create_app(settings),
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config, on_started=lambda: _greet(url, settings))
    keeper = WorkerKeeper(
        [sys.executable, "-P", "-m", "profiler_service.cli", "worker", "--until-stdin-closes"]
    )
    received: list[int] = []

    def stop(signal_number: int, _frame: FrameType | None) -> None:
        server.force_exit = bool(received)
        received.append(signal_number)
        server.should_exit = True

    with contextlib.ExitStack() as cleanup:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.signal(number, stop)
            cleanup.callback(signal.signal, number, previous)
        if with_worker:
            keeper.start()
            cleanup.callback(keeper.stop)
        server.run(sockets=[listener])
    if not received:
        raise LhpError("the service ended by itself", hint="the log above says why")
    logger.info("stopped")
    return INTERRUPTED if received[0] == signal.SIGINT else 0


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and leaves signals to its owner."""

    def __init__(self, config: uvicorn.Config, *, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _greet(url: str, settings: Settings) -> None:
    from profiler_service.storage.database import describe, parse_url

    ask_elsewhere = "" if url == settings.url else f"LHP_URL={url} "
    typer.echo(
        f"listening on {url}, keeping curves in {describe(parse_url(settings.database_url))}\n"
        "\n"
        "what to try next, in another terminal:\n"
        f"  {ask_elsewhere}lhp query 1197,317\n"
        f"  curl '{url}/lhp?dims=1197,317'\n"
        f"  {ask_elsewhere}lhp sweep matmul 256:320 && {ask_elsewhere}lhp plot\n"
        f"  {url}/docs\n"
        "\n"
        "Ctrl-C stops it; what was measured stays."
    )


class WorkerKeeper:
    """Keeps one worker process running until told to stop.

    A worker that ends unexpectedly is started again after 1, 2, 4, … seconds, at most
    `max_restarts` times in a row; one that lived for `healthy_s` starts the count anew. A
    worker that ends with `CANNOT_RUN` has said why, and is not started again.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        first_delay_s: float = 1.0,
        max_restarts: int = 8,
        healthy_s: float = 60.0,
    ) -> None:
        self._command = list(command)
        self._first_delay_s = first_delay_s
        self._max_restarts = max_restarts
        self._healthy_s = healthy_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="worker-keeper")

    def start(self) -> None:
        """Starts the first worker."""
        self._thread.start()

    def join(self) -> None:
        """Returns when no worker will be started any more."""
        self._thread.join()

    def stop(self) -> None:
        """Ends the worker: politely first, by force after `WORKER_GRACE_S`."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(WORKER_GRACE_S)
            except subprocess.TimeoutExpired:
                logger.warning("the worker didn't end in %g s: killing it", WORKER_GRACE_S)
                process.kill()
        self._thread.join()

    def _keep(self) -> None:
        restarts = 0
        while True:
            started = time.monotonic()
            with self._lock:
                if self._stopping.is_set():
                    return
                # A session of its own, so that Ctrl-C reaches only us; and a pipe that closes
                # when we die, however we die, so that no worker is left behind.
                process = self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, start_new_session=True
                )
            with process:
                code = process.wait()
            if self._stopping.is_set():
                return
            if code == CANNOT_RUN:
                logger.error(
                    "the worker can't run (see above): this machine doesn't measure,"
                    " what is measured already is still served"
                )
                return
            if time.monotonic() - started >= self._healthy_s:
                restarts = 0
            if restarts == self._max_restarts:
                logger.error("the worker keeps ending: giving up after %d restarts", restarts)
                return
            delay_s = min(30.0, self._first_delay_s * 2**restarts)
            restarts += 1
            logger.warning(
                "the worker ended unexpectedly (%s): starting it again in %g s (restart %d of %d)",
                _describe_exit(code),
                delay_s,
                restarts,
                self._max_restarts,
            )
            self._stopping.wait(delay_s)


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def end_when_stdin_closes() -> None:
    """Sends this process SIGTERM as soon as its standard input closes: its parent is gone."""

    def watch() -> None:
        # os.read, since sys.stdin's lock can't be released at interpreter exit.
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="stdin-watch", daemon=True).start()
