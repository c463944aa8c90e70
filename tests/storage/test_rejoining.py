"""Keys that are used again, roles that are replaced, and who is kept out; on PostgreSQL."""

from __future__ import annotations

import datetime as dt
from contextlib import closing

import pytest
import sqlalchemy as sa

from profiler_service.access.audit import AuditFilter
from profiler_service.access.caller import Caller
from profiler_service.errors import ConflictError, HostRefusedError, JoinKeyRefusedError
from profiler_service.plan.spec import SweepState
from profiler_service.storage import roles
from profiler_service.storage.store import HostStatus, Store
from profiler_service.storage.tables import hosts, join_keys
from tests.processes.fake_worker import PROTOCOL, platform, spec, wait_until
from tests.storage.test_joining import create_key, machine, only_postgres, url_of
from tests.storage.test_leases import identity
from tests.storage.test_schema import connect

pytestmark = only_postgres

SOMEONE = Caller(address="192.0.2.7")


def let_keys_expire(database_url: str) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    with connect(database_url) as connection:
        connection.execute(sa.update(join_keys).values(expires_at=past))


def be_silent(database_url: str, **time: float) -> None:
    seen_at = dt.datetime.now(dt.UTC) - dt.timedelta(**time)
    with connect(database_url) as connection:
        connection.execute(sa.update(hosts).values(last_seen_at=seen_at))


def list_roles(database_url: str) -> set[str]:
    """The roles of hosts on this server, those of other tests included."""
    with connect(database_url) as connection:
        found = sa.text("SELECT rolname FROM pg_roles WHERE rolname LIKE 'lhp_host_%'")
        return set(connection.scalars(found))


def test_only_an_operator_lets_a_removed_host_in_again(store: Store) -> None:
    key = create_key(store, is_reusable=True)
    store.join(key, machine("one", "m1"))
    store.remove_host("one")
    for again in (key, create_key(store)):
        joined = store.join(again, machine("one", "m1"))
        assert (joined.host.status, joined.role) == (HostStatus.PENDING, "")
    # So does another machine under its name: by now, the name is m1's.
    with pytest.raises(ConflictError, match="'one' is machine m1"):
        store.join(create_key(store), machine("one", "m2"))
    store.set_status("one", HostStatus.APPROVED)
    assert store.join(key, machine("one", "m1")).role


def test_an_ephemeral_host_that_was_silent_comes_back_with_its_key(
    store: Store, database_url: str
) -> None:
    key = create_key(store, is_reusable=True, is_ephemeral=True)
    first = store.join(key, machine("one", "m1"))
    be_silent(database_url, hours=25)
    again = store.join(key, machine("one", "m2"))
    assert (again.host.status, again.host.machine) == (HostStatus.APPROVED, "m2")
    found = list_roles(database_url)
    assert (first.role in found, again.role in found) == (False, True)


def test_a_host_is_retired_once_for_its_silence(store: Store, database_url: str) -> None:
    joined = store.join(create_key(store, is_ephemeral=True), machine("one", "m1"))
    be_silent(database_url, hours=25)
    create_key(store)  # whatever happens next to the fleet
    assert joined.role not in list_roles(database_url)
    with pytest.raises(HostRefusedError, match="removed"):
        Store.open(url_of(database_url, joined))
    before = store.generation()
    create_key(store)
    assert store.generation() == before


def test_a_one_off_key_is_for_one_name(store: Store) -> None:
    key = create_key(store)
    store.join(key, machine("one", "m1"))
    with pytest.raises(JoinKeyRefusedError, match="by host 'one'"):
        store.join(key, machine("two", "m1"))
    assert [host.name for host in store.list_hosts()] == ["one"]


def test_lost_credentials_are_given_again_until_the_key_expires(
    store: Store, database_url: str
) -> None:
    key = create_key(store)
    store.join(key, machine("one", "m1"))
    assert store.join(key, machine("one", "m1")).role
    let_keys_expire(database_url)
    with pytest.raises(JoinKeyRefusedError, match="was used"):
        store.join(key, machine("one", "m1"))


