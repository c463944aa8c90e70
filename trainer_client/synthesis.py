"""The steps from a seed to a compact model: (a) to (d) of the paper, after a baseline.

Each step is a function of a run. Pruning loops over rounds: change the masks, retrain, judge. All
that a step has to remember is in the run's `notes`, so that a resumed run enters the step again
and goes on: `is_training` says that the masks of the round were changed already.

Knows nothing of files or of how progress is shown. Source: section 5.1 of Yin et al.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from profiler_service.errors import HostAwayError, InvalidRequestError, LhpError
from profiler_service.kinds import HLSTM_LM
from profiler_service.networks.hlstm import NUM_GATES
from trainer_client.config import Route
from trainer_client.descent import DivergedError
from trainer_client.growth import grow_layer_weights, grow_units, open_dormant
from trainer_client.language_model import MaskedHLSTM
from trainer_client.latency_client import (
    CrossoverOracle,
    LatencyOracle,
    NoRecordedAnswerError,
)
from trainer_client.masks import apply_masks, live_hidden_units, live_states, seed_masks
from trainer_client.pruning import PruningRate, prune_layer_weights, prune_units
from trainer_client.run_files import Row
from trainer_client.train import TrainingRun

logger = logging.getLogger(__name__)

DONE = "done"
CHOICE = "route"
"""No step of the paper's, and no row of the report: which route to take is found out."""
STEPS: Mapping[Route, tuple[str, ...]] = {
    "dense": ("baseline", "growth", "units", "lhp", "weights"),
    "sparse": ("baseline", "growth", "weights"),
    "measured": ("baseline", "growth", CHOICE),
}
"""The steps of each route, by name: `growth` is the paper's (a), `units` (b), `lhp` (c),
`weights` (d)."""


class NoServiceError(LhpError):
    """There is nobody to ask: for the LHP, step (c), or for crossovers."""


def synthesise(
    run: TrainingRun,
    oracle: LatencyOracle | None,
    *,
    crossovers: CrossoverOracle | None = None,
    at_step_end: Callable[[Row], None] = lambda _: None,
) -> None:
    """Returns when the run is through all its steps.

    A run that has not begun starts with the baseline; a restored one goes on. `oracle` answers
    for the kind `hlstm_lm`; `crossovers` where the route is `measured`. `at_step_end` is called
    with the step's row of the report, its accepted model in place; if the run is killed right
    then, once more. Raises what a step does.
    """
    if oracle is not None:
        # Not after hours of training: what can't be measured has no LHP.
        HLSTM_LM.describe(latency_params(run))
    if not run.step:
        run.step = STEPS[run.config.route][0]
        run.save()
    while run.step != DONE:
        if run.step == CHOICE:
            choose_route(run, crossovers)
            continue
        step, began_s = run.step, time.perf_counter()
        if step == "lhp":
            grow_to_lhp(run, oracle)
        else:
            _ALONE[step](run)
        row = _describe(run, time.perf_counter() - began_s)
        at_step_end(row)
        steps = STEPS[find_route(run.config.route, run.rows)]
        following = steps.index(step) + 1
        run.end_step(row, steps[following] if following < len(steps) else DONE)
        logger.info("%s: perplexity %.1f, %.0f s", step, row["valid_perplexity"], row["seconds"])


def train_baseline(run: TrainingRun) -> None:
    """Trains the stacked LSTM that the H-LSTM is held against."""
    if not run.is_training:
        run.begin_training(
            max_epochs=run.config.baseline_epochs, learning_rate=run.config.learning_rate
        )
    run.accept(run.train())


def grow_from_seed(run: TrainingRun) -> None:
    """Step (a): a sparse seed grows by its gradients at the beginning of its first epochs.

    One training: the optimiser goes on from growth to growth.
    """
    config, model = run.config, run.hlstm
    if not run.is_training:
        generator = torch.Generator().manual_seed(config.seed)
        model.masks = seed_masks(model.weights, density=config.seed_density, generator=generator)
        run.notes["round"] = 0
        run.begin_training(
            max_epochs=config.growth_epochs + config.growth_settling_epochs,
            learning_rate=config.learning_rate,
        )

    def grow(epoch: int) -> None:
        if epoch < config.growth_epochs:
            gradients = run.mean_gradient(apply_masks(model.weights, model.masks))
            run.grow(grow_layer_weights(model.masks, gradients, ratio=config.growth_ratio))
            run.notes["round"] = epoch + 1

    run.accept(run.train(at_epoch=grow))


