"""Chooses the steps of a run, from its configuration or from the crossovers of its products."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from profiler_service.wire import CrossoverAnswer
from trainer_client.methods.grow_prune.config import GrowPruneConfig, Route
from trainer_client.methods.grow_prune.service_use import (
    NoServiceError,
    ask_or_skip,
    check_crossovers,
    check_lhp,
)
from trainer_client.oracle.protocol import CrossoverOracle, LatencyOracle
from trainer_client.run.logs import Row
from trainer_client.run.training_run import TrainingRun

logger = logging.getLogger(__name__)

DONE = "done"
CHOICE = "route"
"""Decides which route to take. Not a step of the paper, and not a row of the report."""
STEPS: Mapping[Route, tuple[str, ...]] = {
    "dense": ("baseline", "growth", "units", "lhp", "weights"),
    "sparse": ("baseline", "growth", "weights"),
    "measured": ("baseline", "growth", CHOICE),
    "trained": ("baseline", "units", "lhp", "weights"),
}
"""The steps of each route, by name: `growth` is the paper's (a), `units` (b), `lhp` (c),
`weights` (d)."""


def find_route(route: Route, rows: Sequence[Row]) -> Route:
    """The route of a run with the configured `route` and these rows: `dense` or `sparse`.

    Also `measured`, if it hasn't been decided yet.
    """
    choices = [row["route"]["chosen"] for row in rows if "route" in row]
    return choices[-1] if route == "measured" and choices else route


def check_ahead(
    run: TrainingRun[GrowPruneConfig],
    oracle: LatencyOracle | None,
    crossovers: CrossoverOracle | None,
) -> None:
    """Returns if what the run's coming steps ask can be asked now, or may be left out.

    Raises NoServiceError, and what the oracles raise.
    """
    steps = STEPS[find_route(run.config.route, run.rows)]
    ahead = steps[steps.index(run.step) :] if run.step in steps else steps
    if run.step == DONE:
        return
    if CHOICE in ahead:
        check_crossovers(run, crossovers)
    is_answered = run.step == "lhp" and "answer" in run.notes
    # Whether (c) is on a route that isn't chosen yet, nobody knows.
    may_ask = "lhp" in ahead or (CHOICE in ahead and oracle is not None)
    if may_ask and not is_answered:
        check_lhp(run, oracle)


def choose_route(run: TrainingRun[GrowPruneConfig], oracle: CrossoverOracle | None) -> None:
    """Sets the run's next step: (d) if sparse kernels will certainly be faster, otherwise (b).

    They are certainly faster if, for each product of a time step, the upper end of the crossover's
    interval is at or below the expected sparsity. The expected sparsity is the share of zeros after
    one round of (d) at its first ratio. The round may fail, and later rounds may prune more; the
    report shows the expected sparsity beside the one that was reached. The product of the input
    runs only once per sequence and isn't considered.

    If the service is away, `when_away` says whether to continue on the dense route. Raises
    NoServiceError, and what the oracle raises.
    """
    if run.config.route != "measured":  # so it was decided before the run was resumed
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


def _ask_crossovers(
    run: TrainingRun[GrowPruneConfig], oracle: CrossoverOracle | None
) -> list[dict[str, Any]] | None:
    """The crossovers of sparse products; None if the service is away and that is allowed."""
    widths = run.compact.live_widths
    question, products = run.task.ask_about(widths), run.task.sparse_products(widths)
    assert question is not None  # checked before anything was trained

    def ask() -> list[CrossoverAnswer]:
        if oracle is None:
            raise NoServiceError(
                "route=measured needs a latency service, and none was named",
                hint="name one (--service URL), or choose route=dense or route=sparse",
            )
        return [
            oracle.get_crossover(dims, batch=int(question.params["batch"])) for dims in products
        ]

    answers = ask_or_skip(run.config, ask, what="the measuring of the route")
    if answers is None:
        return None
    return [answer.model_dump(mode="json", exclude={"sparse", "kernels"}) for answer in answers]