def test_a_machine_may_wait_for_longer_than_its_key_is_valid(
    store: Store, database_url: str
) -> None:
    key = create_key(store, is_approved=False)
    store.join(key, machine("one", "m1"))
    let_keys_expire(database_url)
    assert store.join(key, machine("one", "m1")).host.status is HostStatus.PENDING
    store.set_status("one", HostStatus.APPROVED)
    assert store.join(key, machine("one", "m1")).role


def test_new_credentials_end_the_sessions_of_those_before(store: Store, database_url: str) -> None:
    first = store.join(create_key(store), machine("one", "m1"))
    url = sa.make_url(url_of(database_url, first)).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    with engine.connect() as session:
        # A role that owns something can't just be dropped.
        session.exec_driver_sql("SELECT lo_create(0)")
        session.commit()
        pid = session.scalar(sa.text("SELECT pg_backend_pid()"))
        second = store.join(create_key(store), machine("one", "m1"))

        def is_open() -> bool:
            with connect(database_url) as connection:
                found = sa.text("SELECT 1 FROM pg_stat_activity WHERE pid = :pid")
                return connection.scalar(found, {"pid": pid}) is not None

        wait_until(lambda: not is_open())
        session.invalidate()
    engine.dispose()
    found = list_roles(database_url)
    assert (first.role in found, second.role in found) == (False, True)


def test_a_machine_that_waits_changes_nothing_by_asking_again(
    store: Store, database_url: str
) -> None:
    key = create_key(store, is_approved=False)
    roles_before = list_roles(database_url)
    store.join(key, machine("one", "m1"), by=SOMEONE)

    def look() -> object:
        with connect(database_url) as connection:
            return (
                # The transaction that wrote each row last.
                connection.execute(sa.text("SELECT xmin::text FROM hosts")).all(),
                connection.execute(sa.text("SELECT xmin::text FROM join_keys")).all(),
                connection.execute(sa.text("SELECT id FROM audit")).all(),
                store.generation(),
                list_roles(database_url),
            )

    before = look()
    store.join(key, machine("one", "m1"), by=SOMEONE)
    assert look() == before
    assert list_roles(database_url) == roles_before


def test_a_host_that_was_never_let_in_gets_no_role_by_draining(store: Store) -> None:
    key = create_key(store, is_approved=False)
    store.join(key, machine("one", "m1"))
    with pytest.raises(ConflictError, match="'one' is pending"):
        store.set_status("one", HostStatus.DRAINING)
    assert store.join(key, machine("one", "m1")).role == ""


def test_a_copied_disk_doesn_t_take_over_while_its_original_measures(
    store: Store, database_url: str
) -> None:
    joined = store.join(create_key(store), machine("one", "m1"))
    worker = identity("w", machine="m1")
    with closing(Store.open(url_of(database_url, joined), worker=worker)) as original:
        original.take_lease("one")
        with pytest.raises(ConflictError, match=r"machine m1, has a running worker; .* copy"):
            store.join(create_key(store), machine("one", "m1", node="copy"))
        assert original.touch_host("one")[0] is HostStatus.APPROVED
        original.release_lease("one")
    # The machine itself, its worker stopped, may.
    assert store.join(create_key(store), machine("one", "m1")).role


def test_a_guessed_key_waits_for_nobody(store: Store, database_url: str) -> None:
    key = create_key(store)
    guess = key[:-1] + ("A" if key[-1] != "A" else "B")
    with connect(database_url) as other:
        other.execute(sa.select(join_keys).with_for_update())
        # Nothing is locked for it: it would fail here with StoreUnavailableError, after seconds.
        with pytest.raises(JoinKeyRefusedError, match="no join key of this installation"):
            store.join(guess, machine("one", "m1"))


def test_what_isn_t_written_like_a_key_needs_no_database(store: Store, database_url: str) -> None:
    with closing(Store.open(database_url, timeout_s=1)) as other:
        statements: list[str] = []
        sa.event.listen(
            other.shared_pool,
            "before_cursor_execute",
            lambda _connection, _cursor, statement, *_: statements.append(statement),
        )
        with pytest.raises(JoinKeyRefusedError, match="this is no join key"):
            other.join("lhpjoin_x", machine("one", "m1"))
        assert statements == []
        other.list_hosts()
        assert len(statements) == 1


