"""Predictions on pages: the answer in words, its figure, and what a host has learned.

A page says of every figure of a prediction that it wasn't measured.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from profiler_service.answering.learned_models import list_models
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.answering.predicted import predict_curve
from profiler_service.api.dependencies import ServicesDep
from profiler_service.api.questions import read_lhp_question, read_where
from profiler_service.dashboard.given import parse_given, read_given
from profiler_service.dashboard.rendering import count, format_size
from profiler_service.dashboard.routes import PageRoute
from profiler_service.plots.predicted import predicted_figure
from profiler_service.plots.quantities import format_gain, format_gain_interval
from profiler_service.storage.store import Host, Store
from profiler_service.wire import LhpQuery, PredictedAnswer

MOST_DRAWN: Final = 65_536
"""Points of a window that is drawn: as many as of a measured curve."""
MOST_MODELS: Final = 50
"""So many models of a host are listed, those with the most visits."""

TONES: Final[Mapping[str, str]] = {
    "calibrated": "faster",
    "uncalibrated": "",
    "withdrawn": "slower",
}

router = APIRouter(route_class=PageRoute, prefix="/ui/predictions", include_in_schema=False)


@dataclass(frozen=True, kw_only=True)
class Said:
    """A prediction in words."""

    title: str
    lead: str
    basis: str
    """What it rests on; empty if on nothing."""


@dataclass(frozen=True, kw_only=True)
class LearnedRow:
    """A model of a host, as its page lists it."""

    workload: str
    learned_at: dt.datetime
    num_sweeps: int
    num_visits: int
    standing: str
    tone: str
    record: str
    """How good earlier predictions of the kind were."""


def describe_prediction(answer: PredictedAnswer) -> Said:
    """The predicted answer in words: what leads, and never what to use."""
    asked, candidate = format_size(answer.dims), format_size(answer.candidate)
    if answer.standing == "unknown":
        title = f"Keep {asked}: nothing was learned of it yet"
        return Said(title=title, lead="What is measured here teaches.", basis="")
    basis = f"It rests on {count(round(answer.rests_on.num_sweeps), 'sweep')} of this host's"
    basis += f" platform. {_describe_record(answer)}"
    if answer.candidate == answer.dims:
        title = f"Keep {asked}: nothing larger promises to be faster"
        return Said(title=title, lead="By what was learned so far.", basis=basis)
    gain = format_gain(answer.speedup)
    lead = "No interval yet."
    if answer.speedup_interval is not None:
        interval = format_gain_interval(answer.speedup, *answer.speedup_interval)
        lead = f"95 % interval {interval}."
    if answer.probability is not None:
        lead += f" No slower with {100 * answer.probability:.0f} % probability."
    if answer.lhp == answer.candidate:
        return Said(title=f"Leading: {candidate}, {gain}", lead=lead, basis=basis)
    title = f"Keep {asked}; {candidate} leads, {gain}"
    return Said(title=title, lead=f"{lead} That isn't believed enough to move.", basis=basis)


def _describe_record(answer: PredictedAnswer) -> str:
    calibration = answer.calibration
    if calibration.num_published:
        held = calibration.num_published - calibration.num_misses
        return f"{held} of {count(calibration.num_published, 'earlier prediction')} held."
    return f"{count(calibration.num_scores, 'earlier prediction')} without an interval."


def is_drawn(question: LhpQuestion, answer: PredictedAnswer) -> bool:
    """Whether the predicted window has a figure."""
    window = question.window
    return answer.standing != "unknown" and len(window.axes) <= 2 and window.size <= MOST_DRAWN


@router.get("/figure")
async def draw_prediction(request: Request, services: ServicesDep) -> Response:
    """The figure of the predicted landscape of a question's window."""
    query = parse_given(LhpQuery, read_given(request))
    question = read_lhp_question(query, services)
    curve = await predict_curve(services, question, read_where(query), max_points=MOST_DRAWN)
    figure = await asyncio.to_thread(predicted_figure, curve)
    return Response(json.dumps(figure, separators=(",", ":")), media_type="application/json")


async def list_learned(host: Host, store: Store) -> list[LearnedRow]:
    """What the platform of the host has learned. Raises StoreError."""
    return await asyncio.to_thread(_list_learned, host, store)


def _list_learned(host: Host, store: Store) -> list[LearnedRow]:
    rows = []
    for each in list_models(store, host.platform_key, host.protocol_key, most=MOST_MODELS):
        header, calibration = each.header, each.calibration
        standing = calibration.find_standing(0.0).value
        record = f"{count(calibration.num_scores, 'prediction')} compared"
        if calibration.num_published:
            record = f"{calibration.num_misses} of {calibration.num_published} missed"
        rows.append(
            LearnedRow(
                workload=header.key.workload.key,
                learned_at=header.updated_at,
                num_sweeps=round(header.num_sweeps),
                num_visits=round(header.num_visits),
                standing=standing,
                tone=TONES[standing],
                record=record,
            )
        )
    return rows
