"""Answers and landscapes that a host's model predicts, as they are sent to the client.

Knows no HTTP. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from profiler_service.answering.curves import Conditions
from profiler_service.answering.downsampling import thin
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.answering.predictions import PredictedWindow
from profiler_service.answering.questions import Where
from profiler_service.answering.resources import axis_ranges
from profiler_service.errors import (
    HostAwayError,
    InvalidRequestError,
    ShuttingDownError,
    StoreUnavailableError,
    TooManyRequestsError,
)
from profiler_service.kinds import CALLABLE
from profiler_service.latency_model.calibration import Standing
from profiler_service.latency_model.predict import find_deviations
from profiler_service.latency_model.settings import MODEL
from profiler_service.storage.store import Sweep
from profiler_service.wire import (
    CalibrationFigures,
    LearnedFigures,
    LhpAnswer,
    LhpQuery,
    PredictedAnswer,
    PredictedCurve,
    PredictedPoint,
    PredictedPoints,
)

if TYPE_CHECKING:
    from profiler_service.answering.services import Services

MOST_DEVIATIONS = 4096
"""Of more points, no deviations are told: each takes the square of the number of features."""
NUM_BEST = 10
"""So many points of a landscape are told with their intervals."""
FAR_OCTAVES = 1.0
"""Predictions farther off than this from what was measured get a caveat."""
QUEUE_S = 2.0
"""A prediction waits so long for its race to be queued."""

Points = npt.NDArray[np.intp]


def check_basis(query: LhpQuery) -> None:
    """Returns if the parameters of the question go with its basis. Raises InvalidRequestError.

    How to measure can't be said of a prediction, which measures nothing: it would be ignored.
    """
    if query.basis == "measured":
        if query.unproven != "keep":
            raise InvalidRequestError(
                "unproven= is for predictions; a measured answer is proven",
                hint="add basis=predicted or basis=any, or leave unproven out",
            )
        return
    if query.platforms is not None:
        raise InvalidRequestError(
            f"basis={query.basis} predicts one platform at a time",
            hint="leave out `platforms` and ask for each `platform`, or leave out `basis`",
        )
    if query.workload == CALLABLE.name:
        raise InvalidRequestError(
            "nothing is predicted of a user's own code: after each change it is another workload",
            hint="leave out `basis`",
        )
    if query.basis == "any":
        return
    given = [
        name
        for name in ("budget", "margin", "settle", "max_age")
        if getattr(query, name) is not None
    ]
    if query.effort != "quick":
        given.append("effort")
    if given:
        raise InvalidRequestError(
            f"{given[0]}= says how to measure, and basis=predicted measures nothing",
            hint=f"leave out `{given[0]}`, or ask with basis=any",
        )


async def answer_any(
    services: Services,
    question: LhpQuestion,
    where: Where,
    *,
    moves_unproven: bool,
    client: str | None,
) -> LhpAnswer | PredictedAnswer:
    """The measured answer if it is known. Else the predicted one; the race is queued meanwhile.

    What keeps the race from being queued for now is a caveat. Raises as `Asking.ask` otherwise.
    """
    known = await services.asking.find(question, where)
    if known is not None:
        return known
    answer = await predict_answer(services, question, where, moves_unproven=moves_unproven)
    try:
        async with asyncio.timeout(QUEUE_S) as limit:
            queued = await services.asking.ask(question, where, wait_s=0, client=client)
    except (TooManyRequestsError, HostAwayError, ShuttingDownError, StoreUnavailableError) as error:
        return _with_caveat(answer, f"no race was queued to measure it: {error}")
    except TimeoutError:
        if not limit.expired():
            raise
        return _with_caveat(answer, f"no race was queued to measure it within {QUEUE_S:g} s")
    if isinstance(queued, Sweep):
        return answer.model_copy(update={"sweep": queued.id})
    return queued


async def predict_answer(
    services: Services, question: LhpQuestion, where: Where, *, moves_unproven: bool = False
) -> PredictedAnswer:
    """The predicted answer. Asks the store only for what isn't in memory yet.

    With `moves_unproven`, also to a point that isn't believed to be better.

    Raises UnknownHostError, UnknownPlatformError, InvalidRequestError, HostAwayError,
    WindowTooLargeError, StoreError.
    """
    conditions, window = await _predict(services, question, where)
    asked, prediction = question.dims, None if window is None else window.prediction
    pair = None if prediction is None else prediction.pair
    candidate = asked if pair is None else pair.dims
    is_believed = prediction is not None and prediction.is_believed
    is_unproven = moves_unproven and not is_believed and candidate != asked
    lhp = candidate if is_believed or is_unproven else asked
    figures = _describe(services, question, conditions, window)
    if is_unproven:
        figures["caveats"].append(
            "the prediction isn't believed: it moves because the question says unproven=move"
        )
    return PredictedAnswer(
        **figures,
        dims=list(asked),
        lhp=list(lhp),
        grow_by=[b - a for a, b in zip(asked, lhp, strict=True)],
        candidate=list(candidate),
        speedup=1.0 if pair is None else math.exp(-pair.log_ratio),
        speedup_interval=(
            None if pair is None else _find_interval(pair.log_ratio, pair.half_width)
        ),
        probability=None if prediction is None else prediction.probability,
        unproven=is_unproven,
        prefer=question.prefer,
        slack=question.terms.slack,
    )


async def predict_curve(
    services: Services, question: LhpQuestion, where: Where, *, max_points: int
) -> PredictedCurve:
    """The predicted landscape of the question's window. Raises as `predict_answer`."""
    conditions, window = await _predict(services, question, where)
    figures = _describe(services, question, conditions, window)
    if window is None:
        return PredictedCurve(
            **figures,
            axis_names=list(question.workload.axes),
            axes=axis_ranges(question.window),
            num_points=question.window.num_candidates,
            num_left_out=question.window.num_candidates,
            points=PredictedPoints(dims=[], speedup=[], deviation=None),
            half_width_in_deviations=None,
            best=[],
        )
    return await asyncio.to_thread(_draw, question, window, figures, max_points)


