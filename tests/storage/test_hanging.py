"""A database that doesn't answer, while its connections stay open."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from profiler_service.errors import StoreUnavailableError
from profiler_service.storage import schema
from profiler_service.storage.database import create_database_engine, parse_url
from profiler_service.storage.postgres import BoundedConnection
from profiler_service.storage.store import Store
from tests.storage.examples import PROTOCOL, create_platform
from tests.storage.proxy import Proxy, proxied

TIMEOUT_S = 0.5
BOUND_S = 4.0
"""A transaction: a connection that turns out to be dead, a new one, and an answer."""


@pytest.fixture
def proxied_store(migrated_postgres_url: str) -> Iterator[tuple[Proxy, Store]]:
    """A store with a host, `east`, whose connections lead through a proxy."""
    with (
        proxied(migrated_postgres_url) as (proxy, url),
        closing(Store.open(url, timeout_s=TIMEOUT_S)) as store,
    ):
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
        yield proxy, store


def check_given_up(call: Callable[[], object], bound_s: float = BOUND_S) -> None:
    """Asserts that the call ends within the bound, with an error that says why."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="PostgreSQL database"):
        call()
    assert time.monotonic() - began < bound_s


def hang_while_connecting(proxy: Proxy) -> None:
    proxy.hang()
    proxy.cut()  # the store's connections are dead, and it makes new ones


@pytest.mark.parametrize(
    "hang",
    [
        pytest.param(hang_while_connecting, id="connecting"),
        pytest.param(Proxy.hang, id="before the statement, in the ping"),
        pytest.param(lambda proxy: proxy.hang_at(b"UPDATE hosts"), id="in the statement"),
        pytest.param(lambda proxy: proxy.hang_at(b"COMMIT"), id="in the commit"),
    ],
)
def test_a_transaction_is_given_up_wherever_the_database_hangs_and_works_again_afterwards(
    proxied_store: tuple[Proxy, Store], hang: Callable[[Proxy], None]
) -> None:
    proxy, store = proxied_store
    hang(proxy)
    check_given_up(lambda: store.touch_host("east"))
    proxy.recover()
    # What was held back may still be ending on the server.
    store.touch_host("east")
    assert store.get_host("east").name == "east"


@contextlib.contextmanager
def stopped(url: str, *, only_backends: bool) -> Iterator[None]:
    """In this context, the server's processes for this database stand still."""
    name = parse_url(url).database
    engine = sa.create_engine(parse_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        pids = list(
            connection.scalars(
                sa.text("SELECT pid FROM pg_stat_activity WHERE datname = :name"), {"name": name}
            )
        )
        if not only_backends:
            (own,) = connection.scalars(sa.text("SELECT pg_backend_pid()"))
            with open(f"/proc/{own}/stat") as stat:  # noqa: PTH123  it is no file
                pids.append(int(stat.read().rpartition(")")[2].split()[1]))
        assert pids
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
    engine.dispose()


def test_while_the_server_stands_still_transactions_are_given_up(
    migrated_postgres_url: str,
) -> None:
    with closing(Store.open(migrated_postgres_url, timeout_s=TIMEOUT_S)) as store:
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
        with stopped(migrated_postgres_url, only_backends=False):
            check_given_up(lambda: store.get_host("east"))
            check_given_up(store.generation)
        assert store.get_host("east").name == "east"


def test_connections_that_stand_still_are_replaced_by_new_ones(
    migrated_postgres_url: str,
) -> None:
    with closing(Store.open(migrated_postgres_url, timeout_s=TIMEOUT_S)) as store:
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
        with stopped(migrated_postgres_url, only_backends=True):
            assert store.get_host("east").name == "east"


def test_a_lock_of_another_is_waited_for_only_so_long(migrated_postgres_url: str) -> None:
    other = sa.create_engine(parse_url(migrated_postgres_url))
    with closing(Store.open(migrated_postgres_url, timeout_s=TIMEOUT_S)) as store:
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
        with other.begin() as connection:
            connection.execute(sa.text("SELECT * FROM hosts FOR UPDATE"))
            check_given_up(lambda: store.touch_host("east"))
        store.touch_host("east")
    other.dispose()


def test_connections_for_upgrades_have_no_limit(postgres_database_url: str) -> None:
    """An upgrade waits for another one, or makes an index of a large table."""
    engine = create_database_engine(parse_url(postgres_database_url))
    with engine.connect() as connection:
        for name in ("statement_timeout", "lock_timeout"):
            assert connection.scalar(sa.text(f"SHOW {name}")) == "0"
        assert not isinstance(connection.connection.dbapi_connection, BoundedConnection)
    engine.dispose()


def test_options_of_the_url_are_left_as_they_are(migrated_postgres_url: str) -> None:
    url = parse_url(migrated_postgres_url).update_query_dict(
        {"options": "-c statement_timeout=12345"}
    )
    engine = create_database_engine(url, timeout_s=1)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "12345ms"
    engine.dispose()


def test_sqlite_locked_by_another_is_waited_for_only_so_long(tmp_path: os.PathLike[str]) -> None:
    url = f"sqlite:///{tmp_path}/lhp.sqlite"
    schema.upgrade(url)
    other = sa.create_engine(url)
    with closing(Store.open(url, timeout_s=TIMEOUT_S)) as store:
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=[])
        with other.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="locked"):
                store.touch_host("east")
            with pytest.raises(StoreUnavailableError, match="locked"):
                store.check_usable()
            assert time.monotonic() - began < BOUND_S
            assert store.get_host("east").name == "east"  # reading waits for nobody
        store.touch_host("east")
    other.dispose()
