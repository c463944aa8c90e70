"""What a run needs the latency service for: checked before it trains, asked when its step comes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from profiler_service.errors import HostAwayError, InvalidRequestError, LhpError
from profiler_service.kinds import get_workload_kind
from profiler_service.workload import ParamValue
from trainer_client.methods.grow_prune.config import GrowPruneConfig
from trainer_client.oracle.protocol import CrossoverOracle, LatencyOracle
from trainer_client.oracle.recordings import NoRecordedAnswerError
from trainer_client.run.training_run import TrainingRun

logger = logging.getLogger(__name__)

T = TypeVar("T")
Asked = TypeVar("Asked", LatencyOracle, CrossoverOracle)


class NoServiceError(LhpError):
    """There is no service to ask for the LHP (step (c)) or for crossovers."""


AWAY = (HostAwayError, NoRecordedAnswerError, NoServiceError)
"""Errors after which `when_away` says what to do."""


def check_lhp(run: TrainingRun[GrowPruneConfig], oracle: LatencyOracle | None) -> None:
    """Returns if step (c), which is ahead of the run, can ask the oracle, or may be left out.

    Raises NoServiceError, and what the oracle raises.
    """
    question = run.task.ask_about(run.widest)
    if question is None:
        return
    described = get_workload_kind(question.workload).describe(question.params)
    dims = described.check_dims(question.dims)
    _check(
        run.config,
        oracle,
        lambda there: there.check(dims, workload=question.workload, params=question.params),
        step="step (c)",
    )


def check_crossovers(run: TrainingRun[GrowPruneConfig], oracle: CrossoverOracle | None) -> None:
    """As `check_lhp`, for the choice of a route by crossovers."""
    question, products = run.task.ask_about(run.widest), run.task.sparse_products(run.widest)
    if question is None or not products:
        raise InvalidRequestError(
            "route=measured needs products that sparse kernels can carry out; this task names none",
            hint="choose route=dense or route=sparse",
        )
    params: dict[str, ParamValue] = {"batch": question.params["batch"], "backend": "csr"}
    _check(
        run.config,
        oracle,
        lambda there: there.check(products[0], workload="linear", params=params),
        step="the choice of a route",
    )


def _check(
    config: GrowPruneConfig, oracle: Asked | None, check: Callable[[Asked], None], *, step: str
) -> None:
    try:
        if oracle is None:
            raise NoServiceError(
                f"{step} needs a latency service, and none was named",
                hint="name one (--service URL)",
            )
        logger.info("tries whether the service measures what %s will ask", step)
        check(oracle)
    except AWAY as error:
        if config.when_away == "fail":
            _also(
                error,
                f"or train without it: --set when_away=skip leaves {step} out if no service answers"
                " by then",
            )
            raise
        logger.warning("%s; training all the same, for %s may be left out", error, step)


def ask_or_skip(config: GrowPruneConfig, ask: Callable[[], T], *, what: str) -> T | None:
    """The answer; None if the service is away and `when_away` lets the run do without.

    Raises what `ask` does. The hint then says that the run continues from here.
    """
    try:
        return ask()
    except LhpError as error:
        if isinstance(error, AWAY):
            if config.when_away == "skip":
                logger.warning("%s is left out: %s", what, error)
                return None
            _also(error, "then go on from here with --resume")
            _also(error, f"or leave {what} out: --resume --set when_away=skip")
        else:
            _also(error, "the run is kept: --resume goes on from here")
        raise


def _also(error: LhpError, advice: str) -> None:
    error.hint = f"{error.hint}; {advice}" if error.hint else advice