def find_route(route: Route, rows: Sequence[Row]) -> Route:
    """The route of a run of the configured `route` with these rows: `dense` or `sparse`.

    `measured` as long as that hasn't been measured.
    """
    choices = [row["route"]["chosen"] for row in rows if "route" in row]
    return choices[-1] if route == "measured" and choices else route


def choose_route(run: TrainingRun, oracle: CrossoverOracle | None) -> None:
    """Sets the run's next step: step (d) where sparse kernels will surely be faster, else (b).

    That is, where each product of the layer that is carried out at every time step has its
    crossover, the upper end of its interval, at or below the sparsity expected: what one round
    of (d) at its first ratio leaves of the weights. It is no promise (the round may fail), and no
    bound (further rounds may prune more); what came of it is in the report beside it. The input's
    product, once a sequence, isn't asked about.

    Where the service is away, `when_away` says whether to go on by the dense route. Raises
    NoServiceError, and what the oracle raises.
    """
    if run.config.route != "measured":  # so it was, before the run was resumed
        run.step = STEPS[run.config.route][2]
        run.save()
        return
    row = run.rows[-1]
    rounds = 1 if run.config.max_rounds is None else min(run.config.max_rounds, 1)
    expected = 1 - row["density"] * (1 - run.config.weight_ratio) ** rounds
    products = run.ranks.ask_first(lambda: _ask_crossovers(run, oracle))
    surely_from = [each["sparsity_interval"][1] for each in products or ()]
    is_sparse = products is not None and all(
        share is not None and share <= expected for share in surely_from
    )
    chosen: Route = "sparse" if is_sparse else "dense"
    row["route"] = {"chosen": chosen, "expected_sparsity": expected, "products": products}
    logger.info("%s route: %.1f %% zeros expected", chosen, 100 * expected)
    run.step = STEPS[chosen][2]
    run.save()


def prune_rows_and_columns(run: TrainingRun) -> None:
    """Step (b): the weakest hidden and state units go, as long as retraining makes up for it."""

    def prune(rate: PruningRate) -> None:
        model = run.hlstm
        gate_width, state_width = model.dims
        model.masks = prune_units(
            model.weights,
            model.masks,
            num_hidden=rate.count(gate_width),
            num_states=rate.count(state_width),
        )

    _prune_in_rounds(run, run.config.unit_ratio, prune, lambda: max(run.hlstm.dims))


def grow_to_lhp(run: TrainingRun, oracle: LatencyOracle | None) -> None:
    """Step (c): dormant units wake up to the LHP that the service names; then retraining.

    Where the dims are an LHP already, retraining is all, and kept where it helped.

    Where the service is away and nothing is cached, `when_away` says whether to go on without.
    Raises NoServiceError, and what the oracle raises.
    """
    config, notes = run.config, run.notes
    if "answer" not in notes:
        notes["answer"] = run.ranks.ask_first(lambda: _ask(run, oracle))
        run.save()  # not to be asked again: another answer would be another run
    answer = notes["answer"]
    if answer is None:
        return
    if not run.is_training:
        if any(answer["grow_by"]):
            _wake(run, *answer["lhp"])
        run.begin_training(max_epochs=config.lhp_epochs, learning_rate=config.retrain_learning_rate)
    perplexity = run.train()
    assert run.accepted is not None
    if any(answer["grow_by"]) or perplexity < run.accepted.perplexity:
        run.accept(perplexity)
    else:
        run.revert()


def prune_weights(run: TrainingRun) -> None:
    """Step (d): the smallest weights go, as long as retraining makes up for it."""

    def prune(rate: PruningRate) -> None:
        model = run.hlstm
        model.masks = prune_layer_weights(model.weights, model.masks, ratio=rate.ratio)

    def count() -> int:
        return run.hlstm.count_recurrent_parameters()

    _prune_in_rounds(run, run.config.weight_ratio, prune, count)


