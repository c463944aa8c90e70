"""The referee: what the database holds in the end, read by SQL and by an Arrow reader of its own.

Shares no code with the service.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import pyarrow as pa

OPEN = ("queued", "running")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must hold."""

    claim: str
    found: str
    holds: bool


def count_open(database_url: str) -> int:
    """Sweeps that haven't ended."""
    with psycopg.connect(database_url) as connection:
        return int(
            _all(connection, "SELECT count(*) FROM sweeps WHERE state = ANY(%s)", [list(OPEN)])[0][
                0
            ]
        )


def batch_counts(database_url: str) -> dict[str, int]:
    """Batches kept, by sweep."""
    with psycopg.connect(database_url, connect_timeout=5) as connection:
        found = _all(connection, "SELECT sweep_id, count(*) FROM batches GROUP BY sweep_id")
    return {str(sweep): int(count) for sweep, count in found}


def check_database(database_url: str, sweeps: set[str], curves: set[str]) -> list[Check]:
    """Every check of the database against what the clients were told."""
    with psycopg.connect(database_url) as connection:
        states = dict(_all(connection, "SELECT id, state FROM sweeps"))
        kept = [str(row[0]) for row in _all(connection, "SELECT id FROM curves")]
        made = Counter(str(row[0]) for row in _all(connection, "SELECT sweep_id FROM curves"))
        batches = _all(
            connection,
            "SELECT sweep_id, number, num_samples, arrays FROM batches ORDER BY sweep_id, number",
        )
        reasons = Counter(
            str(row[0]) for row in _all(connection, "SELECT error FROM sweeps WHERE state='failed'")
        )
        evidence = dict(_all(connection, "SELECT sweep_id, evidence FROM curves"))
        overlapping = _all(
            connection,
            "SELECT count(*) FROM sweeps a JOIN sweeps b ON a.host = b.host"
            " AND a.spec_key = b.spec_key AND a.id < b.id WHERE a.created_at < b.finished_at"
            " AND b.created_at < a.finished_at AND NOT a.cancel_requested",
        )[0][0]
    still_open = sum(state in OPEN for state in states.values())
    lost_sweeps = sweeps - states.keys()
    lost_curves = curves - set(kept)
    numbers: dict[str, list[int]] = {}
    samples: Counter[str] = Counter()
    visits: set[tuple[str, bytes]] = set()
    wrong = again = 0
    for sweep, number, num_samples, arrays in batches:
        numbers.setdefault(str(sweep), []).append(int(number))
        samples[str(sweep)] += int(num_samples)
        table = pa.ipc.open_stream(io.BytesIO(bytes(arrays))).read_all()
        wrong += table.num_rows != num_samples
        # Rounds are counted over a whole sweep: no two batches have the same points in the same.
        visited = (str(sweep), repr(table.select(["point", "round"]).to_pydict()).encode())
        again += visited in visits
        visits.add(visited)
    gaps = sum(found != list(range(len(found))) for found in numbers.values())
    uneven = sum(value["samples"] != samples[str(sweep)] for sweep, value in evidence.items())
    without = sum(state == "done" and not made[sweep] for sweep, state in states.items())
    twice = sum(count > 1 for count in made.values())
    by_state = ", ".join(f"{count} {state}" for state, count in Counter(states.values()).items())
    return [
        _none("every sweep has ended", still_open, f"of {len(states)} are open ({by_state})"),
        _none("no sweep that a client was told of is lost", len(lost_sweeps), f"of {len(sweeps)}"),
        _none("no curve that a client was told of is lost", len(lost_curves), f"of {len(curves)}"),
        _none("every sweep that is done has a curve", without, "without"),
        _none("no sweep has two curves", twice, f"of {len(kept)} curves"),
        _none("no batch is missing between two", gaps, f"of {len(numbers)} sweeps"),
        _none("every batch holds the samples that it says", wrong, f"of {len(batches)}"),
        _none("no batch was measured twice", again, f"of {len(batches)}"),
        _none("each curve's samples are those of its batches", uneven, f"of {len(evidence)}"),
        _none("equal sweeps were never open at once", int(overlapping), "pairs"),
        Check(
            claim="why sweeps failed (for information)",
            found="; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(5))
            or "none failed",
            holds=True,
        ),
    ]


def _none(claim: str, count: int, of: str) -> Check:
    return Check(claim=claim, found=f"{count} {of}", holds=count == 0)


def _all(
    connection: psycopg.Connection[tuple[Any, ...]],
    query: LiteralString,
    given: Sequence[object] | None = None,
) -> list[tuple[Any, ...]]:
    return connection.execute(query, given).fetchall()
