"""A PostgreSQL that can't keep anything, read-only or full: said with what to do, nothing lost."""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa

from profiler_service.errors import StoreNotWritableError
from profiler_service.storage.store import Store
from tests.storage.examples import PROTOCOL, create_platform, create_spec
from tests.storage.test_schema import connect

FULL = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON sweeps EXECUTE FUNCTION fail();
"""
"""Makes the server say what it says of a full disk when a sweep is to be kept."""


@pytest.fixture
def url(migrated_postgres_url: str) -> str:
    """A database with a host `east`."""
    with closing(Store.open(migrated_postgres_url)) as store:
        store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32"])
    return migrated_postgres_url


def run(url: str, *statements: str) -> None:
    with connect(url) as connection:
        for each in statements:
            connection.execute(sa.text(each))


def set_read_only(url: str, setting: str) -> None:
    name = sa.make_url(url).database
    run(
        url,
        "SET TRANSACTION READ WRITE",
        f"ALTER DATABASE {name} SET default_transaction_read_only = {setting}",
    )


def test_a_read_only_server_answers_and_keeps_nothing(url: str) -> None:
    set_read_only(url, "on")
    with closing(Store.open(url)) as store:
        assert [each.name for each in store.list_hosts()] == ["east"]
        with pytest.raises(StoreNotWritableError, match="is read-only") as noticed:
            store.check_usable()
        assert "no replica" in noticed.value.hint
        with pytest.raises(StoreNotWritableError, match="read-only transaction") as refused:
            store.create_sweep(create_spec(), host="east")
        assert "may be written" in refused.value.hint
        assert not store.list_sweeps().items
    set_read_only(url, "off")
    with closing(Store.open(url)) as store:
        assert store.create_sweep(create_spec(), host="east")[1]
        store.check_usable()


def test_a_full_disk_is_noticed_until_something_can_be_kept_again(url: str) -> None:
    run(url, FULL)
    with closing(Store.open(url)) as store:
        store.check_usable()  # only writing tells
        with pytest.raises(StoreNotWritableError, match="No space left on device") as refused:
            store.create_sweep(create_spec(), host="east")
        assert "make room on its disk" in refused.value.hint
        # From then on, it is said without writing.
        with pytest.raises(StoreNotWritableError, match="No space left on device"):
            store.check_usable()
        assert [each.name for each in store.list_hosts()] == ["east"]
        assert not store.list_sweeps().items
        run(url, "DROP TRIGGER full_disk ON sweeps")
        assert store.create_sweep(create_spec(), host="east")[1]
        store.check_usable()
