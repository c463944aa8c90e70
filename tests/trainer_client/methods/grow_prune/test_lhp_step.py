"""Step (c) on a tiny text, with an oracle that answers as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer_client.stand_ins import AwayOracle, Oracle, make_run
from tests.trainer_client.texts import tiny_config
from trainer_client.methods.grow_prune.lhp_step import grow_to_lhp
from trainer_client.methods.grow_prune.service_use import NoServiceError
from trainer_client.oracle.http import ServiceAwayError


def test_growth_beyond_the_seeds_width_widens_the_model(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.step = "lhp"
    assert run.hlstm is run.model
    run.accept(10.0)
    grow_to_lhp(run, Oracle(5, 3))
    assert run.hlstm.dims == (17, 11)
    assert run.hlstm.table.shape[1] == 11


def test_an_lhp_is_left_as_it_is_and_retraining_kept_where_it_helps(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.step = "lhp"
    start = run.hlstm.weights["gate_ksg"].detach().clone()
    run.accept(1000.0)
    grow_to_lhp(run, Oracle(0, 0))
    assert run.hlstm.dims == (12, 8)
    assert run.accepted is not None and run.accepted.perplexity < 1000
    assert not run.hlstm.weights["gate_ksg"].equal(start)


def test_retraining_at_an_lhp_never_replaces_a_better_model(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.step = "lhp"
    start = run.hlstm.weights["gate_ksg"].detach().clone()
    run.accept(1.01)  # better than any training on this text can be
    grow_to_lhp(run, Oracle(0, 0))
    assert run.accepted is not None and run.accepted.perplexity == 1.01
    assert run.hlstm.weights["gate_ksg"].equal(start)
    # If units woke, the model that has them is the step's, whatever its perplexity.
    run = make_run(tiny_config(), tmp_path / "grown")
    run.step = "lhp"
    assert run.hlstm is run.model
    run.accept(1.01)
    grow_to_lhp(run, Oracle(2, 1))
    assert run.accepted is not None and run.accepted.perplexity > 1.01
    assert run.hlstm.dims == (14, 9)


@pytest.mark.parametrize("oracle", [None, AwayOracle()])
def test_without_the_service_the_run_fails_or_skips_as_told(
    tmp_path: Path, oracle: Oracle | None
) -> None:
    run = make_run(tiny_config(), tmp_path / "fail")
    run.step = "lhp"
    assert run.hlstm is run.model
    run.accept(10.0)
    with pytest.raises((NoServiceError, ServiceAwayError)) as raised:
        grow_to_lhp(run, oracle)
    hint = getattr(raised.value, "hint", "")
    assert "then go on from here with --resume" in hint
    assert "or leave step (c) out: --resume --set when_away=skip" in hint
    run = make_run(tiny_config(when_away="skip"), tmp_path / "skip")
    run.step = "lhp"
    assert run.hlstm is run.model
    run.accept(10.0)
    grow_to_lhp(run, oracle)
    assert run.notes["answer"] is None
    assert run.accepted is not None and run.accepted.perplexity == 10.0
