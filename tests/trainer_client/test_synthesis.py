"""The four steps on a tiny text, with an oracle that answers as it is told."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from profiler_service.errors import InvalidRequestError, InvalidWorkloadError, LhpError
from profiler_service.wire import CrossoverAnswer
from tests.cli.test_crossover import ANSWER as CROSSOVER
from tests.trainer_client.texts import tiny_config, tiny_corpus
from trainer_client.answers import Effort, LatencyAnswer, Prefer
from trainer_client.checkpoint import CheckpointConfigError
from trainer_client.config import TrainingConfig
from trainer_client.corpus import Corpus
from trainer_client.descent import Observation
from trainer_client.language_model import StackedLSTM
from trainer_client.latency_client import ServiceAwayError
from trainer_client.lhp_step import NoServiceError, grow_to_lhp
from trainer_client.masks import count_weights, seed_masks
from trainer_client.pruning import prune_layer_weights
from trainer_client.pruning_steps import find_threshold, prune_rows_and_columns, prune_weights
from trainer_client.ranks import Ranks
from trainer_client.route import find_route
from trainer_client.run_files import Row
from trainer_client.synthesis import grow_from_seed, synthesise
from trainer_client.train import TrainingRun


class Oracle:
    """Says that dims a little larger are faster; notes what it was asked."""

    def __init__(self, *grow_by: int) -> None:
        self.grow_by = grow_by
        self.asked: list[tuple[tuple[int, ...], str, Mapping[str, int | str] | None]] = []

    def query(
        self,
        dims: Sequence[int],
        *,
        workload: str = "linear",
        params: Mapping[str, int | str] | None = None,
        prefer: Prefer = "fastest",
        effort: Effort = "quick",
        max_growth: float = 0.125,
    ) -> LatencyAnswer:
        self.asked.append((tuple(dims), workload, params))
        now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        lhp = tuple(a + b for a, b in zip(dims, self.grow_by, strict=True))
        return LatencyAnswer(
            dims=tuple(dims),
            lhp=lhp,
            is_lhp=lhp == tuple(dims),
            latency_s=2e-3,
            lhp_latency_s=1e-3,
            speedup=2.0,
            speedup_interval=(1.9, 2.1),
            verdict="faster" if any(self.grow_by) else "slower",
            prefer=prefer,
            workload=workload,
            platform="p",
            host="anvil",
            curve="c1",
            measured_at=now,
            num_samples=300,
            stale=False,
            source="service",
            received_at=now,
        )


class AwayOracle(Oracle):
    def query(self, dims: Sequence[int], **_: object) -> LatencyAnswer:
        raise ServiceAwayError("no answer", hint="start it")


class Crossovers:
    """Says from which sparsity on sparse products surely win; notes what it was asked."""

    def __init__(self, *surely_from: float | None) -> None:
        self.left = list(surely_from)
        self.asked: list[tuple[tuple[int, ...], int]] = []

    def get_crossover(
        self, dims: Sequence[int], *, batch: int = 16, dtype: str = "float32"
    ) -> CrossoverAnswer:
        self.asked.append((tuple(dims), batch))
        share = self.left.pop(0)
        changes = {"dims": list(dims), "batch": batch, "sparsity_interval": (0.1, share)}
        return CROSSOVER.model_copy(update=changes)


class AwayCrossovers(Crossovers):
    def get_crossover(self, dims: Sequence[int], **_: object) -> CrossoverAnswer:
        raise ServiceAwayError("no answer", hint="start it")


def make_run(config: TrainingConfig, directory: Path, corpus: Corpus | None = None) -> TrainingRun:
    ranks = Ranks(torch.device("cpu"))
    return TrainingRun(config, corpus or tiny_corpus(), directory, ranks=ranks)


class KilledError(Exception):
    """Stands for a `kill -9`."""


def kill_after(*steps: str) -> Callable[[Row], None]:
    def at_step_end(row: Row) -> None:
        if row["step"] in steps:
            raise KilledError

    return at_step_end


def rows_of(directory: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (directory / "steps.jsonl").read_text().splitlines()]


def test_all_steps_in_order(tmp_path: Path) -> None:
    oracle = Oracle(2, 1)
    ends: list[str] = []
    run = make_run(tiny_config(), tmp_path)
    synthesise(run, oracle, at_step_end=lambda row: ends.append(row["step"]))
    rows = rows_of(tmp_path)
    assert (
        [row["step"] for row in rows] == ["baseline", "growth", "units", "lhp", "weights"] == ends
    )
    # A fifth of 12 hidden units is 2, of 8 states 1: one round, as the preset has it.
    assert [row["dims"] for row in rows[:4]] == [[12, 8], [12, 8], [10, 7], [12, 8]]
    # The oracle was asked about what was trained, once.
    params = {"batch": 4, "steps": 10, "input_size": 8, "vocabulary": 12}
    assert oracle.asked == [((10, 7), "hlstm_lm", params)]
    answer = rows[3]["answer"]
    assert isinstance(answer, dict)
    assert (answer["lhp"], answer["speedup_interval"]) == ([12, 8], [1.9, 2.1])
    assert rows[4]["dims"] == [12, 8]  # whatever has died since
    # 70 % of the weights went, of each of eight matrices: rounded down; and what was cut off by it.
    before, after = (int(str(rows[i]["recurrent_parameters"])) for i in (3, 4))
    assert after <= 0.3 * before + 8
    assert rows[4]["kept_threshold"] is True
    assert all(isinstance(row["test_perplexity"], float) for row in rows)


def test_the_sparse_route_leaves_b_and_c_out(tmp_path: Path) -> None:
    oracle = Oracle(2, 1)
    synthesise(make_run(tiny_config(route="sparse"), tmp_path), oracle)
    assert [row["step"] for row in rows_of(tmp_path)] == ["baseline", "growth", "weights"]
    assert oracle.asked == []


# Without growth half of the weights live after (a), and a round of (d) leaves 30 % of those.
HALF = tiny_config(route="measured", growth_epochs=0, when_away="fail")
EXPECTED = 1 - 0.5 * 0.3


@pytest.mark.parametrize(
    ("crossovers", "chosen"),
    [
        ((0.85, 0.7), "sparse"),  # 85 % is enough where it takes 85 %
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
    # What another run once chose says nothing where the route is given.
    assert find_route("dense", resumed.rows) == "dense"
    assert find_route("measured", []) == "measured"


def test_without_rounds_of_weight_pruning_no_more_zeros_are_expected(tmp_path: Path) -> None:
    run = make_run(HALF.with_changes({"max_rounds": 0}), tmp_path)
    synthesise(run, Oracle(0, 0), crossovers=Crossovers(0.51, 0.51))
    assert run.rows[1]["route"]["expected_sparsity"] == pytest.approx(0.5)
    assert [row["step"] for row in run.rows] == ["baseline", "growth", "units", "lhp", "weights"]


@pytest.mark.parametrize("crossovers", [None, AwayCrossovers()])
def test_without_the_service_the_route_fails_or_is_dense_as_told(
    tmp_path: Path, crossovers: Crossovers | None
) -> None:
    run = make_run(HALF, tmp_path / "fail")
    with pytest.raises((NoServiceError, ServiceAwayError)) as raised:
        synthesise(run, None, crossovers=crossovers)
    assert isinstance(raised.value, LhpError) and raised.value.hint
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


def test_growth_wakes_weights_and_no_more_than_the_ratio(tmp_path: Path) -> None:
    run = make_run(tiny_config(growth_epochs=2, seed_density=0.25), tmp_path)
    run.step = "growth"
    grow_from_seed(run)
    # 4 · 12 · (8 + 2 · 8) = 1152 weights; a quarter live at first, and twice at most a tenth wakes.
    live = run.model.count_recurrent_parameters()
    assert 288 < live <= 288 + 2 * 116
    assert run.notes["round"] == 2


def test_growth_is_one_training_of_which_the_best_has_grown_to_the_end(tmp_path: Path) -> None:
    config = tiny_config(growth_epochs=3, growth_settling_epochs=2, growth_ratio=0.2)
    run = make_run(config, tmp_path)
    run.step = "growth"
    optimisers: list[object] = []
    live: list[int] = []

    def watch(seen: Observation) -> None:
        assert run._descent is not None
        optimisers.append(run._descent.optimiser)
        live.append(run.model.count_recurrent_parameters())

    run._observe = watch
    grow_from_seed(run)
    assert all(each is optimisers[0] for each in optimisers)
    # 20 batches an epoch; it grows at the first of each of the first three.
    per_epoch = [set(live[at : at + 20]) for at in range(0, 100, 20)]
    assert [len(each) for each in per_epoch] == [1] * 5
    counts = [each.pop() for each in per_epoch]
    assert counts[0] < counts[1] < counts[2] == counts[3] == counts[4]
    assert run.model.count_recurrent_parameters() == counts[2]
    epochs = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [(row["round"], row["epoch"]) for row in epochs] == [
        (1, 1), (2, 2), (3, 3), (3, 4), (3, 5)
    ]  # fmt: skip
    assert run.accepted is not None
    assert run.accepted.perplexity == min(row["valid_perplexity"] for row in epochs[2:])


@pytest.mark.parametrize("stop_after", [2, 20, 21, 45, 70])
def test_growth_that_is_cut_short_ends_with_the_same_bits(tmp_path: Path, stop_after: int) -> None:
    config = tiny_config(
        growth_epochs=3, growth_settling_epochs=1, warmup_batches=30, schedule="linear"
    )

    def stop(seen: Observation) -> None:
        if seen.num_batches == stop_after:
            raise KilledError

    whole = make_run(config, tmp_path / "whole")
    whole.step = "growth"
    grow_from_seed(whole)
    cut = make_run(config, tmp_path / "cut")
    cut.step, cut._observe = "growth", stop
    with pytest.raises(KilledError):
        grow_from_seed(cut)
    torch.manual_seed(99)
    resumed = make_run(config, tmp_path / "cut")
    resumed.restore()
    grow_from_seed(resumed)
    for a, b in zip(whole.hlstm.weights, resumed.hlstm.weights, strict=True):
        assert a.equal(b)
    for a, b in zip(whole.hlstm.masks, resumed.hlstm.masks, strict=True):
        assert a.equal(b)
    logs = [(tmp_path / each / "epochs.jsonl").read_bytes() for each in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_a_woken_weights_first_step_is_no_longer_than_the_others(tmp_path: Path) -> None:
    config = tiny_config(growth_epochs=2, growth_settling_epochs=1, growth_ratio=0.3)
    run = make_run(config, tmp_path)
    run.step = "growth"
    woken: list[float] = []
    before: list[torch.Tensor] = []

    def watch(seen: Observation) -> None:
        now = [weight.detach().clone() for weight in run.hlstm.weights]
        if seen.num_batches == 20:  # the last before the second growth
            before.extend([*now, *run.hlstm.masks])
            assert run._descent is not None
            for each in run._descent.optimiser.state.values():  # as after a long training
                each["exp_avg_sq"] /= 1 - 0.999**20
                each["step"].fill_(1e5)
        if seen.num_batches == 21:
            old, masks = before[:5], before[5:]
            for new, was, mask, lived in zip(now, old, run.hlstm.masks, masks, strict=True):
                woken.extend((new - was)[mask & ~lived].abs().tolist())

    run._observe = watch
    grow_from_seed(run)
    assert len(woken) > 40
    # From second moments of zero each were 0.1 / √0.001 = 3.2 times the rate long.
    assert 0 < max(woken) < config.learning_rate


def test_a_roll_back_in_an_epoch_that_grew_grows_the_same(tmp_path: Path) -> None:
    config = tiny_config(growth_epochs=3, growth_settling_epochs=1, checkpoint_batches=1000)
    poisoned = False
    live: list[int] = []

    def poison(seen: Observation) -> None:
        nonlocal poisoned
        if seen.num_batches == 25:
            live.append(run.model.count_recurrent_parameters())
            if not poisoned:
                poisoned = True
                with torch.no_grad():
                    run.hlstm.weights.gate_bias_ks.fill_(torch.nan)

    run = make_run(config, tmp_path)
    run.step, run._observe = "growth", poison
    grow_from_seed(run)
    # Back at the end of the first epoch, it grew again, from there.
    assert len(live) == 2 and live[0] == live[1]
    epochs = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [row["round"] for row in epochs] == [1, 2, 3, 3]
    rates = [row["learning_rate"] for row in epochs]
    assert rates[:2] == [config.learning_rate, config.learning_rate / 2]


def test_pruning_goes_on_while_the_threshold_is_kept(tmp_path: Path) -> None:
    run = make_run(tiny_config(max_rounds=3, max_perplexity=1000.0), tmp_path)
    run.step = "units"
    assert run.hlstm is run.model
    run.accept(10.0)
    prune_rows_and_columns(run)
    # 12 → 10 → 8 → 7 and 8 → 7 → 6 → 5.
    assert run.hlstm.dims == (7, 5)
    assert (run.notes["num_accepted"], run.notes["ratio"]) == (3, 0.2)


def test_pruning_halves_its_rate_on_failure_and_comes_back(tmp_path: Path) -> None:
    config = tiny_config(max_rounds=None, max_perplexity=1.01, min_prune_ratio=0.0)
    run = make_run(config, tmp_path)
    run.step = "units"
    before = run.hlstm.count_recurrent_parameters()
    run.accept(12.0)
    prune_rows_and_columns(run)
    # A fifth of 12 is 2; half of that is a single one, whose failure ends the step.
    assert (run.notes["round"], run.notes["num_accepted"], run.notes["ratio"]) == (2, 0, None)
    assert run.hlstm.count_recurrent_parameters() == before
    assert run.hlstm.dims == (12, 8)


def test_a_roll_back_in_a_pruning_round_forgets_no_round(tmp_path: Path) -> None:
    # 20 batches a round, of one epoch: the 31st is in the second.
    run = make_run(tiny_config(max_rounds=3), tmp_path)
    run.step = "units"
    assert run.hlstm is run.model
    run.accept(1000.0)
    poisoned: list[Observation] = []

    def poison(seen: Observation) -> None:
        if seen.num_batches == 31 and not poisoned:
            poisoned.append(seen)
            with torch.no_grad():
                run.hlstm.weights.gate_bias_ks.fill_(torch.nan)

    run._observe = poison
    prune_rows_and_columns(run)
    assert poisoned
    assert (run.notes["round"], run.notes["num_accepted"]) == (3, 3)
    assert run.hlstm.dims == (7, 5)
    epochs = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [row["round"] for row in epochs] == [0, 1, 2]


def test_a_pruning_round_that_diverges_is_one_that_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tiny_config(max_rounds=2, max_rollbacks=1, max_perplexity=1000.0), tmp_path)
    run.step = "units"
    assert run.hlstm is run.model
    run.accept(10.0)

    def poison(seen: Observation) -> None:
        if seen.round == 0:
            with torch.no_grad():
                run.hlstm.weights.gate_bias_ks.fill_(torch.nan)

    run._observe = poison
    prune_rows_and_columns(run)
    assert "a round fails" in caplog.text
    # The second round prunes half as much, from the model that there was: 12 → 11, and a state
    # always goes, 8 → 7.
    assert (run.notes["round"], run.notes["num_accepted"], run.notes["ratio"]) == (2, 1, 0.1)
    assert run.hlstm.dims == (11, 7)
    assert run.accepted is not None and run.accepted.perplexity < 1000


def test_what_cant_be_measured_isnt_trained(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.vocabulary = 70_000  # the service takes 65,536
    with pytest.raises(InvalidWorkloadError, match="vocabulary"):
        synthesise(run, Oracle(2, 1))
    assert run.rows == []


def test_a_run_without_its_service_goes_on_as_its_hints_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tiny_config(when_away="fail", growth_epochs=0), tmp_path)
    with pytest.raises(NoServiceError) as raised:
        synthesise(run, None)
    assert "when_away=skip" in raised.value.hint
    caplog.set_level("INFO", logger="trainer_client")
    resumed = make_run(tiny_config(when_away="skip", growth_epochs=0), tmp_path)
    resumed.restore()
    assert "when_away='fail' there, 'skip' now" in caplog.text
    synthesise(resumed, None)
    assert [row["step"] for row in resumed.rows][-2:] == ["lhp", "weights"]
    # And where a route was to be measured.
    run = make_run(HALF, tmp_path / "route")
    with pytest.raises(NoServiceError, match="route") as raised:
        synthesise(run, None)
    assert "route=sparse" in raised.value.hint
    resumed = make_run(HALF.with_changes({"route": "sparse"}), tmp_path / "route")
    resumed.restore()
    synthesise(resumed, None)
    assert [row["step"] for row in resumed.rows] == ["baseline", "growth", "weights"]
    # Once a step has gone by a setting it stays.
    late = make_run(HALF.with_changes({"route": "sparse", "weight_ratio": 0.5}), tmp_path / "route")
    with pytest.raises(CheckpointConfigError, match="weight_ratio"):
        late.restore()


def test_a_threshold_that_cant_be_met_ends_with_the_best_so_far(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tiny_config(max_perplexity=1.01, when_away="skip"), tmp_path)
    synthesise(run, None)
    rows = rows_of(tmp_path)
    assert [row["kept_threshold"] for row in rows if "kept_threshold" in row] == [False, False]
    assert rows[-1]["recurrent_parameters"] == rows[1]["recurrent_parameters"]
    assert rows[-1]["valid_perplexity"] == rows[1]["valid_perplexity"]
    assert "can't keep a perplexity of 1.01" in caplog.text


def test_weight_pruning_never_wakes_anything(tmp_path: Path) -> None:
    run = make_run(tiny_config(max_rounds=2), tmp_path)
    run.step = "weights"
    before = [mask.clone() for mask in run.hlstm.masks]
    run.accept(10.0)
    prune_weights(run)
    assert all(not (new & ~old).any() for old, new in zip(before, run.hlstm.masks, strict=True))
    # Twice 70 % of 1152, each of eight matrices rounded up; and what was cut off by it.
    assert 0 < run.hlstm.count_recurrent_parameters() <= 0.09 * 1152 + 16


def test_weight_pruning_without_bounds_ends(tmp_path: Path) -> None:
    config = tiny_config(max_rounds=None, min_prune_ratio=0.0, max_perplexity=1e6)
    run = make_run(config, tmp_path)
    run.step = "weights"
    # So few live that shares of each matrix soon are less than one weight.
    generator = torch.Generator().manual_seed(0)
    run.hlstm.masks = seed_masks(run.hlstm.weights, density=0.05, generator=generator)
    run.accept(10.0)
    prune_weights(run)
    # Any model keeps this threshold, so it ends where one weight less is no network any more.
    run.revert()
    left = run.hlstm.count_recurrent_parameters()
    assert 0 < left < 12
    masks = prune_layer_weights(run.hlstm.weights, run.hlstm.masks, ratio=0.01)
    assert left == 1 or count_weights(masks) == 0


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
    start = run.hlstm.weights.gate_ksg.detach().clone()
    run.accept(1000.0)
    grow_to_lhp(run, Oracle(0, 0))
    assert run.hlstm.dims == (12, 8)
    assert run.accepted is not None and run.accepted.perplexity < 1000
    assert not run.hlstm.weights.gate_ksg.equal(start)


def test_retraining_at_an_lhp_never_replaces_a_better_model(tmp_path: Path) -> None:
    run = make_run(tiny_config(), tmp_path)
    run.step = "lhp"
    start = run.hlstm.weights.gate_ksg.detach().clone()
    run.accept(1.01)  # better than any training on this text can be
    grow_to_lhp(run, Oracle(0, 0))
    assert run.accepted is not None and run.accepted.perplexity == 1.01
    assert run.hlstm.weights.gate_ksg.equal(start)
    # Where units woke, the model that has them is the step's, whatever it costs.
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
    with pytest.raises((NoServiceError, ServiceAwayError)):
        grow_to_lhp(run, oracle)
    run = make_run(tiny_config(when_away="skip"), tmp_path / "skip")
    run.step = "lhp"
    assert run.hlstm is run.model
    run.accept(10.0)
    grow_to_lhp(run, oracle)
    assert run.notes["answer"] is None
    assert run.accepted is not None and run.accepted.perplexity == 10.0


def test_the_baseline_sets_the_threshold_where_nothing_else_does(tmp_path: Path) -> None:
    run = make_run(tiny_config(max_perplexity=None), tmp_path)
    with pytest.raises(InvalidRequestError) as raised:
        find_threshold(run)
    assert "max_perplexity" in raised.value.hint
    run.rows.append({"step": "baseline", "valid_perplexity": 72.1})
    assert threshold_of(run) == (72.1, 72.1, "the baseline's")
    assert isinstance(run.model, StackedLSTM)
    # From a model that is better, pruning may come down to the baseline; one that is worse is not
    # to get worse still, and is trained towards the baseline.
    run.rows.append({"step": "growth", "valid_perplexity": 70.2})
    assert threshold_of(run) == (72.1, 72.1, "the baseline's")
    run.rows[1]["valid_perplexity"] = 75.0
    assert threshold_of(run) == (75.0, 72.1, "that of (a), above the baseline's")
    run.config = run.config.with_changes({"slack": 0.04})
    perplexity, target, source = threshold_of(run)
    assert perplexity == pytest.approx(78.0)
    assert (target, source) == (72.1, "that of (a), above the baseline's and 4% more")
    run.config = run.config.with_changes({"slack": 0.0})
    # It stays the same for all pruning.
    run.rows.append({"step": "units", "valid_perplexity": 74.0})
    assert threshold_of(run)[0] == 75.0


def threshold_of(run: TrainingRun) -> tuple[float, float, str]:
    found = find_threshold(run)
    return found.perplexity, found.target, found.source


def test_above_the_baseline_retraining_takes_all_its_epochs(tmp_path: Path) -> None:
    config = tiny_config(max_perplexity=None, max_rounds=2, retrain_epochs=3)
    run = make_run(config, tmp_path)
    run.rows.append({"step": "baseline", "valid_perplexity": 1.01})
    run.rows.append({"step": "growth", "valid_perplexity": 1000.0})
    run.step = "units"
    assert run.hlstm is run.model
    run.accept(1000.0)
    prune_rows_and_columns(run)
    assert run.notes["num_accepted"] == 2
    epochs = [json.loads(line) for line in (tmp_path / "epochs.jsonl").read_text().splitlines()]
    assert [(row["round"], row["epoch"]) for row in epochs] == [
        (0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)
    ]  # fmt: skip