_ALONE: dict[str, Callable[[TrainingRun], None]] = {
    "baseline": train_baseline,
    "growth": grow_from_seed,
    "units": prune_rows_and_columns,
    "weights": prune_weights,
}
"""The steps that ask nobody."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What pruning has to keep, in perplexity on the validation text."""

    perplexity: float
    """A round that is above this after its retraining is undone."""
    target: float
    """A retraining ends early once it is here: at the threshold, or below it at the baseline's."""
    source: str
    """Whose it is, in words."""


def find_threshold(run: TrainingRun) -> Threshold:
    """The threshold of all pruning of a run.

    `max_perplexity`; else the baseline's perplexity; or, where growth ended above that, growth's:
    retraining then goes on towards the baseline's. And `slack` above that. Raises
    InvalidRequestError where there is no baseline.
    """
    given, slack = run.config.max_perplexity, run.config.slack
    more = f" and {100 * slack:g}% more" if slack else ""
    if given is not None:
        return Threshold(
            perplexity=given * (1 + slack), target=given, source=f"as configured{more}"
        )
    ended = {row["step"]: float(row["valid_perplexity"]) for row in run.rows}
    if "baseline" not in ended:
        raise InvalidRequestError(
            "nothing says what perplexity pruning has to keep",
            hint="set max_perplexity, or train the baseline first",
        )
    baseline = ended["baseline"]
    grown = ended.get("growth", baseline)
    return Threshold(
        perplexity=max(baseline, grown) * (1 + slack),
        target=baseline,
        source=("the baseline's" if grown <= baseline else "that of (a), above the baseline's")
        + more,
    )


def _prune_in_rounds(
    run: TrainingRun,
    ratio: float,
    prune: Callable[[PruningRate], None],
    count_live: Callable[[], int],
) -> None:
    """Prunes and retrains, from the run's accepted model to the last that kept the threshold."""
    config, notes = run.config, run.notes
    threshold = find_threshold(run)
    notes.setdefault("round", 0)
    notes.setdefault("num_accepted", 0)
    notes.setdefault("ratio", ratio)
    while notes["ratio"] is not None and notes["round"] != config.max_rounds:
        rate = PruningRate(ratio=notes["ratio"])
        if not run.is_training:
            if count_live() < 2:
                break
            notes["num_live"] = count_live()
            prune(rate)
            if run.hlstm.count_recurrent_parameters() > 0:
                run.begin_training(
                    max_epochs=config.retrain_epochs,
                    learning_rate=config.retrain_learning_rate,
                    stop_at=threshold.target,
                )
        # The last weights of a network may take all its units with them.
        perplexity = _train_or_fail(run) if run.is_training else math.inf
        if perplexity <= threshold.perplexity:
            run.accept(perplexity)
            notes["num_accepted"] += 1
        else:
            run.revert()
            slower = rate.after_failure(notes["num_live"])
            is_over = slower is None or slower.ratio < config.min_prune_ratio
            notes["ratio"] = None if slower is None or is_over else slower.ratio
        notes["round"] += 1


def _train_or_fail(run: TrainingRun) -> float:
    """The validation perplexity after a round's retraining; infinite where that diverges."""
    try:
        return run.train()
    except DivergedError as error:
        logger.warning("a round fails: %s", error)
        run.end_training()
        return math.inf


def _ask(run: TrainingRun, oracle: LatencyOracle | None) -> dict[str, Any] | None:
    """What the service says of the model's dims; None where it is away and that is all right."""
    config = run.config
    try:
        if oracle is None:
            raise NoServiceError(
                "no latency service was named, and step (c) asks one for the LHP",
                hint="name it (--service URL), or say when_away=skip",
            )
        answer = oracle.query(
            run.hlstm.dims,
            workload="hlstm_lm",
            params=latency_params(run),
            max_growth=config.max_growth,
        )
    except (HostAwayError, NoRecordedAnswerError, NoServiceError) as error:
        if config.when_away == "fail":
            raise
        logger.warning("step (c) is skipped: %s", error)
        return None
    return {
        "dims": list(answer.dims),
        "lhp": list(answer.lhp),
        "grow_by": list(answer.grow_by),
        "latency_s": answer.latency_s,
        "lhp_latency_s": answer.lhp_latency_s,
        "speedup": answer.speedup,
        "speedup_interval": list(answer.speedup_interval),
        "verdict": answer.verdict,
        "workload": answer.workload,
        "platform": answer.platform,
        "host": answer.host,
        "curve": answer.curve,
        "measured_at": answer.measured_at.isoformat(),
        "stale": answer.stale,
        "source": answer.source,
    }


