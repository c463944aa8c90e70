"""Chooses the steps of a run, from its configuration or from the crossovers of its products."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from profiler_service.errors import HostAwayError
from profiler_service.networks.hlstm import NUM_GATES
from trainer_client.config import Route
from trainer_client.latency_client import CrossoverOracle
from trainer_client.lhp_step import NoServiceError
from trainer_client.run_files import Row
from trainer_client.train import TrainingRun

logger = logging.getLogger(__name__)

CHOICE = "route"
"""Decides which route to take. Not a step of the paper, and not a row of the report."""
STEPS: Mapping[Route, tuple[str, ...]] = {
    "dense": ("baseline", "growth", "units", "lhp", "weights"),
    "sparse": ("baseline", "growth", "weights"),
    "measured": ("baseline", "growth", CHOICE),
}
"""The steps of each route, by name: `growth` is the paper's (a), `units` (b), `lhp` (c),
`weights` (d)."""


def find_route(route: Route, rows: Sequence[Row]) -> Route:
    """The route of a run with the configured `route` and these rows: `dense` or `sparse`.

    Also `measured`, if it hasn't been decided yet.
    """
    choices = [row["route"]["chosen"] for row in rows if "route" in row]
    return choices[-1] if route == "measured" and choices else route


def choose_route(run: TrainingRun, oracle: CrossoverOracle | None) -> None:
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
    run: TrainingRun, oracle: CrossoverOracle | None
) -> list[dict[str, Any]] | None:
    """The crossovers of sparse products; None if the service is away and that is allowed."""
    gate_width, state_width = run.hlstm.dims
    try:
        if oracle is None:
            raise NoServiceError(
                "route=measured needs a latency service, and none was named",
                hint="name one (--service URL), or choose route=dense or route=sparse",
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
