"""What a run needs the service for is found out before it trains."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from profiler_service.errors import LhpError, UnknownHostError
from tests.trainer_client.stand_ins import (
    HALF,
    AwayOracle,
    Crossovers,
    KilledError,
    LeavingOracle,
    Oracle,
    kill_after,
    make_run,
)
from tests.trainer_client.texts import tiny_config
from trainer_client.methods.grow_prune.service_use import NoServiceError
from trainer_client.methods.grow_prune.synthesis import synthesise
from trainer_client.oracle.http import ServiceAwayError


class RefusingOracle(Oracle):
    """The service is there, but not the host."""

    def check(self, *_: object, **__: object) -> None:
        raise UnknownHostError("there is no host 'anvil'", hint="ask for another one")


@pytest.mark.parametrize(
    ("oracle", "error"), [(None, NoServiceError), (AwayOracle(), ServiceAwayError)]
)
def test_a_service_that_is_away_is_found_out_before_training(
    tmp_path: Path, oracle: Oracle | None, error: type[LhpError]
) -> None:
    run = make_run(tiny_config(), tmp_path / "run")
    with pytest.raises(error) as raised:
        synthesise(run, oracle)
    assert "--set when_away=skip" in raised.value.hint
    assert "--resume" not in raised.value.hint
    assert not (tmp_path / "run").exists()


def test_with_when_away_skip_it_trains_all_the_same_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tiny_config(when_away="skip", growth_epochs=0), tmp_path)
    with caplog.at_level(logging.WARNING, "trainer_client"):
        synthesise(run, AwayOracle())
    first, *_, last = [each.message for each in caplog.records]
    assert first == "no answer; training all the same, for step (c) may be left out"
    assert last == "step (c) is left out: no answer"
    assert run.rows[-1]["step"] == "weights"


@pytest.mark.parametrize("when_away", ["fail", "skip"])
def test_a_service_that_cant_measure_this_is_never_ignored(tmp_path: Path, when_away: str) -> None:
    run = make_run(tiny_config(when_away=when_away), tmp_path / "run")
    with pytest.raises(UnknownHostError):
        synthesise(run, RefusingOracle())
    assert not (tmp_path / "run").exists()


def test_what_is_tried_is_what_will_be_asked(tmp_path: Path) -> None:
    oracle = Oracle(0, 0)
    with pytest.raises(KilledError):
        synthesise(make_run(tiny_config(), tmp_path), oracle, at_step_end=kill_after("baseline"))
    assert oracle.checked == [((12, 8), "hlstm_lm")]
    crossovers = Crossovers(0.5, 0.5)
    with pytest.raises(KilledError):
        synthesise(
            make_run(HALF, tmp_path / "route"),
            oracle,
            crossovers=crossovers,
            at_step_end=kill_after("baseline"),
        )
    # All four H with their columns of the state.
    assert crossovers.checked == [((48, 8), "linear")]


def test_a_resumed_run_tries_again_what_is_still_ahead(tmp_path: Path) -> None:
    run = make_run(tiny_config(growth_epochs=0), tmp_path)
    with pytest.raises(KilledError):
        synthesise(run, Oracle(2, 1), at_step_end=kill_after("growth"))
    before = (tmp_path / "checkpoint.lhp").read_bytes()
    resumed = make_run(tiny_config(growth_epochs=0), tmp_path)
    resumed.restore()
    with pytest.raises(ServiceAwayError):
        synthesise(resumed, AwayOracle())
    assert (tmp_path / "checkpoint.lhp").read_bytes() == before
    # Once it has its answer the run needs nobody any more.
    with pytest.raises(KilledError):
        synthesise(resumed, Oracle(2, 1), at_step_end=kill_after("lhp"))
    again = make_run(tiny_config(growth_epochs=0), tmp_path)
    again.restore()
    assert again.step == "lhp" and again.notes["answer"] is not None
    synthesise(again, None)
    assert again.rows[-1]["step"] == "weights"


def test_the_sparse_route_needs_no_service(tmp_path: Path) -> None:
    oracle = LeavingOracle()
    run = make_run(tiny_config(route="sparse", growth_epochs=0), tmp_path)
    synthesise(run, oracle)
    assert (oracle.asked, oracle.checked) == ([], [])