async def _predict(
    services: Services, question: LhpQuestion, where: Where
) -> tuple[Conditions, PredictedWindow | None]:
    """What is predicted of the window, and under which conditions; None if nothing is known."""
    services.admission.check_bounds(question.sweep, for_question=True)
    limit_s = services.settings.longest_answer_s
    try:
        async with asyncio.timeout(limit_s) as limit:
            conditions = services.hosts.find_known_conditions(where)
            if conditions is None:
                conditions = await _find_conditions(services, where)
            if conditions.protocol_key is None:
                return conditions, None
            window = await services.predictions.predict(
                question.workload,
                question.window,
                platform_key=conditions.platform_key,
                protocol_key=conditions.protocol_key,
                prefer=question.prefer,
                slack=question.terms.slack,
            )
    except TimeoutError:
        if not limit.expired():
            raise
        raise StoreUnavailableError(
            f"the database didn't answer within {limit_s:g} s",
            hint="ask again later; what was predicted lately is known without it",
        ) from None
    return conditions, None if window.model.is_empty else window


async def _find_conditions(services: Services, where: Where) -> Conditions:
    located = await services.hosts.locate(where)
    conditions = await services.hosts.find_conditions(located)
    if conditions is None:
        raise HostAwayError(
            f"host {services.settings.host!r} hasn't registered yet, so its platform isn't known",
            hint="start its worker, or ask for another host",
            see="/hosts",
        )
    return conditions


def _describe(
    services: Services,
    question: LhpQuestion,
    conditions: Conditions,
    window: PredictedWindow | None,
) -> dict[str, Any]:
    """The fields of `PredictedFigures`."""
    common = {"workload": question.workload.key, "platform": conditions.platform_key}
    if window is None:
        return common | {
            "standing": "unknown",
            "calibration": CalibrationFigures(num_scores=0, num_published=0, num_misses=0),
            "rests_on": LearnedFigures(num_sweeps=0.0, num_visits=0.0, learned_at=None),
            "distance": None,
            "caveats": [_say_why_unknown(services, conditions)],
        }
    model, distance = window.model, window.landscape.distance
    learned = model.fit.statistics
    return common | {
        "standing": window.prediction.standing.value,
        "calibration": CalibrationFigures(
            num_scores=model.calibration.num_scores,
            num_published=model.calibration.num_published,
            num_misses=model.calibration.num_misses,
        ),
        "rests_on": LearnedFigures(
            num_sweeps=round(model.fit.num_sweeps, 2),
            num_visits=round(learned.num_visits, 2),
            learned_at=model.updated_at,
        ),
        "distance": distance if math.isfinite(distance) else None,
        "caveats": _find_caveats(window),
    }


