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

from profiler_service.cli import CANNOT_RUN, INTERRUPTED, TRY_LATER
from profiler_service.cli.command import command_name
from profiler_service.errors import LhpError, UnknownHostError, WorkerAlreadyRunningError
from profiler_service.measurement.processors import (
    available_cpus,
    choose_measured_cpus,
    find_cpu_quota,
    pin_away,
)
from profiler_service.settings import Settings

logger = logging.getLogger(__name__)

BACKLOG = 2048
GRACE_S = 1
"""How long open requests may take to end once the service is asked to stop."""
MAX_DELAY_S = 30.0
"""Longest pause before a worker is started again."""
WORKER_GRACE_S = 10.0
"""How long the worker may take to put its batch away before it is killed."""
OTHER_WORKER_POLL_S = 5.0
"""How often to look whether another worker of this host has ended."""


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

    app = create_app(settings)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_S,
    )
    keeper = WorkerKeeper(
        [sys.executable, "-P", "-m", "profiler_service.cli", "worker", "--until-stdin-closes"]
    )

    def begin_stopping() -> None:
        app.state.closing.begin()
        keeper.ask_to_stop()

    server = _Server(config, on_started=lambda: _greet(url, settings), on_stopping=begin_stopping)
    received: list[int] = []

    def exit_code() -> int:
        return INTERRUPTED if received[0] == signal.SIGINT else 0

    def stop(signal_number: int, _frame: FrameType | None) -> None:
        if received:
            # The worker ends by itself when the pipe to it closes.
            os._exit(exit_code())
        received.append(signal_number)
        server.should_exit = True

    # For good: Ctrl-C must stay quiet until Python has ended, too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with contextlib.ExitStack() as cleanup:
        if with_worker:
            keeper.start()
            cleanup.callback(keeper.stop)
        server.run(sockets=[listener])
    if not received:
        raise LhpError("the service ended by itself", hint="the log above says why")
    logger.info("stopped")
    return exit_code()


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and when it stops; signals are its owner's."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_started: Callable[[], None],
        on_stopping: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._on_stopping = on_stopping

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


def _greet(url: str, settings: Settings) -> None:
    from profiler_service.storage.database import describe, parse_url

    lhp = ("" if url == settings.url else f"LHP_URL={url} ") + command_name()
    typer.echo(
        f"listening on {url}, keeping curves in {describe(parse_url(settings.database_url))}\n"
        "\n"
        "what to try next, in another terminal:\n"
        f"  {lhp} query 1197,317\n"
        f"  curl '{url}/lhp?dims=1197,317'\n"
        f"  {lhp} sweep matmul 256:320 && {lhp} plot -o curve.png\n"
        f"  {url}/docs\n"
        "\n"
        "Ctrl-C stops it; what was measured stays."
    )


class WorkerKeeper:
    """Keeps one worker process running until told to stop.

    A worker that ends unexpectedly is started again after 1, 2, 4, … seconds, at most
    `max_restarts` times in a row; one that lived for `healthy_s` starts the count anew. A
    worker that ends with `CANNOT_RUN` has said why, and is not started again; one that ends
    with `TRY_LATER` has said why, too, and is started again as often as it takes.
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

    def ask_to_stop(self) -> None:
        """Asks the worker to end, and starts no other; returns at once."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()

    def stop(self) -> None:
        """Ends the worker: politely first, by force after `WORKER_GRACE_S`."""
        self.ask_to_stop()
        process = self._process
        if process is not None:
            try:
                process.wait(WORKER_GRACE_S)
            except subprocess.TimeoutExpired:
                logger.warning("the worker didn't end in %g s: killing it", WORKER_GRACE_S)
                process.kill()
        self._thread.join()

    def _keep(self) -> None:
        restarts = postponed = 0
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
                restarts = postponed = 0
            if code == TRY_LATER:
                if not postponed:
                    logger.warning(
                        "the worker can't run now (see above): trying again now and then"
                    )
                self._stopping.wait(self._delay_s(postponed))
                postponed += 1
                continue
            if restarts == self._max_restarts:
                logger.error("the worker keeps ending: giving up after %d restarts", restarts)
                return
            delay_s = self._delay_s(restarts)
            restarts += 1
            logger.warning(
                "the worker ended unexpectedly (%s): starting it again in %g s (restart %d of %d)",
                _describe_exit(code),
                delay_s,
                restarts,
                self._max_restarts,
            )
            self._stopping.wait(delay_s)

    def _delay_s(self, num_before: int) -> float:
        # So many doublings pass any limit, and more would overflow.
        return min(MAX_DELAY_S, self._first_delay_s * 2.0 ** min(num_before, 30))


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def run_worker_alone(settings: Settings, run: Callable[[Settings], None]) -> None:
    """Calls `run`, the worker, as soon as no other worker of this host runs; then returns.

    Says once that another one runs, if so. Raises what `run` raises.
    """
    told = False
    while True:
        try:
            run(settings)
        except WorkerAlreadyRunningError as error:
            if not told:
                logger.warning("%s: %s", error, _describe_other_worker(settings))
            told = True
        else:
            return
        time.sleep(OTHER_WORKER_POLL_S)


def _describe_other_worker(settings: Settings) -> str:
    """What the worker that runs already means for the service on this database."""
    from profiler_service.api.views import is_present
    from profiler_service.storage.store import Store

    with contextlib.closing(Store.open(settings.database_url)) as store:
        try:
            present = is_present(store.get_host(settings.host), presence_s=settings.presence_s)
        except UnknownHostError:
            present = False
    if present:
        return "this service uses it"
    return (
        "it measures for another database, or is just starting; where it measures for another,"
        " nothing new is measured here until it ends"
    )


def end_when_stdin_closes() -> None:
    """Sends this process SIGTERM as soon as its standard input closes: its parent is gone."""

    def watch() -> None:
        # os.read, since sys.stdin's lock can't be released at interpreter exit.
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="stdin-watch", daemon=True).start()
