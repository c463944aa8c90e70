"""Latency models in the database: what a host has learned, and the scores of its predictions.

Every function runs in the transaction of the `connection` that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from profiler_service.latency_model.calibration import Score
from profiler_service.latency_model.statistics import Statistics
from profiler_service.plan.spec import SweepState, grid_from_json
from profiler_service.storage import blobs, rows
from profiler_service.storage.batches import read_batches
from profiler_service.storage.model_records import (
    ModelHeader,
    ModelKey,
    ScoredPair,
    StoredModel,
    Unlearned,
)
from profiler_service.storage.statements import insert_or_ignore, read_now
from profiler_service.storage.tables import curves, hosts, latency_models, scores, sweeps

_ARRAYS = ("arrays",)


def find_headers(
    connection: Connection,
    kind: str | None,
    platform_key: str,
    protocol_key: str,
    *,
    version: str,
) -> list[ModelHeader]:
    """The models of that kind that this version can use, those with the most visits first.

    Of every kind if it is None.
    """
    columns = [column for column in latency_models.c if column.name not in _ARRAYS]
    found = connection.execute(
        sa.select(*columns)
        .where(sa.true() if kind is None else latency_models.c.kind == kind)
        .where(latency_models.c.platform_key == platform_key)
        .where(latency_models.c.protocol_key == protocol_key)
        .where(latency_models.c.version == version)
        .order_by(latency_models.c.num_visits.desc(), latency_models.c.workload_key)
    )
    return [_header_from_row(row) for row in found]


def find_model(connection: Connection, key: ModelKey, *, version: str) -> StoredModel | None:
    """The model; None if there is none, or if another version made it."""
    row = connection.execute(
        sa.select(latency_models).where(_is_of(key)).where(latency_models.c.version == version)
    ).one_or_none()
    if row is None:
        return None
    return StoredModel(header=_header_from_row(row), statistics=_unpack(row.arrays, row))


def learn(
    connection: Connection,
    sweep_id: str,
    key: ModelKey,
    found: Statistics,
    *,
    version: str,
) -> bool:
    """Whether the model now knows what the sweep `found`: each sweep is learned from once.

    Others who learn at the same time wait. A model of another version begins anew; the sweeps that
    it knew are learned again.
    """
    if not found.num_visits:
        return _mark_learned(connection, sweep_id, version)
    identity = {
        "platform_key": key.platform_key,
        "protocol_key": key.protocol_key,
        "workload_key": key.workload.key,
        **rows.workload_to_values(key.workload),
    }
    empty = Statistics.empty(len(found.right), len(key.workload.axes))
    begun = {**identity, "version": "", "generation": 0, "updated_at": read_now(connection)}
    insert_or_ignore(connection, latency_models, {**begun, **_pack(empty)})
    # Before the sweep's row, so that two who replace each other's models can't block each other.
    row = connection.execute(sa.select(latency_models).where(_is_of(key)).with_for_update()).one()
    if not _mark_learned(connection, sweep_id, version):
        return False
    is_mine = row.version == version
    if not is_mine:
        _forget_learned(connection, key, version, but=sweep_id)
    before = _unpack(row.arrays, row) if is_mine else empty
    connection.execute(
        sa.update(latency_models)
        .where(_is_of(key))
        .values(
            **_pack(before.followed_by(found)),
            version=version,
            spreads=row.spreads if is_mine else None,
            generation=row.generation + 1,
            updated_at=read_now(connection),
        )
    )
    return True


def _mark_learned(connection: Connection, sweep_id: str, version: str) -> bool:
    """Marks the sweep as learned from by that version; False if it was."""
    marked = connection.scalar(
        sa.update(sweeps)
        .where(sweeps.c.id == sweep_id)
        .where(sweeps.c.learned_as.is_distinct_from(version))
        .values(learned_as=version)
        .returning(sa.literal(1))
    )
    return marked is not None


def _forget_learned(connection: Connection, key: ModelKey, version: str, *, but: str) -> None:
    """Takes the version's mark from all other sweeps of a model that begins anew.

    While a fleet is upgraded, workers of two versions replace each other's models. What was learned
    meanwhile must be found again.
    """
    of_model = (
        sa.select(curves.c.sweep_id)
        .where(curves.c.workload_key == key.workload.key)
        .where(curves.c.platform_key == key.platform_key)
        .where(curves.c.protocol_key == key.protocol_key)
    )
    connection.execute(
        sa.update(sweeps)
        .where(sweeps.c.id.in_(of_model))
        .where(sweeps.c.id != but)
        .where(sweeps.c.learned_as == version)
        .values(learned_as=None)
    )


def keep_spreads(
    connection: Connection, key: ModelKey, spreads: Sequence[float], *, version: str
) -> None:
    """Keeps the spreads that were learned, if the model is still of that version."""
    connection.execute(
        sa.update(latency_models)
        .where(_is_of(key))
        .where(latency_models.c.version == version)
        .values(spreads=list(spreads), generation=latency_models.c.generation + 1)
    )


def find_unlearned(
    connection: Connection,
    host: str,
    *,
    version: str,
    modes: Sequence[str],
    without: Sequence[str],
) -> Unlearned | None:
    """The oldest sweep of those modes by that host that this version hasn't learned from.

    Kinds in `without` are left out. What was measured on the host's platform comes first. An
    earlier platform's model is learned, too: the present one may inherit it.
    """
    row = connection.execute(
        sa.select(curves)
        .join_from(curves, sweeps, curves.c.sweep_id == sweeps.c.id)
        .join(hosts, sweeps.c.host == hosts.c.name)
        .where(sweeps.c.host == host)
        .where(sweeps.c.state == SweepState.DONE)
        .where(sweeps.c.learned_as.is_distinct_from(version))
        .where(curves.c.mode.in_(list(modes)))
        .where(curves.c.kind.not_in(list(without)))
        .where(curves.c.origin.is_(None))
        .order_by(curves.c.platform_key != hosts.c.platform_key, curves.c.generation)
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return Unlearned(
        sweep_id=row.sweep_id,
        grid=grid_from_json(row.grid),
        key=ModelKey(
            workload=rows.workload_from_row(row),
            platform_key=row.platform_key,
            protocol_key=row.protocol_key,
        ),
        batches=read_batches(connection, row.sweep_id),
    )


def add_score(connection: Connection, sweep_id: str, key: ModelKey, scored: ScoredPair) -> bool:
    """Whether the score is new: a sweep has one at most."""
    now = read_now(connection)
    score = scored.score
    return insert_or_ignore(
        connection,
        scores,
        {
            "id": rows.create_id(now),
            "sweep_id": sweep_id,
            "platform_key": key.platform_key,
            "protocol_key": key.protocol_key,
            "kind": key.workload.kind,
            "workload_key": key.workload.key,
            "dims": rows.dims_to_text(scored.dims),
            "rival": rows.dims_to_text(scored.rival),
            "predicted": score.predicted,
            "deviation": score.deviation,
            "half_width": score.half_width,
            "distance": score.distance if math.isfinite(score.distance) else None,
            "measured": score.measured,
            "scored_at": now,
        },
    )


def list_scores(
    connection: Connection, kind: str, platform_key: str, protocol_key: str, *, limit: int
) -> list[ScoredPair]:
    """The newest scores of that kind, the oldest of them first."""
    found = connection.execute(
        sa.select(scores)
        .where(scores.c.platform_key == platform_key)
        .where(scores.c.protocol_key == protocol_key)
        .where(scores.c.kind == kind)
        .order_by(scores.c.id.desc())
        .limit(limit)
    ).all()
    return [_score_from_row(row) for row in reversed(found)]


def _is_of(key: ModelKey) -> sa.ColumnElement[bool]:
    return sa.and_(
        latency_models.c.platform_key == key.platform_key,
        latency_models.c.protocol_key == key.protocol_key,
        latency_models.c.workload_key == key.workload.key,
    )


def _header_from_row(row: rows.Row) -> ModelHeader:
    return ModelHeader(
        key=ModelKey(
            workload=rows.workload_from_row(row),
            platform_key=row.platform_key,
            protocol_key=row.protocol_key,
        ),
        generation=row.generation,
        num_visits=row.num_visits,
        num_sweeps=row.num_sweeps,
        spreads=None if row.spreads is None else tuple(row.spreads),
        updated_at=row.updated_at,
    )


def _score_from_row(row: rows.Row) -> ScoredPair:
    return ScoredPair(
        workload_key=row.workload_key,
        dims=rows.dims_from_text(row.dims),
        rival=rows.dims_from_text(row.rival),
        scored_at=row.scored_at,
        score=Score(
            predicted=row.predicted,
            deviation=row.deviation,
            half_width=row.half_width,
            distance=math.inf if row.distance is None else row.distance,
            measured=row.measured,
        ),
    )


def _pack(statistics: Statistics) -> dict[str, Any]:
    """The columns of the statistics: only features that some visit says anything about."""
    used = np.flatnonzero(np.diag(statistics.matrix))
    upper = np.triu_indices(len(used))
    columns: dict[str, npt.NDArray[Any]] = {
        "used": used.astype(np.int32),
        "matrix": statistics.matrix[np.ix_(used, used)][upper],
        "right": statistics.right[used],
        "windows": statistics.windows.ravel(),
        "size": np.array([len(statistics.right)], dtype=np.int64),
    }
    return {
        "num_visits": statistics.num_visits,
        "num_sweeps": statistics.num_sweeps,
        "arrays": blobs.pack_several(columns),
    }


def _unpack(arrays: bytes, row: rows.Row) -> Statistics:
    columns = blobs.unpack_several(arrays)
    size, used = int(columns["size"][0]), columns["used"]
    half = np.zeros((len(used), len(used)))
    half[np.triu_indices(len(used))] = columns["matrix"]
    matrix, right = np.zeros((size, size)), np.zeros(size)
    matrix[np.ix_(used, used)] = half + np.triu(half, 1).T
    right[used] = columns["right"]
    return Statistics(
        matrix=matrix,
        right=right,
        num_visits=row.num_visits,
        num_sweeps=row.num_sweeps,
        windows=columns["windows"].reshape(-1, len(row.axes), 2),
    )