def test_hosts_can_t_make_tables_where_everybody_could(store: Store, database_url: str) -> None:
    with connect(database_url) as connection:
        # As PostgreSQL 14 makes a database.
        connection.exec_driver_sql("GRANT CREATE ON SCHEMA public TO PUBLIC")
    joined = store.join(create_key(store), machine("one", "m1"))
    with (
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
        connect(url_of(database_url, joined)) as connection,
    ):
        connection.exec_driver_sql("CREATE TABLE mine (id INTEGER)")


def test_only_hosts_roles_are_changed(database_url: str) -> None:
    with connect(database_url) as connection:
        user = str(connection.scalar(sa.text("SELECT current_user")))
        for change in (roles.let_log_in, roles.shut_out, roles.end_sessions, roles.drop_role):
            with pytest.raises(ValueError, match="no role of a host"):
                change(connection, user)


def test_the_trail_tells_of_keys_and_of_who_joined_with_them(store: Store) -> None:
    key = create_key(store, by=SOMEONE, name="one", is_reusable=True)
    [made] = store.list_audit(AuditFilter(action="host.key")).items
    assert {name: made.details[name] for name in ("name", "approve", "reusable", "ephemeral")} == {
        "name": "one",
        "approve": "True",
        "reusable": "True",
        "ephemeral": "False",
    }
    store.join(key, machine("one", "m1"), by=SOMEONE)
    with pytest.raises(ConflictError):
        store.join(key, machine("one", "m2"), by=SOMEONE)
    joined, refused = (
        store.list_audit(AuditFilter(action=action)).items[0]
        for action in ("host.join", "host.join.refused")
    )
    assert joined.details == {"key": made.subject, "machine": "m1", "status": "approved"}
    assert (refused.subject, refused.details["key"]) == ("one", made.subject)
    assert "machine m2" in refused.details["reason"]
    # Guesses leave no entry: anybody can make any number of them.
    with pytest.raises(JoinKeyRefusedError):
        store.join(key[:-1] + ("A" if key[-1] != "A" else "B"), machine("x", "m3"), by=SOMEONE)
    assert len(store.list_audit(AuditFilter(since=made.at)).items) == 3


def test_a_changed_platform_becomes_a_host_of_its_own(store: Store, database_url: str) -> None:
    joined = store.join(create_key(store), machine("one", "m1"))
    url = url_of(database_url, joined)
    with pytest.raises(ConflictError, match="hasn't changed"):
        store.change_host("one", split_to="two")
    sweep, _ = store.create_sweep(spec(1), host="one")
    with closing(Store.open(url, worker=identity("w", machine="m1"))) as worker:
        worker.take_lease("one")
        worker.register_host("one", platform("other"), protocol=PROTOCOL, dtypes=["float32"])
        with pytest.raises(ConflictError, match="a host 'one' already"):
            store.change_host("one", split_to="one")
        split = store.change_host("one", split_to="two", by=SOMEONE)
        with pytest.raises(HostRefusedError, match="'one' has been removed"):
            worker.touch_host("one")
    assert (split.name, split.status, split.machine) == ("two", HostStatus.APPROVED, "m1")
    assert (split.platform_key, split.labels) == (platform("other").key, {"pool": "train"})
    before = store.get_host("one")
    assert (before.status, before.platform_key) == (HostStatus.RETIRED, platform().key)
    assert store.get_sweep(sweep.id).state is SweepState.FAILED
    # Started again with the credentials that the machine has, the worker is the new host's.
    with closing(Store.open(url, worker=identity("again", machine="m1"))) as worker:
        assert worker.find_joined_name() == "two"
        worker.take_lease("two")
        worker.register_host("two", platform("other"), protocol=PROTOCOL, dtypes=["float32"])
        assert worker.touch_host("two")[0] is HostStatus.APPROVED
    [entry] = store.list_audit(AuditFilter(subject="one", action="host.change")).items
    assert entry.details == {"split_to": "two"}
