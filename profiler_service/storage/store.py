"""The store: domain objects in and out, on SQLite or PostgreSQL.

The one module of this package that others import, with `schema`. It measures nothing and
computes no statistics; a curve is kept as it is given.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.errors import (
    ConflictError,
    InvalidRequestError,
    PlatformMismatchError,
    UnknownCurveError,
    UnknownHostError,
    UnknownPlatformError,
    UnknownSweepError,
)
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import Progress, SweepSpec, SweepState
from profiler_service.storage import rows, schema
from profiler_service.storage.database import (
    create_database_engine,
    database_errors,
    parse_url,
    write_access,
)
from profiler_service.storage.records import CurveHeader, Host, Page, Sweep
from profiler_service.storage.tables import (
    batches,
    curve_arrays,
    curves,
    generation,
    hosts,
    platforms,
    sweeps,
    unfinished,
)

__all__ = ["CurveHeader", "Host", "Page", "Store", "Sweep"]

MAX_PAGE_SIZE = 1000

T = TypeVar("T")

_SWEEPS = sa.select(sweeps, curves.c.id.label("curve_id")).outerjoin_from(
    sweeps, curves, curves.c.sweep_id == sweeps.c.id
)


class Store:
    """All that is kept, on SQLite or PostgreSQL. Safe to share between threads.

    Several processes may use one database at once. Any method raises StoreUnavailableError
    where the database can't be reached (any more).
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing_engine = write_access(engine)

    @classmethod
    def open(cls, url: str) -> Self:
        """The store at `url`, its schema checked.

        Raises:
            StoreUnavailableError: the database can't be reached, or `url` is malformed.
            SchemaTooOldError: `lhp db upgrade` must be run first (also on an empty database).
            SchemaTooNewError: a newer version wrote the schema.
        """
        engine = create_database_engine(parse_url(url))
        try:
            schema.check(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def close(self) -> None:
        """Releases every connection."""
        self._engine.dispose()

    def ping(self) -> None:
        """Returns when the database answers. Raises StoreUnavailableError."""
        with self._read() as connection:
            connection.execute(sa.select(1))

    # Hosts and platforms

    def register_host(
        self,
        name: str,
        platform: Platform,
        *,
        protocol: TimingProtocol,
        dtypes: Sequence[str],
        backends: Mapping[str, Sequence[str]] | None = None,
    ) -> Host:
        """The host `name`, now on `platform` and seen just now; registers both if new.

        `protocol` is how it takes time from now on, `backends` the dtypes that each backend of
        products multiplies; None stands for `dense` alone.
        """
        now = dt.datetime.now(dt.UTC)
        facts = {
            "platform_key": platform.key,
            "protocol_key": protocol.key,
            "dtypes": list(dtypes),
            "backends": None
            if backends is None
            else {name: list(having) for name, having in backends.items()},
        }
        with self._write() as connection:
            _register_platform(connection, platform)
            new = _insert_or_ignore(
                connection,
                hosts,
                {"name": name, **facts, "registered_at": now, "last_seen_at": now},
            )
            host = _get_host(connection, name, lock=True)
            connection.execute(
                sa.update(hosts).where(hosts.c.name == name).values(**facts, last_seen_at=now)
            )
            latest = _get_host(connection, name)
            if new or replace(latest, last_seen_at=host.last_seen_at) != host:
                _raise_generation(connection)
            return latest

    def touch_host(self, name: str) -> None:
        """Records a heartbeat. Raises UnknownHostError."""
        with self._write() as connection:
            touched = connection.execute(
                sa.update(hosts)
                .where(hosts.c.name == name)
                .values(last_seen_at=dt.datetime.now(dt.UTC))
            )
            if touched.rowcount == 0:
                raise _unknown_host(name)

    def get_host(self, name: str) -> Host:
        """The host called `name`. Raises UnknownHostError."""
        with self._read() as connection:
            return _get_host(connection, name)

    def list_hosts(self) -> list[Host]:
        """Every host, by name."""
        with self._read() as connection:
            found = connection.execute(sa.select(hosts).order_by(hosts.c.name))
            return [rows.host_from_row(row) for row in found]

    def get_platform(self, key: str) -> Platform:
        """The platform with `key`. Raises UnknownPlatformError."""
        with self._read() as connection:
            fields = connection.scalar(sa.select(platforms.c.fields).where(platforms.c.key == key))
        if fields is None:
            raise UnknownPlatformError(
                f"there is no platform {key!r}", hint="`GET /platforms` lists the known ones"
            )
        return Platform.from_json(fields)

    def list_platforms(self) -> list[Platform]:
        """Every platform ever registered, oldest first."""
        with self._read() as connection:
            found = connection.scalars(
                sa.select(platforms.c.fields).order_by(platforms.c.registered_at, platforms.c.key)
            )
            return [Platform.from_json(fields) for fields in found]

    # Sweeps and their samples

    def create_sweep(self, spec: SweepSpec, *, host: str) -> tuple[Sweep, bool]:
        """A queued sweep, and whether it is new.

        An unfinished, uncancelled sweep of the same spec (but for its seed) on the same host
        is returned instead of making a second one, also when two processes ask at the same
        moment. Raises UnknownHostError.
        """
        equal = (
            _SWEEPS.where(sweeps.c.host == host)
            .where(sweeps.c.spec_key == spec.key)
            .where(unfinished)
        )
        with self._write() as connection:
            _get_host(connection, host)
            while True:
                # The unique index on unfinished sweeps decides who is first.
                new = _insert_or_ignore(connection, sweeps, rows.sweep_to_values(spec, host=host))
                row = connection.execute(equal).one_or_none()
                if row is not None:
                    return rows.sweep_from_row(row), new
                # On PostgreSQL the other one may have ended between the two statements.

    def get_sweep(self, sweep_id: str) -> Sweep:
        """The sweep with that id. Raises UnknownSweepError."""
        with self._read() as connection:
            return _get_sweep(connection, sweep_id)

    def list_sweeps(
        self,
        *,
        host: str | None = None,
        state: SweepState | None = None,
        mode: str | None = None,
        oldest_first: bool = False,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Sweep]:
        """Sweeps, newest or oldest first. InvalidRequestError for a cursor it didn't give."""
        query = _SWEEPS
        for column, wanted in (
            (sweeps.c.host, host),
            (sweeps.c.state, state),
            (sweeps.c.mode, mode),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        return self._page(
            query,
            sweeps.c.id,
            rows.sweep_from_row,
            oldest_first=oldest_first,
            cursor=cursor,
            limit=limit,
        )

    def start_sweep(self, sweep_id: str, *, measured_as: str | None = None) -> Sweep:
        """The sweep, moved from queued to running; one that is past that stays as it is.

        `measured_as` names what its samples are taken on and how, from now on. Raises
        UnknownSweepError; PlatformMismatchError where batches kept were measured otherwise.
        """
        with self._write() as connection:
            connection.execute(
                sa.update(sweeps)
                .where(sweeps.c.id == sweep_id)
                .where(sweeps.c.state == SweepState.QUEUED)
                .values(state=SweepState.RUNNING, started_at=dt.datetime.now(dt.UTC))
            )
            sweep = _get_sweep(connection, sweep_id)
            if measured_as is not None and not sweep.state.is_final:
                _set_measured_as(connection, sweep_id, measured_as)
            return sweep

    def request_cancel(self, sweep_id: str) -> Sweep:
        """The sweep, marked to be cancelled; a queued one is cancelled at once.

        Raises UnknownSweepError; ConflictError where it has already ended.
        """
        with self._write() as connection:
            state = _lock_sweep(connection, sweep_id)
            if state.is_final:
                raise ConflictError(
                    f"sweep {sweep_id} has already ended: {state}",
                    hint="there is nothing left to cancel",
                )
            values: dict[str, Any] = {"cancel_requested": True}
            if state == SweepState.QUEUED:
                values |= {
                    "state": SweepState.CANCELLED,
                    "finished_at": dt.datetime.now(dt.UTC),
                }
            connection.execute(sa.update(sweeps).where(sweeps.c.id == sweep_id).values(values))
            return _get_sweep(connection, sweep_id)

    def fail_sweep(self, sweep_id: str, error: str) -> None:
        """Ends the sweep as failed, with the reason; one that has ended stays as it is.

        Raises UnknownSweepError.
        """
        with self._write() as connection:
            if not _lock_sweep(connection, sweep_id).is_final:
                _end_sweep(connection, sweep_id, SweepState.FAILED, error=error)

    def pause_sweep(self, sweep_id: str, reason: str) -> None:
        """Notes on the running sweep why it doesn't go on; its next batch takes that back.

        One that isn't running stays as it is. Raises UnknownSweepError.
        """
        with self._write() as connection:
            if _lock_sweep(connection, sweep_id) == SweepState.RUNNING:
                connection.execute(
                    sa.update(sweeps).where(sweeps.c.id == sweep_id).values(error=reason)
                )

    def commit_batch(self, sweep_id: str, index: int, samples: Samples, progress: Progress) -> bool:
        """Keeps batch number `index` and the progress, in one transaction.

        False, and nothing changed, where that batch is already kept. Raises
        UnknownSweepError; ConflictError for a new batch of a sweep that has ended.
        """
        values = rows.samples_to_values(samples)
        with self._write() as connection:
            state = _lock_sweep(connection, sweep_id)
            new = _insert_or_ignore(
                connection, batches, {"sweep_id": sweep_id, "number": index, **values}
            )
            if not new:
                return False
            if state.is_final:  # raising takes the batch back
                raise ConflictError(
                    f"sweep {sweep_id} has already ended: {state}",
                    hint="its curve is made: ask for a new sweep to measure more",
                )
            connection.execute(
                sa.update(sweeps)
                .where(sweeps.c.id == sweep_id)
                .values(progress=rows.progress_to_json(progress), error="")
            )
            return True

    def load_batches(self, sweep_id: str) -> list[Samples]:
        """Every batch kept for the sweep, in order of index (0, 1, 2, …).

        Raises UnknownSweepError.
        """
        with self._read() as connection:
            _get_sweep(connection, sweep_id)
            found = connection.execute(
                sa.select(batches).where(batches.c.sweep_id == sweep_id).order_by(batches.c.number)
            )
            return [rows.samples_from_row(row) for row in found]

    def last_measured_at(self, sweep_id: str) -> dt.datetime:
        """When the newest batch of the sweep was kept, UTC; without one, when it was created.

        Raises UnknownSweepError.
        """
        with self._read() as connection:
            newest = sa.select(sa.func.max(batches.c.measured_at))
            last = connection.scalar(newest.where(batches.c.sweep_id == sweep_id))
            return last or _get_sweep(connection, sweep_id).created_at

    # Curves

    def finish_sweep(
        self, sweep_id: str, curve: LatencyCurve | None, *, state: SweepState
    ) -> str | None:
        """Ends the sweep as `state` and keeps its curve (if any): the curve's id.

        One transaction, which also raises `generation`. Doing it again for a sweep that has
        ended changes nothing and returns the id kept then.

        Raises UnknownSweepError; ValueError for a state that isn't final.
        """
        if not state.is_final:
            raise ValueError(f"{state} ends no sweep")
        arrays = None if curve is None else rows.curve_arrays_to_values(curve)
        with self._write() as connection:
            if _lock_sweep(connection, sweep_id).is_final:
                return _get_sweep(connection, sweep_id).curve_id
            _end_sweep(connection, sweep_id, state)
            if curve is None or arrays is None:
                return None
            sweep = _get_sweep(connection, sweep_id)
            _register_platform(connection, curve.platform)
            values = rows.curve_to_values(curve)
            curve_id = str(values["id"])
            values |= {
                "sweep_id": sweep_id,
                "host": sweep.host,
                "mode": sweep.spec.mode,
                "generation": 0,
            }
            connection.execute(sa.insert(curves).values(values))
            connection.execute(sa.insert(curve_arrays).values(curve_id=curve_id, **arrays))
            # Last of all: from here to the commit, every other process that writes waits.
            connection.execute(
                sa.update(curves)
                .where(curves.c.id == curve_id)
                .values(generation=_raise_generation(connection))
            )
            return curve_id

    def get_curve_header(self, curve_id: str) -> CurveHeader:
        """The curve's header. Raises UnknownCurveError."""
        with self._read() as connection:
            row = connection.execute(sa.select(curves).where(curves.c.id == curve_id)).one_or_none()
        if row is None:
            raise _unknown_curve(curve_id)
        return rows.header_from_row(row)

    def load_curve(self, curve_id: str) -> LatencyCurve:
        """The curve with its arrays. Raises UnknownCurveError."""
        with self._read() as connection:
            row = connection.execute(
                sa.select(curves, curve_arrays, platforms.c.fields)
                .join_from(curves, curve_arrays)
                .join(platforms)
                .where(curves.c.id == curve_id)
            ).one_or_none()
        if row is None:
            raise _unknown_curve(curve_id)
        return rows.curve_from_row(row)

    def find_curves(
        self,
        workload_key: str,
        platform_key: str,
        protocol_key: str,
        *,
        after_generation: int = -1,
    ) -> list[CurveHeader]:
        """Headers of every such curve kept after that generation, the last one kept first."""
        with self._read() as connection:
            found = connection.execute(
                sa.select(curves)
                .where(curves.c.workload_key == workload_key)
                .where(curves.c.platform_key == platform_key)
                .where(curves.c.protocol_key == protocol_key)
                .where(curves.c.generation > after_generation)
                .order_by(curves.c.generation.desc())
            )
            return [rows.header_from_row(row) for row in found]

    def find_curves_of_kinds(
        self, kinds: Sequence[str], *, mode: Mode, after_generation: int, limit: int
    ) -> list[CurveHeader]:
        """Headers of the curves of these kinds and this mode kept since, the last one first."""
        with self._read() as connection:
            found = connection.execute(
                sa.select(curves)
                .where(curves.c.kind.in_(kinds))
                .where(curves.c.mode == mode)
                .where(curves.c.generation > after_generation)
                .order_by(curves.c.generation.desc())
                .limit(limit)
            )
            return [rows.header_from_row(row) for row in found]

    def find_newest_protocol(self, workload_key: str, platform_key: str) -> str | None:
        """Key of the protocol of the last such curve kept; None where there is none."""
        with self._read() as connection:
            return connection.scalar(
                sa.select(curves.c.protocol_key)
                .where(curves.c.workload_key == workload_key)
                .where(curves.c.platform_key == platform_key)
                .order_by(curves.c.generation.desc())
                .limit(1)
            )

    def list_curves(
        self,
        *,
        kind: str | None = None,
        platform_key: str | None = None,
        host: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[CurveHeader]:
        """Curve headers, newest first. InvalidRequestError for a cursor it didn't give."""
        query = sa.select(curves)
        for column, wanted in (
            (curves.c.kind, kind),
            (curves.c.platform_key, platform_key),
            (curves.c.host, host),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        return self._page(query, curves.c.id, rows.header_from_row, cursor=cursor, limit=limit)

    def generation(self) -> int:
        """A number that grows with every curve kept and every host registered or changed.

        Caches of answers are valid as long as it stays the same. Transactions raise it one
        after the other: whoever has read it can see every curve kept up to it.
        """
        with self._read() as connection:
            return int(connection.execute(sa.select(generation.c.value)).scalar_one())

    # Transactions

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with database_errors(self._engine.url), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with database_errors(self._engine.url), self._writing_engine.begin() as connection:
            yield connection

    def _page(
        self,
        query: sa.Select[Any],
        id_column: sa.Column[str],
        from_row: Callable[[rows.Row], T],
        *,
        oldest_first: bool = False,
        cursor: str | None,
        limit: int,
    ) -> Page[T]:
        if not 1 <= limit <= MAX_PAGE_SIZE:
            raise InvalidRequestError(
                f"limit {limit} is outside 1 to {MAX_PAGE_SIZE}",
                hint="ask for a smaller page, and follow its cursor",
            )
        if cursor is not None:
            if re.fullmatch(r"[0-9a-f]{32}", cursor) is None:
                raise InvalidRequestError(
                    "the cursor wasn't given by this list",
                    hint="leave the cursor out to start at the beginning",
                )
            query = query.where(id_column > cursor if oldest_first else id_column < cursor)
        order = id_column.asc() if oldest_first else id_column.desc()
        with self._read() as connection:
            found = connection.execute(query.order_by(order).limit(limit + 1)).all()
        return Page(
            items=[from_row(row) for row in found[:limit]],
            next_cursor=found[limit - 1].id if len(found) > limit else None,
        )


def _insert_or_ignore(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Inserts the row unless one with the same key is there: whether it did."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    # RETURNING, because an INSERT's row count isn't reported by every driver.
    statement = insert(table).values(values).on_conflict_do_nothing().returning(sa.literal(1))
    return connection.scalar(statement) is not None


def _register_platform(connection: Connection, platform: Platform) -> None:
    _insert_or_ignore(
        connection,
        platforms,
        {
            "key": platform.key,
            "fields": platform.to_json(),
            "registered_at": dt.datetime.now(dt.UTC),
        },
    )


def _raise_generation(connection: Connection) -> int:
    """The new generation; nobody else raises it until this transaction ends."""
    raised = sa.update(generation).values(value=generation.c.value + 1)
    return int(connection.execute(raised.returning(generation.c.value)).scalar_one())


def _get_host(connection: Connection, name: str, *, lock: bool = False) -> Host:
    query = sa.select(hosts).where(hosts.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise _unknown_host(name)
    return rows.host_from_row(row)


def _get_sweep(connection: Connection, sweep_id: str) -> Sweep:
    row = connection.execute(_SWEEPS.where(sweeps.c.id == sweep_id)).one_or_none()
    if row is None:
        raise _unknown_sweep(sweep_id)
    return rows.sweep_from_row(row)


def _lock_sweep(connection: Connection, sweep_id: str) -> SweepState:
    """The sweep's state, which nobody else changes until this transaction ends."""
    state = connection.scalar(
        sa.select(sweeps.c.state).where(sweeps.c.id == sweep_id).with_for_update()
    )
    if state is None:
        raise _unknown_sweep(sweep_id)
    return SweepState(state)


def _set_measured_as(connection: Connection, sweep_id: str, measured_as: str) -> None:
    otherwise = (
        sa.select(sweeps.c.id)
        .join_from(sweeps, batches)
        .where(sweeps.c.id == sweep_id)
        .where(sweeps.c.measured_as != measured_as)
    )
    if connection.execute(otherwise.limit(1)).first() is not None:
        raise PlatformMismatchError(
            "the host's platform or its way of timing has changed since the sweep began",
            hint="ask for a new sweep: samples of the two can't be mixed",
        )
    connection.execute(
        sa.update(sweeps).where(sweeps.c.id == sweep_id).values(measured_as=measured_as)
    )


def _end_sweep(
    connection: Connection, sweep_id: str, state: SweepState, *, error: str = ""
) -> None:
    connection.execute(
        sa.update(sweeps)
        .where(sweeps.c.id == sweep_id)
        .values(state=state, finished_at=dt.datetime.now(dt.UTC), error=error)
    )


def _unknown_host(name: str) -> UnknownHostError:
    return UnknownHostError(f"there is no host {name!r}", hint="`lhp hosts` lists the known ones")


def _unknown_sweep(sweep_id: str) -> UnknownSweepError:
    return UnknownSweepError(
        f"there is no sweep {sweep_id!r}", hint="`GET /sweeps` lists the known ones"
    )


def _unknown_curve(curve_id: str) -> UnknownCurveError:
    return UnknownCurveError(
        f"there is no curve {curve_id!r}", hint="`lhp curves` lists the known ones"
    )
