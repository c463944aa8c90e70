"""/ui/runs: training runs that lie in the folder LHP_RUNS, as the trainer's files tell them.

Nothing is kept between two requests: a page shows the files as they are now.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from profiler_service.answering.services import Services
from profiler_service.api.dependencies import ServicesDep, refuse_unknown_parameters
from profiler_service.dashboard.rendering import count, format_size, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.dashboard.run_folder import RunFolder, RunName, TrainingRun
from profiler_service.dashboard.run_table import (
    capitalize,
    describe_call,
    describe_dims,
    describe_latencies,
    describe_run,
    find_axis_names,
    format_metric,
    name_metric,
    name_step,
    shorten_step,
    tabulate,
    tabulate_epochs,
    tell_state,
)
from profiler_service.errors import UnknownAddressError
from profiler_service.plots.training import EpochPoint, StepDims, dims_figure, metric_figure
from profiler_service.printable import printable

router = APIRouter(
    route_class=PageRoute,
    prefix="/ui/runs",
    include_in_schema=False,
    dependencies=[Depends(refuse_unknown_parameters)],
)

SHOWN = 25
"""Runs on a page."""
NEW = {"Cache-Control": "no-store"}
"""A run goes on while its page is open."""


@dataclass(frozen=True, kw_only=True)
class ListRow:
    """A run as the list shows it."""

    run: RunName
    shown_name: str
    address: str | None
    """None if its name can't be written in an address."""
    what: str
    state: str
    steps: str
    dims: str
    metric: str
    problems: Sequence[str]


def _open_folder(services: Services) -> RunFolder:
    """The folder of runs. Raises UnknownAddressError if there is none."""
    if not services.settings.runs:
        raise UnknownAddressError(
            "this service shows no training runs",
            hint="set LHP_RUNS to the folder that has their directories, and start it again",
        )
    return RunFolder(Path(services.settings.runs))


def _list_row(folder: RunFolder, named: RunName) -> ListRow | None:
    """The run as the list shows it; None if it was removed just now."""
    try:
        run = folder.read(named.name, with_epochs=False)
    except UnknownAddressError:
        return None
    config = run.report.config if run.report is not None else {}
    named_by = [config[each] for each in ("corpus", "preset", "route") if config.get(each)]
    last = run.steps[-1] if run.steps else None
    reached = last.measured("valid", run.metric) if last is not None else None
    address: str | None = None
    with contextlib.suppress(UnicodeEncodeError):
        address = quote(named.name, safe="")
    return ListRow(
        run=named,
        shown_name=printable(named.name),
        address=address,
        what=printable(", ".join(str(each)[:60] for each in named_by)),
        state=tell_state(run),
        steps=", ".join(shorten_step(row.step) for row in run.steps) or "none yet",
        dims=format_size(last.dims) if last is not None else "–",
        metric="–" if reached is None else f"{name_metric(run)} {format_metric(reached)}",
        problems=run.problems,
    )


@router.get("")
async def show_runs(
    request: Request,
    services: ServicesDep,
    skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """A page of runs, the one that was written last first."""
    folder = _open_folder(services)

    def read() -> tuple[list[ListRow], int, str]:
        listed = folder.list_names()
        chosen = [_list_row(folder, each) for each in listed.names[skip : skip + SHOWN]]
        rows = [row for row in chosen if row is not None]
        return rows, len(listed.names), listed.problem

    rows, total, problem = await asyncio.to_thread(read)
    return render(
        request,
        "runs.html",
        title=count(total, "training run") if total else "No training run yet",
        rows=rows,
        problem=problem,
        next_skip=skip + SHOWN if total > skip + SHOWN else None,
        skip=skip,
    )


async def _read(name: str, services: Services) -> TrainingRun:
    return await asyncio.to_thread(_open_folder(services).read, name)


@router.get("/{name}")
async def show_run(request: Request, name: str, services: ServicesDep) -> Response:
    """The paper's table for one run, its metric over epochs, and its dims over steps."""
    run = await _read(name, services)
    report = run.report
    config = {} if report is None else report.config
    return render(
        request,
        "run.html",
        name=printable(name),
        command=f"lhp-train report {shlex.quote(f'./{printable(name)}')} --service URL",
        address=quote(name, safe=""),
        run=run,
        title=describe_run(run),
        state=tell_state(run),
        metric=capitalize(name_metric(run)),
        rows=tabulate(run),
        epochs=tabulate_epochs(run),
        measured=describe_call(config),
        where=describe_latencies(run),
        config=[
            (printable(str(key)), printable(str(value))[:300]) for key, value in config.items()
        ],
    )


@router.get("/{name}/metric")
async def draw_metric(name: str, services: ServicesDep) -> Response:
    """The figure of the task's metric over epochs."""
    run = await _read(name, services)
    points = [
        EpochPoint(
            step=name_step(row.step),
            round=row.round,
            epoch=row.epoch,
            valid=row.measured("valid", run.metric),
            train=row.measured("train", run.metric),
        )
        for row in run.epochs
    ]
    return _send(metric_figure(points, metric=name_metric(run), title=describe_run(run)))


@router.get("/{name}/dims")
async def draw_dims(name: str, services: ServicesDep) -> Response:
    """The figure of the dims over steps."""
    run = await _read(name, services)
    steps = [
        StepDims(step=name_step(row.step), short=shorten_step(row.step), dims=row.dims)
        for row in run.steps
    ]
    return _send(dims_figure(steps, axis_names=find_axis_names(run), title=describe_dims(run)))


def _send(figure: dict[str, object]) -> Response:
    text = json.dumps(figure, separators=(",", ":"))
    return Response(text, media_type="application/json", headers=NEW)
