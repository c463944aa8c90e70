"""Step (c): the service names the LHP for the model's dims, and dormant units wake up to it.

Source: section 5.1 of Yin et al.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from trainer_client.groups.growth import grow_units, open_dormant
from trainer_client.groups.layout import Tensors
from trainer_client.groups.masks import Masks
from trainer_client.methods.grow_prune.config import GrowPruneConfig
from trainer_client.methods.grow_prune.pruning_steps import find_threshold
from trainer_client.methods.grow_prune.service_use import (
    NoServiceError,
    ask_or_skip,
)
from trainer_client.oracle.answers import LatencyAnswer
from trainer_client.oracle.protocol import LatencyOracle
from trainer_client.run.training_run import TrainingRun

logger = logging.getLogger(__name__)

SEARCHED_SHARES = (0.0, *(2.0**n for n in range(-8, 4)))
"""With `woken_start=search`: sizes of the step that are tried, as shares of the live weights' size.
"""


def grow_to_lhp(run: TrainingRun[GrowPruneConfig], oracle: LatencyOracle | None) -> None:
    """Step (c): dormant units wake up to the LHP that the service names; then retraining.

    The result is kept if it is better than the model before, or if units woke and it keeps the
    threshold of pruning. Otherwise the model stays as it was: at the LHP's dims it is as fast.

    If the service is away and nothing is cached, `when_away` says whether to leave out the step.
    Raises NoServiceError, and what the oracle raises.
    """
    config, notes = run.config, run.notes
    if "answer" not in notes:
        notes["answer"] = run.ranks.ask_first(lambda: _ask(run, oracle))
        run.save()  # not asked again: another answer would change the run
    answer = notes["answer"]
    if answer is None:
        return
    if not run.is_training:
        if any(answer["grow_by"]):
            _wake(run, answer["widths"])
        run.begin_training(max_epochs=config.lhp_epochs, learning_rate=config.retrain_learning_rate)
    value = run.train()
    assert run.accepted is not None
    metric, has_grown = run.task.metric, any(answer["grow_by"])
    is_good = has_grown and metric.keeps(value, find_threshold(run).value)
    if is_good or metric.is_better(value, run.accepted.value):
        run.accept(value)
        return
    run.revert()
    if has_grown:
        # It is exported with these widths: there have to be so many units, if only dead ones.
        there = run.compact.widths
        wider = {axis: max(width, there[axis]) for axis, width in answer["widths"].items()}
        run.compact.widen(wider, seed=config.seed)
        run.accept(run.accepted.value)


def _ask(run: TrainingRun[GrowPruneConfig], oracle: LatencyOracle | None) -> dict[str, Any] | None:
    """The service's answer about the model's dims; None if it is away and that is allowed."""
    question = run.task.ask_about(run.compact.live_widths)
    if question is None:
        logger.info("step (c) is left out: the task has no question about latency")
        return None

    def ask() -> LatencyAnswer:
        if oracle is None:
            raise NoServiceError(
                "step (c) needs a latency service, and none was named",
                hint="name one (--service URL)",
            )
        logger.info("step (c) asks for the LHP of %s", " / ".join(map(str, question.dims)))
        return oracle.query(
            question.dims,
            workload=question.workload,
            params=question.params,
            max_growth=run.config.max_growth,
        )

    answer = ask_or_skip(run.config, ask, what="step (c)")
    if answer is None:
        return None
    return {
        "dims": list(answer.dims),
        "lhp": list(answer.lhp),
        "grow_by": list(answer.grow_by),
        "widths": dict(zip(question.axes, answer.lhp, strict=True)),
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


def _wake(run: TrainingRun[GrowPruneConfig], widths: Mapping[str, int]) -> None:
    """Grows the model to these widths. The units with the largest gradients wake."""
    config, model = run.config, run.compact
    live, all_units = model.live_widths, model.widths
    model.widen(
        {axis: max(width, all_units[axis]) for axis, width in widths.items()}, seed=config.seed
    )
    generator = torch.Generator().manual_seed(config.seed)
    opened = open_dormant(model.layout, model.weights, model.masks, generator=generator)
    gradients = run.mean_gradient(opened)
    before = model.masks

    def grow(learning_rate: float) -> None:
        grown = grow_units(
            model.layout,
            opened,
            before,
            gradients,
            counts={axis: width - live[axis] for axis, width in widths.items()},
            learning_rate=learning_rate,
        )
        model.masks = grown.masks
        model.load_weights(grown.weights)

    if config.woken_start == "step":
        grow(config.retrain_learning_rate)
        return
    scale = find_scale(opened, before, gradients)
    found = {}
    for share in SEARCHED_SHARES:
        grow(share * scale)
        found[share] = run.evaluate("probe")
    metric = run.task.metric
    best = 0.0
    for share, value in found.items():
        if metric.is_better(value, found[best]):
            best = share
    logger.info(
        "woken weights start at %g of the live weights' size: %s %.3f on a part of the training"
        " data, %.3f from zero",
        best,
        metric.name,
        found[best],
        found[0.0],
    )
    run.notes["woken_start"] = {"share": best, "values": list(found.values())}
    grow(best * scale)


def find_scale(weights: Tensors, masks: Masks, gradients: Tensors) -> float:
    """The learning rate with which one step is as large as the live weights.

    Both sizes are root mean squares: of the live weights, and of the gradients of all weights. 0 if
    there is no gradient at all.
    """
    live = torch.cat([weights[name].detach()[mask] for name, mask in masks.weights.items()])
    steepness = torch.cat([each.flatten() for each in gradients.values()])
    if not bool(steepness.any()):
        return 0.0
    return float(live.square().mean().sqrt() / steepness.square().mean().sqrt())
