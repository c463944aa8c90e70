"""Machines join with keys, and get roles of their own; on PostgreSQL, and refused on SQLite."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
import sqlalchemy as sa

from profiler_service import jobs
from profiler_service.access.audit import AuditFilter
from profiler_service.access.caller import Caller
from profiler_service.access.join_keys import JoinTerms
from profiler_service.errors import (
    ConflictError,
    HostRefusedError,
    HostTakenError,
    InvalidRequestError,
    JoinKeyRefusedError,
    UnknownJoinKeyError,
)
from profiler_service.plan.spec import SweepState
from profiler_service.settings import Settings
from profiler_service.storage import roles
from profiler_service.storage.database import ROLE_PREFIX
from profiler_service.storage.roles import JOBS_SCHEMA
from profiler_service.storage.store import HostStatus, Joined, Joining, Store
from profiler_service.storage.tables import hosts, installation, join_keys
from tests.processes.fake_worker import HOST, PATIENCE_S, PROTOCOL, platform, spec, wait_until
from tests.processes.test_one_measurer import Make, make
from tests.storage.test_leases import identity
from tests.storage.test_schema import connect

__all__ = ["make"]

only_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

TERMS = JoinTerms(labels={"pool": "train"}, is_approved=True, is_ephemeral=False, is_reusable=False)


def machine(name: str, identity: str, **changes: object) -> Joining:
    joining = Joining(
        name=name,
        machine=identity,
        node=f"node of {identity}",
        platform=platform(),
        protocol_key=PROTOCOL.key,
        dtypes=("float32",),
        backends={"dense": ("float32",)},
        findings={},
    )
    return replace(joining, **changes)  # type: ignore[arg-type]


def create_key(
    store: Store, *, lifetime_s: float = 3600, by: Caller | None = None, **changes: object
) -> str:
    terms = replace(TERMS, **changes)  # type: ignore[arg-type]
    return store.create_join_key(terms, lifetime_s=lifetime_s, by=by)[1]


def url_of(database_url: str, joined: Joined) -> str:
    url = sa.make_url(database_url).set(username=joined.role, password=joined.password)
    return url.render_as_string(hide_password=False)


@only_postgres
def test_a_machine_that_joins_is_a_host_as_its_key_says(store: Store) -> None:
    host = store.join(create_key(store, name="gpu-a"), machine("node7", "m1")).host
    assert (host.name, host.labels, host.status) == (
        "gpu-a",
        {"pool": "train"},
        HostStatus.APPROVED,
    )
    assert (host.machine, host.platform_key, host.is_ephemeral) == ("m1", platform().key, False)
    assert host.role is not None and host.role.startswith(ROLE_PREFIX)
    pending = store.join(create_key(store, is_approved=False), machine("node8", "m2")).host
    assert (pending.name, pending.status) == ("node8", HostStatus.PENDING)
    poor = machine("node9", "m3", findings={"spread": "too wide"})
    assert store.join(create_key(store), poor).host.status is HostStatus.QUARANTINED


@only_postgres
def test_a_one_off_key_lets_one_machine_in_and_a_reusable_one_several(store: Store) -> None:
    once = create_key(store)
    store.join(once, machine("one", "m1"))
    with pytest.raises(JoinKeyRefusedError, match=r"was used at .* by host 'one'") as refusal:
        store.join(once, machine("two", "m2"))
    assert "lhp hosts add" in refusal.value.hint
    several = create_key(store, is_reusable=True)
    for name in ("three", "four"):
        assert store.join(several, machine(name, name)).host.name == name
    assert [host.name for host in store.list_hosts()] == ["four", "one", "three"]


@only_postgres
def test_a_refused_join_uses_no_key_and_leaves_nothing(store: Store) -> None:
    store.join(create_key(store), machine("one", "m1"))
    key = create_key(store)
    with pytest.raises(ConflictError, match="'one' is machine m1; this one is machine m2"):
        store.join(key, machine("one", "m2"))
    assert store.join(key, machine("two", "m2")).host.name == "two"


@only_postgres
def test_keys_that_let_nobody_in_say_why(store: Store, database_url: str) -> None:
    with pytest.raises(JoinKeyRefusedError, match="no join key"):
        store.join("hunter2", machine("one", "m1"))
    key = create_key(store)
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    with pytest.raises(JoinKeyRefusedError, match="no join key of this installation"):
        store.join(wrong, machine("one", "m1"))
    with connect(database_url) as connection:
        past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
        connection.execute(sa.update(join_keys).values(expires_at=past))
    with pytest.raises(JoinKeyRefusedError, match="expired at"):
        store.join(key, machine("one", "m1"))
    with connect(database_url) as connection:
        connection.execute(sa.update(installation).values(value="00000000"))
    with pytest.raises(JoinKeyRefusedError, match=r"installation \w{8}; this is .* 00000000"):
        store.join(key, machine("one", "m1"))
    assert store.list_hosts() == []


@only_postgres
def test_a_key_s_text_isn_t_kept(store: Store, database_url: str) -> None:
    key = create_key(store)
    secret = key.split("_", 3)[3]
    with connect(database_url) as connection:
        [row] = connection.execute(sa.select(join_keys)).all()
    assert secret not in str(row)


@only_postgres
def test_a_pending_machine_asks_again_and_gets_in_when_it_is_approved(
    store: Store, database_url: str
) -> None:
    key = create_key(store, is_approved=False)
    store.join(key, machine("one", "m1"))
    with pytest.raises(JoinKeyRefusedError):
        store.join(key, machine("one", "m2"))
    pending = store.join(key, machine("one", "m1"))
    assert (pending.host.status, pending.role, pending.password) == (HostStatus.PENDING, "", "")
    store.set_status("one", HostStatus.APPROVED)
    joined = store.join(key, machine("one", "m1"))
    with closing(Store.open(url_of(database_url, joined))) as opened:
        assert opened.find_joined_name() == "one"
        assert store.find_joined_name() is None


@only_postgres
def test_a_host_s_role_has_only_what_a_worker_needs(store: Store, database_url: str) -> None:
    jobs.upgrade(Settings(database_url=database_url, host=HOST))
    joined = store.join(create_key(store), machine("one", "m1"))
    for statement in (
        "CREATE TABLE mine (id INTEGER)",
        "DROP TABLE batches",
        "SELECT * FROM tokens",
        "SELECT * FROM join_keys",
        "INSERT INTO hosts (name) VALUES ('two')",
        "UPDATE hosts SET status = 'approved'",
        "UPDATE hosts SET platform_key = 'x'",
        "DELETE FROM curves",
        "CREATE ROLE mine",
        "CREATE SCHEMA mine",
        "CREATE TABLE dbos.mine (id INTEGER)",
    ):
        with (
            pytest.raises(sa.exc.ProgrammingError, match=r"permission denied|must be owner"),
            connect(url_of(database_url, joined)) as connection,
        ):
            connection.exec_driver_sql(statement)


@only_postgres
def test_a_joined_host_measures_and_a_removed_one_is_told_and_ends(
    store: Store, database_url: str, make: Make
) -> None:
    settings = Settings(database_url=database_url, host=HOST)
    jobs.upgrade(settings)
    joined = store.join(create_key(store, name=HOST), machine(HOST, "m1"))
    credentials = {"LHP_DATABASE_URL": url_of(database_url, joined), "FAKE_MACHINE": "m1"}
    # The name that counts is the one that operators know.
    one = make("one", **credentials, LHP_HOST="elsewhere")
    worker = one.start()
    with closing(jobs.JobClient(settings)) as client:
        sweep, _ = store.create_sweep(spec(2), host=HOST)
        client.enqueue(sweep)
        wait_until(lambda: store.get_sweep(sweep.id).state is SweepState.DONE)
    assert [host.name for host in store.list_hosts()] == [HOST]
    store.remove_host(HOST)
    assert worker.wait(PATIENCE_S) == 78, one.output()
    assert "has been removed" in one.output()
    with connect(database_url) as connection:
        sessions = sa.text("SELECT count(*) FROM pg_stat_activity WHERE usename = :role")
        assert connection.scalar(sessions, {"role": joined.role}) == 0
    assert one.start().wait(PATIENCE_S) != 0
    assert "Traceback" not in one.output()
    assert one.output().count("has been removed") >= 2


@only_postgres
def test_a_copied_disk_is_refused_with_both_machines_named(store: Store, database_url: str) -> None:
    joined = store.join(create_key(store), machine("one", "m1"))
    with closing(
        Store.open(url_of(database_url, joined), worker=identity("copy", machine="m2"))
    ) as copy:
        copy.take_lease("one")
        with pytest.raises(HostTakenError, match=r"machine m1; this one is machine m2 \(process"):
            copy.register_host("one", platform(), protocol=PROTOCOL, dtypes=["float32"])


@only_postgres
def test_a_changed_platform_waits_for_an_operator(store: Store, database_url: str) -> None:
    joined = store.join(create_key(store), machine("one", "m1"))
    with closing(
        Store.open(url_of(database_url, joined), worker=identity("w", machine="m1"))
    ) as worker:
        worker.take_lease("one")

        def register(model: str) -> HostStatus:
            return worker.register_host(
                "one", platform(model), protocol=PROTOCOL, dtypes=["float32"]
            ).status

        assert register("fake") is HostStatus.APPROVED
        assert register("other") is HostStatus.QUARANTINED
        assert store.get_host("one").platform_key == platform().key
        with pytest.raises(HostRefusedError, match="quarantined"):
            worker.touch_host("one")
        # It matches again.
        assert register("fake") is HostStatus.APPROVED
        register("other")
        # The operator accepts what it is now.
        assert store.set_status("one", HostStatus.APPROVED).platform_key == platform("other").key
        assert worker.touch_host("one")[0] is HostStatus.APPROVED


@only_postgres
def test_a_silent_ephemeral_host_can_t_log_in_any_more(store: Store, database_url: str) -> None:
    joined = store.join(create_key(store, is_ephemeral=True), machine("one", "m1"))
    with connect(database_url) as connection:
        silent = dt.datetime.now(dt.UTC) - dt.timedelta(hours=25)
        connection.execute(sa.update(hosts).values(last_seen_at=silent))
    create_key(store)  # whatever happens next to the fleet
    with pytest.raises(HostRefusedError):
        Store.open(url_of(database_url, joined))
    # It may come back with a new key.
    assert store.join(create_key(store), machine("one", "m9")).host.machine == "m9"


@only_postgres
def test_a_service_that_may_not_create_roles_says_so(store: Store, database_url: str) -> None:
    role = f"{ROLE_PREFIX}plain"
    with connect(database_url) as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    url = sa.make_url(database_url).set(username=role)
    try:
        with closing(Store.open(url.render_as_string(hide_password=False))) as plain:
            key = create_key(plain)
            with pytest.raises(ConflictError, match="may not create roles") as refusal:
                plain.join(key, machine("one", "m1"))
            assert "CREATEROLE" in refusal.value.hint
    finally:
        with connect(database_url) as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {role}")
            connection.exec_driver_sql(f"DROP ROLE {role}")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_file_has_no_fleet(store: Store) -> None:
    with pytest.raises(ConflictError, match="SQLite") as refusal:
        create_key(store)
    assert "postgresql://" in refusal.value.hint
    assert store.find_joined_name() is None


def test_the_job_engine_s_schema_is_the_one_that_is_granted() -> None:
    assert JOBS_SCHEMA == jobs.SCHEMA


@only_postgres
def test_a_revoked_key_lets_nobody_in_also_who_waits_with_it(store: Store) -> None:
    key = create_key(store, is_approved=False, is_reusable=True)
    store.join(key, machine("one", "m1"))
    [listed] = store.list_join_keys().items
    revoked = store.revoke_join_key(listed.id, by=Caller())
    assert revoked.revoked_at is not None
    for name, its in (("one", "m1"), ("two", "m2")):
        with pytest.raises(JoinKeyRefusedError, match="was revoked at"):
            store.join(key, machine(name, its))
    # What has joined stays.
    assert [host.name for host in store.list_hosts()] == ["one"]
    assert store.revoke_join_key(listed.id, by=Caller()).revoked_at == revoked.revoked_at
    with pytest.raises(UnknownJoinKeyError):
        store.revoke_join_key("0" * 32, by=Caller())
    trail = store.list_audit(AuditFilter(action="host.key.revoke")).items
    assert [each.subject for each in trail] == [listed.id]


@only_postgres
def test_keys_are_listed_newest_first_with_who_used_them(store: Store) -> None:
    store.join(create_key(store, name="gpu-a"), machine("node7", "m1"))
    create_key(store, is_reusable=True)
    first = store.list_join_keys(limit=1)
    [unused], [used] = first.items, store.list_join_keys(cursor=first.next_cursor).items
    assert (unused.terms.is_reusable, unused.used_at, unused.used_by) == (True, None, None)
    assert (used.terms.name, used.used_by) == ("gpu-a", "gpu-a")
    assert used.used_at is not None and used.terms.labels == {"pool": "train"}


@only_postgres
def test_on_a_new_server_a_restored_host_can_be_managed_and_join_again(
    store: Store, database_url: str
) -> None:
    joined = store.join(create_key(store), machine("one", "m1"))
    # A backup has no roles.
    with connect(database_url) as connection:
        connection.exec_driver_sql(f"DROP ROLE {joined.role}")
    assert store.set_status("one", HostStatus.DRAINING).status is HostStatus.DRAINING
    assert store.set_status("one", HostStatus.APPROVED).status is HostStatus.APPROVED
    again = store.join(create_key(store), machine("one", "m1"))
    with closing(Store.open(url_of(database_url, again))) as opened:
        assert opened.find_joined_name() == "one"
    with connect(database_url) as connection:
        connection.exec_driver_sql(f"DROP ROLE {again.role}")
    assert store.remove_host("one").status is HostStatus.RETIRED


@pytest.mark.parametrize("name", ["keys", "join"])
def test_no_host_has_the_name_of_another_address(store: Store, name: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"/hosts/{name} is something else"):
        store.register_host(name, platform(), protocol=PROTOCOL, dtypes=["float32"])


@only_postgres
def test_machines_that_join_at_once_wait_for_each_other(store: Store, database_url: str) -> None:
    key = create_key(store)

    def is_waiting() -> bool:
        with connect(database_url) as other:
            waiting = sa.text(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(other.scalar(waiting) == 1)

    with ThreadPoolExecutor(1) as pool:
        with connect(database_url) as connection:
            value = connection.scalar(sa.select(installation.c.value))
            roles.create_role(connection, str(value))
            joining = pool.submit(store.join, key, machine("one", "m1"))
            wait_until(is_waiting)
        assert joining.result(PATIENCE_S).host.name == "one"
