"""Latency models, and the scores of their predictions. Others use it as part of `store.Store`."""

from __future__ import annotations

from collections.abc import Sequence

from profiler_service.latency_model.fit import Spreads
from profiler_service.latency_model.statistics import Statistics
from profiler_service.storage import models
from profiler_service.storage.model_records import (
    ModelHeader,
    ModelKey,
    ScoredPair,
    StoredModel,
    Unlearned,
)
from profiler_service.storage.open_database import OpenDatabase


class ModelStore(OpenDatabase):
    """Latency models, in SQLite or PostgreSQL. What it raises: see `store.Store`."""

    def find_model_headers(
        self, kind: str | None, platform_key: str, protocol_key: str, *, version: str
    ) -> list[ModelHeader]:
        """The models of that kind that this version can use, those with the most visits first.

        Of every kind if it is None.
        """
        with self._read() as connection:
            return models.find_headers(
                connection, kind, platform_key, protocol_key, version=version
            )

    def find_model(self, key: ModelKey, *, version: str) -> StoredModel | None:
        """The model; None if there is none, or if another version made it."""
        with self._read() as connection:
            return models.find_model(connection, key, version=version)

    def learn(self, sweep_id: str, key: ModelKey, found: Statistics, *, version: str) -> bool:
        """Whether the model now knows what the sweep `found`: each sweep is learned from once."""
        with self._write() as connection:
            return models.learn(connection, sweep_id, key, found, version=version)

    def keep_spreads(self, key: ModelKey, spreads: Spreads, *, version: str) -> None:
        """Keeps the spreads that were learned, if the model is still of that version."""
        with self._write() as connection:
            models.keep_spreads(connection, key, spreads, version=version)

    def find_unlearned(
        self, host: str, *, version: str, modes: Sequence[str], without: Sequence[str] = ()
    ) -> Unlearned | None:
        """The oldest sweep of those modes by that host that this version hasn't learned from.

        Kinds in `without` are left out.
        """
        with self._read() as connection:
            return models.find_unlearned(
                connection, host, version=version, modes=modes, without=without
            )

    def add_score(self, sweep_id: str, key: ModelKey, scored: ScoredPair) -> bool:
        """Whether the score is new: a sweep has one at most."""
        with self._write() as connection:
            return models.add_score(connection, sweep_id, key, scored)

    def list_scores(
        self, kind: str, platform_key: str, protocol_key: str, *, limit: int
    ) -> list[ScoredPair]:
        """The newest scores of that kind, the oldest of them first."""
        with self._read() as connection:
            return models.list_scores(connection, kind, platform_key, protocol_key, limit=limit)