def _say_why_unknown(services: Services, conditions: Conditions) -> str:
    if not services.settings.learn:
        return "unknown: this service doesn't learn (LHP_LEARN=false), so it predicts nothing"
    if conditions.protocol_key is None:
        return "unknown: no host is on this platform now"
    return (
        "unknown: nothing was learned of this workload on this platform; every question that is"
        " measured there teaches"
    )


def _find_caveats(window: PredictedWindow) -> list[str]:
    """Why to doubt what is predicted, in words."""
    standing, calibration = window.prediction.standing, window.model.calibration
    caveats = []
    if standing is Standing.UNCALIBRATED:
        needed = MODEL.calibration.least_scores
        so_far = "" if calibration.num_scores < needed else " so far from what was learned"
        caveats.append(
            f"uncalibrated: {calibration.num_scores} earlier predictions were held against"
            f" measurements; {needed}{so_far} are needed before one is believed"
        )
    elif standing is Standing.WITHDRAWN:
        caveats.append(
            f"withdrawn: too many of the last predictions were wrong ({calibration.num_misses} of"
            f" {calibration.num_published} outside of their interval)"
        )
    if not window.model.fit.statistics.num_sweeps:
        caveats.append(
            "this workload was never measured on this platform: the prediction rests on its kind"
            " with other fixed parameters, or on the platform before an upgrade"
        )
    distance = window.landscape.distance
    if distance > FAR_OCTAVES:
        caveats.append(
            f"the nearest window that was measured is {distance:.1f} octaves away: nothing is known"
            " of such dims"
        )
    return caveats


def _draw(
    question: LhpQuestion, window: PredictedWindow, figures: dict[str, Any], max_points: int
) -> PredictedCurve:
    """The landscape with its best points, and about `max_points` others."""
    landscape, fit, calibration = window.landscape, window.model.fit, window.model.calibration
    allowed = np.flatnonzero(~landscape.excluded)
    log_ratio = landscape.log_ratio[allowed]
    order = allowed[np.argsort(log_ratio, kind="stable")]
    best = order[order != 0][:NUM_BEST]
    shown: Points = allowed[
        thin(landscape.grid.dims_of(allowed), [log_ratio], np.isin(allowed, best), max_points)
    ]
    deviation = None
    if len(shown) <= MOST_DEVIATIONS:
        deviation = find_deviations(fit, landscape, shown).round(6).tolist()
    return PredictedCurve(
        **figures,
        axis_names=list(question.workload.axes),
        axes=axis_ranges(landscape.grid),
        num_points=len(allowed),
        num_left_out=len(allowed) - len(shown),
        points=PredictedPoints(
            dims=landscape.grid.dims_of(shown).tolist(),
            speedup=np.exp(-landscape.log_ratio[shown]).round(6).tolist(),
            deviation=deviation,
        ),
        half_width_in_deviations=calibration.find_half_width(1.0, landscape.distance),
        best=[
            PredictedPoint(
                dims=list(landscape.grid.dims(point)),
                speedup=math.exp(-log),
                speedup_interval=_find_interval(
                    log, calibration.find_half_width(each, landscape.distance)
                ),
                probability=calibration.find_probability(
                    log, each, landscape.distance, slack=question.terms.slack
                ),
            )
            for point, log, each in zip(
                best.tolist(),
                landscape.log_ratio[best].tolist(),
                find_deviations(fit, landscape, best).tolist(),
                strict=True,
            )
        ],
    )


def _find_interval(log_ratio: float, half_width: float | None) -> tuple[float, float] | None:
    if half_width is None:
        return None
    return math.exp(-log_ratio - half_width), math.exp(-log_ratio + half_width)


def _with_caveat(answer: PredictedAnswer, caveat: str) -> PredictedAnswer:
    return answer.model_copy(update={"caveats": [*answer.caveats, caveat]})
