"""The soak's referee finds each kind of loss, and none where there is none."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from benchmarks.soak.checks import check_database
from profiler_service.analysis.evidence import Evidence
from profiler_service.plan.spec import SweepState
from profiler_service.storage.store import Store
from tests.storage.examples import (
    PROGRESS,
    PROTOCOL,
    create_curve,
    create_platform,
    create_samples,
    create_spec,
)


@pytest.fixture
def kept(migrated_postgres_url: str) -> tuple[str, str, str]:
    """A database with one sweep that is done: its URL, the sweep's id and its curve's."""
    store = Store.open(migrated_postgres_url)
    store.register_host("east", create_platform(), protocol=PROTOCOL, dtypes=["float32"])
    sweep, _ = store.create_sweep(create_spec(), host="east")
    store.start_sweep(sweep.id)
    for number in range(3):
        store.commit_batch(sweep.id, number, create_samples(4, seed=number), PROGRESS)
    curve = replace(create_curve(), evidence=Evidence(samples=12, seconds=1.0))
    curve_id = store.finish_sweep(sweep.id, curve, state=SweepState.DONE)
    store.close()
    assert curve_id is not None
    return migrated_postgres_url, sweep.id, curve_id


def failing(url: str, sweeps: set[str], curves: set[str]) -> list[str]:
    return [check.claim for check in check_database(url, sweeps, curves) if not check.holds]


def test_a_database_in_order_passes_every_check(kept: tuple[str, str, str]) -> None:
    url, sweep, curve = kept
    assert failing(url, {sweep}, {curve}) == []


@pytest.mark.parametrize(
    ("damage", "claim"),
    [
        ("UPDATE sweeps SET state = 'running'", "every sweep has ended"),
        (
            "DELETE FROM curve_arrays; DELETE FROM curves",
            "every sweep that is done has a curve",
        ),
        ("DELETE FROM batches WHERE number = 1", "no batch is missing between two"),
        (
            "UPDATE batches SET num_samples = 5 WHERE number = 2",
            "every batch holds the samples that it says",
        ),
        (
            "DELETE FROM batches WHERE number = 2",
            "each curve's samples are those of its batches",
        ),
        (
            "INSERT INTO batches SELECT (jsonb_populate_record(b, '{\"number\": 3}')).*"
            " FROM batches b WHERE number = 1",
            "no batch was measured twice",
        ),
    ],
)
def test_damage_is_found(kept: tuple[str, str, str], damage: str, claim: str) -> None:
    url, sweep, _ = kept
    with psycopg.connect(url) as connection:
        for statement in damage.split("; "):
            connection.execute(statement.encode())
    assert claim in failing(url, {sweep}, set())


def test_what_a_client_was_told_of_is_looked_for(kept: tuple[str, str, str]) -> None:
    url, sweep, curve = kept
    assert failing(url, {sweep, "gone"}, {curve, "away"}) == [
        "no sweep that a client was told of is lost",
        "no curve that a client was told of is lost",
    ]


def test_equal_sweeps_that_were_open_at_once_are_found(kept: tuple[str, str, str]) -> None:
    url, sweep, _ = kept
    store = Store.open(url)
    again, is_new = store.create_sweep(create_spec(), host="east")
    assert is_new
    store.fail_sweep(again.id, "made up")
    store.close()
    claim = "equal sweeps were never open at once"
    assert claim not in failing(url, {sweep, again.id}, set())  # one after the other
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE sweeps SET created_at = (SELECT min(created_at) FROM sweeps)")
    assert claim in failing(url, {sweep, again.id}, set())
