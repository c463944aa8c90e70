"""Which steps a run takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer_client.stand_ins import (
    HALF,
    Crossovers,
    KilledError,
    LeavingCrossovers,
    Oracle,
    kill_after,
    make_run,
    rows_of,
)
from tests.trainer_client.texts import tiny_config
from trainer_client.methods.grow_prune.route import find_route
from trainer_client.methods.grow_prune.synthesis import synthesise
from trainer_client.oracle.http import ServiceAwayError


def test_the_sparse_route_leaves_b_and_c_out(tmp_path: Path) -> None:
    oracle = Oracle(2, 1)
    synthesise(make_run(tiny_config(route="sparse"), tmp_path), oracle)
    assert [row["step"] for row in rows_of(tmp_path)] == ["baseline", "growth", "weights"]
    assert oracle.asked == []


# Of HALF: half of the weights live after (a), and a round of (d) leaves 30 % of those.
EXPECTED = 1 - 0.5 * 0.3


@pytest.mark.parametrize(
    ("crossovers", "chosen"),
    [
        ((0.85, 0.7), "sparse"),  # 85 % is enough if 85 % is needed
        ((0.85, 0.86), "dense"),  # each of the products has to win
        ((0.86, 0.7), "dense"),
        ((0.5, None), "dense"),  # None: never
    ],
)
def test_the_route_is_the_one_that_was_measured(
    tmp_path: Path, crossovers: tuple[float | None, ...], chosen: str
) -> None:
    run = make_run(HALF, tmp_path)
    run.step = "growth"
    asked = Crossovers(*crossovers)
    with pytest.raises(KilledError):
        synthesise(run, Oracle(0, 0), crossovers=asked, at_step_end=kill_after("units", "weights"))
    assert run.step == {"sparse": "weights", "dense": "units"}[chosen]
    # All four H with their columns of the state, and a W: the products of a time step.
    assert asked.asked == [((48, 8), 4), ((8, 12), 4)]
    (row,) = rows_of(tmp_path)
    route = row["route"]
    assert isinstance(route, dict)
    assert (route["chosen"], route["expected_sparsity"]) == (chosen, pytest.approx(EXPECTED))
    assert [each["sparsity_interval"][1] for each in route["products"]] == list(crossovers)


def test_a_measured_route_is_gone_to_its_end_and_not_measured_again(tmp_path: Path) -> None:
    run = make_run(HALF, tmp_path)
    ends = kill_after("weights")
    with pytest.raises(KilledError):
        synthesise(run, None, crossovers=Crossovers(0.1, 0.1), at_step_end=ends)
    resumed = make_run(HALF, tmp_path)
    resumed.restore()
    synthesise(resumed, None)  # with nobody to ask
    assert [row["step"] for row in rows_of(tmp_path)] == ["baseline", "growth", "weights"]
    assert find_route("measured", resumed.rows) == "sparse"
    # The choice of another run doesn't matter if the route is given.
    assert find_route("dense", resumed.rows) == "dense"
    assert find_route("measured", []) == "measured"


def test_without_rounds_of_weight_pruning_no_more_zeros_are_expected(tmp_path: Path) -> None:
    run = make_run(HALF.with_changes({"max_rounds": 0}), tmp_path)
    synthesise(run, Oracle(0, 0), crossovers=Crossovers(0.51, 0.51))
    assert run.rows[1]["route"]["expected_sparsity"] == pytest.approx(0.5)
    assert [row["step"] for row in run.rows] == ["baseline", "growth", "units", "lhp", "weights"]


def test_without_the_service_the_route_fails_or_is_dense_as_told(tmp_path: Path) -> None:
    crossovers = LeavingCrossovers()
    run = make_run(HALF, tmp_path / "fail")
    with pytest.raises(ServiceAwayError) as raised:
        synthesise(run, None, crossovers=crossovers)
    assert "--resume" in raised.value.hint and "when_away=skip" in raised.value.hint
    # Nothing that was trained is lost: once the service is there the run goes on.
    resumed = make_run(HALF, tmp_path / "fail")
    resumed.restore()
    synthesise(resumed, None, crossovers=Crossovers(0.1, 0.1))
    assert resumed.rows[:1] == run.rows[:1]
    assert resumed.rows[-1]["step"] == "weights"
    run = make_run(HALF.with_changes({"when_away": "skip"}), tmp_path / "skip")
    synthesise(run, None, crossovers=crossovers)
    assert run.rows[1]["route"]["chosen"] == "dense"
    assert run.rows[1]["route"]["products"] is None