def _ask_crossovers(
    run: TrainingRun, oracle: CrossoverOracle | None
) -> list[dict[str, Any]] | None:
    """Where sparse products win; None where the service is away and that is all right."""
    gate_width, state_width = run.hlstm.dims
    try:
        if oracle is None:
            raise NoServiceError(
                "no latency service was named, and the route is to be measured",
                hint="name it (--service URL), or say route=dense or route=sparse",
            )
        answers = [
            oracle.get_crossover(dims, batch=run.config.latency_batch)
            for dims in ((NUM_GATES * gate_width, state_width), (state_width, gate_width))
        ]
    except (HostAwayError, NoServiceError) as error:
        if run.config.when_away == "fail":
            raise
        logger.warning("the route isn't measured: %s", error)
        return None
    return [answer.model_dump(mode="json", exclude={"sparse", "kernels"}) for answer in answers]


def latency_params(run: TrainingRun) -> dict[str, int | str]:
    """The fixed parameters of the workload `hlstm_lm` that this run is measured as."""
    return {
        "batch": run.config.latency_batch,
        "steps": run.config.latency_steps,
        "input_size": run.config.embedding_width,
        "vocabulary": run.vocabulary,
    }


def _wake(run: TrainingRun, gate_width: int, state_width: int) -> None:
    """Grows the model's units to these widths, those of the largest gradients first."""
    config, model = run.config, run.hlstm
    hidden_kg, state_s = live_hidden_units(model.masks), live_states(model.masks)
    num_hidden = gate_width - int(hidden_kg.sum(1).max())
    num_states = state_width - int(state_s.sum())
    widest = model.widths
    model.widen(gate_width=max(gate_width, widest[0]), state_width=max(state_width, widest[1]))
    generator = torch.Generator().manual_seed(config.seed)
    opened = open_dormant(model.weights, model.masks, generator=generator)
    grown = grow_units(
        opened,
        model.masks,
        run.mean_gradient(opened),
        num_hidden=num_hidden,
        num_states=num_states,
        learning_rate=config.retrain_learning_rate,
    )
    model.masks = grown.masks
    model.load_weights(grown.weights)


def _find_dims(run: TrainingRun) -> tuple[int, int]:
    """The dims that the model is exported with and measured at: the LHP's, once there is one.

    Units that die after growth to the LHP stay, all zero: its dims cost no more than smaller
    ones.
    """
    answers = [row.get("answer") for row in run.rows] + [run.notes.get("answer")]
    given = [each["lhp"] for each in answers if each is not None]
    return (given[-1][0], given[-1][1]) if given else run.model.dims


def _describe(run: TrainingRun, seconds: float) -> Row:
    """The report's row of the step that has just ended."""
    assert run.accepted is not None
    run.revert()
    row: Row = {
        "step": run.step,
        "dims": list(_find_dims(run)),
        "live_dims": list(run.model.dims),
        "recurrent_parameters": run.model.count_recurrent_parameters(),
        "table_parameters": run.model.table.numel(),
        "valid_perplexity": run.accepted.perplexity,
        "test_perplexity": run.evaluate("test"),
        "rounds": run.notes.get("round", 1),
        "seconds": seconds,
    }
    if isinstance(run.model, MaskedHLSTM):
        gate_width, state_width = row["dims"]
        possible = 4 * gate_width * (run.config.embedding_width + 2 * state_width)
        row["density"] = row["recurrent_parameters"] / possible
    if run.step in ("units", "weights"):
        threshold = find_threshold(run)
        row["threshold"], row["threshold_of"] = threshold.perplexity, threshold.source
        row["rounds_accepted"] = run.notes["num_accepted"]
        row["kept_threshold"] = run.accepted.perplexity <= threshold.perplexity
        if not row["kept_threshold"]:
            logger.warning(
                "step %s can't keep a perplexity of %.2f: it ends with the model that it began"
                " with, the best so far, of %.2f",
                run.step,
                threshold.perplexity,
                run.accepted.perplexity,
            )
    if run.step == "lhp":
        row["answer"] = run.notes["answer"]
    return row
