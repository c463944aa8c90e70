"""/: asks a question with a form, and shows the answer.

A link only shows what is known: it starts no measurement. `POST /ui/ask` does, with the scope
`measure`; the page sends it by itself if it was opened from this service.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.admission import refuse_own_code
from profiler_service.answering.lhp import LhpQuestion
from profiler_service.answering.predicted import check_basis, predict_answer
from profiler_service.answering.resources import curve_info, is_stale, sweep_info, workload_info
from profiler_service.answering.services import Services
from profiler_service.api.access import require
from profiler_service.api.dependencies import ServicesDep, identify_client
from profiler_service.api.origins import is_foreign
from profiler_service.api.problems import error_of_invalid, hide_details, problem_of
from profiler_service.api.questions import read_lhp_question, read_where
from profiler_service.dashboard.given import parse_given, read_given
from profiler_service.dashboard.predictions import describe_prediction, is_drawn
from profiler_service.dashboard.rendering import is_part, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.dashboard.sentences import describe_finding, describe_landscape
from profiler_service.errors import (
    HostStartingError,
    InvalidRequestError,
    LhpError,
    NotFoundError,
    StoreError,
)
from profiler_service.kinds import CALLABLE, get_workload_kind, workload_kinds
from profiler_service.storage.store import CurveHeader, Sweep
from profiler_service.wire import (
    CurveInfo,
    LhpAnswer,
    LhpQuery,
    ParameterInfo,
    WorkloadInfo,
    parse_duration,
)
from profiler_service.workload import MAX_AXES, QUESTION_OPTIONS, VARY

DEFAULT_URL = "http://127.0.0.1:8000"
"""What the command line asks if it isn't told where."""
SHOWN_WAIT_S = 1.0
"""How long a page waits for a measurement before it shows the progress."""
DEFAULT_KIND = "linear"
BEGUN = "begun"
"""The parameter of a page's address that says when its question was asked first."""
OPTIONS = frozenset(LhpQuery.model_fields) - {"dims", "workload", "wait"}
"""What a question may say besides its dims and workload, in the terms of the command line."""

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@dataclass(frozen=True, kw_only=True)
class AskForm:
    """What the form shows: the kind of workload, and what was given so far."""

    kinds: Sequence[str]
    kind: WorkloadInfo
    dims: Sequence[str]
    """One for each axis; empty texts for those not given."""
    given: Mapping[str, str]
    """Every other parameter that was given."""
    hosts: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """How to ask the same from elsewhere."""

    link: str
    """Relative to the service."""
    base_url: str
    """The service's address in the lines below, as it knows it."""
    command: str
    curl: str
    python: str


def _read_form(given: Mapping[str, str], services: Services) -> AskForm:
    """The form with these values. An unknown kind becomes the default one."""
    kinds = list(workload_kinds())
    name = given.get("workload", DEFAULT_KIND)
    if name == CALLABLE.name:
        kinds.append(name)
        kind = _describe_own_code(given)
    else:
        kind = workload_info(get_workload_kind(name if name in kinds else DEFAULT_KIND))
    dims = [each.strip() for each in given.get("dims", "").split(",")]
    dims = [*dims, *([""] * len(kind.axes))][: len(kind.axes)]
    return AskForm(
        kinds=kinds,
        kind=kind,
        dims=dims,
        given={k: v for k, v in given.items() if k not in ("dims", "workload")},
        hosts=sorted(services.known.curves.snapshot.hosts),
    )


def _describe_own_code(given: Mapping[str, str]) -> WorkloadInfo:
    """A kind with the arguments that the question names; an argument that varies is an axis."""
    axes = [each for name in given.get(VARY, "").split(",") if (each := name.strip())]
    fixed = [name for name in given if name not in (*QUESTION_OPTIONS, *axes, BEGUN)]
    return workload_info(CALLABLE).model_copy(
        update={
            "axes": axes[:MAX_AXES],
            "parameters": [
                ParameterInfo(
                    name=name,
                    default=given[name],
                    description="",
                    choices=[],
                    minimum=None,
                    maximum=None,
                )
                for name in fixed
            ],
        }
    )


def _renew_age(given: dict[str, str]) -> tuple[dict[str, str], str]:
    """The parameters of the question as it is now; and when it was asked first, Unix time.

    `max_age` counts from then: what was measured meanwhile answers, and isn't measured again.
    Raises InvalidRequestError for a `max_age` that is no duration.
    """
    begun = given.pop(BEGUN, "")
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", begun):
        begun = f"{time.time():.3f}"
    if "max_age" not in given:
        return given, begun
    age_s = parse_duration(given["max_age"], name="max_age")
    age_s += max(0.0, time.time() - float(begun))
    return {**given, "max_age": f"{age_s:.3f}"}, begun


@router.get("/")
async def show_ask(request: Request, services: ServicesDep) -> Response:
    """The form; and the answer, if a question is given and its answer is known."""
    given = read_given(request)
    begun = given.pop(BEGUN, "")
    form = _read_form(given, services)
    if not given.get("dims"):
        return render(request, "ask.html", form=form, outcome=None)
    try:
        asked, begun = _renew_age({**given, BEGUN: begun})
        query = parse_given(LhpQuery, asked)
        check_basis(query)
        question = read_lhp_question(query, services)
        answer = None
        if query.basis != "predicted":
            answer = await services.asking.find(question, read_where(query))
        predicted = None
        if answer is None:
            refuse_own_code(question.sweep)
            predicted = await _find_prediction(request, services, query, question, given)
    except (LhpError, RequestValidationError) as error:
        return _show_error(request, form, error)
    if answer is None:
        # Another site may have led here: then somebody must ask for the measurement.
        starts = Scope.MEASURE in current_caller().allowed and not is_foreign(request)
        query_text = _encode({**given, BEGUN: begun})
        if predicted is not None:
            if query.basis == "any":
                predicted |= {"starts": starts, "query": query_text, "measure_query": ""}
            return render(request, "ask.html", form=form, outcome="predicted", **predicted)
        return render(
            request, "ask.html", form=form, outcome="unknown", starts=starts, query=query_text
        )
    return render(
        request,
        "ask.html",
        form=form,
        outcome="answer",
        **await _describe(request, services, question, answer, given),
    )


def _show_error(
    request: Request, form: AskForm, error: LhpError | RequestValidationError
) -> Response:
    """The form as it was filled in, and what is wrong."""
    if isinstance(error, RequestValidationError):
        error = error_of_invalid(error.errors())
    problem = problem_of(hide_details(error))
    return render(
        request,
        "ask.html",
        form=form,
        outcome="error",
        problem=problem,
        passes=isinstance(error, StoreError),
        status=problem.status,
    )


@router.post("/ui/ask", dependencies=[require(Scope.MEASURE)])
async def measure(request: Request, services: ServicesDep) -> Response:
    """The answer, measured if need be; or how far the measurement or the host's start is."""
    given = read_given(request)
    asked, begun = _renew_age(dict(given))
    given.pop(BEGUN, None)
    query = parse_given(LhpQuery, asked)
    check_basis(query)
    if query.basis == "predicted":
        raise InvalidRequestError(
            "a prediction is not measured", hint="ask with the basis `any` or `measured`"
        )
    question = read_lhp_question(query, services)
    try:
        answer = await services.asking.ask(
            question, read_where(query), wait_s=SHOWN_WAIT_S, client=identify_client(request)
        )
    except HostStartingError as error:
        if not is_part(request):
            raise
        return render(
            request,
            "part_starting.html",
            problem=problem_of(hide_details(error)),
            query=_encode({**given, BEGUN: begun}),
        )
    if not is_part(request):  # without JavaScript: the page itself is asked again
        return RedirectResponse(f"../?{_encode({**given, BEGUN: begun})}", status_code=303)
    if isinstance(answer, Sweep):
        place = await services.queue.find_place_soon(answer)
        predicted = await _find_prediction(request, services, query, question, given) or {}
        part = render(
            request,
            "part_progress.html",
            sweep=sweep_info(answer, place),
            **(predicted | {"query": _encode({**given, BEGUN: begun}), "measure_query": ""}),
        )
    else:
        part = render(
            request,
            "part_answer.html",
            **await _describe(request, services, question, answer, given),
        )
    # An error beside a prediction leaves the prediction there; all else takes its place.
    part.headers.update({"HX-Retarget": "#outcome", "HX-Reswap": "innerHTML"})
    return part


async def _find_prediction(
    request: Request,
    services: Services,
    query: LhpQuery,
    question: LhpQuestion,
    given: Mapping[str, str],
) -> dict[str, Any] | None:
    """What the template of a prediction shows; None if only what is measured was asked for."""
    if query.basis == "measured":
        return None
    where, moves = read_where(query), query.unproven == "move"
    answer = await predict_answer(services, question, where, moves_unproven=moves)
    measured = {k: v for k, v in given.items() if k not in ("basis", "unproven")}
    is_shown = is_drawn(question, answer)
    return {
        "prediction": answer,
        "said": describe_prediction(answer),
        "figure_query": _encode(given) if is_shown else "",
        "measure_query": _encode(measured),
        "curve": None,
        "again": describe_again(given, base_url=str(request.base_url)),
    }


async def _describe(
    request: Request,
    services: Services,
    question: LhpQuestion,
    answer: LhpAnswer,
    given: Mapping[str, str],
) -> dict[str, Any]:
    """What the template of an answer shows."""
    curve = await _find_curve(services, answer)
    mode = question.mode if curve is None else curve.mode
    return {
        "answer": answer,
        "curve": curve,
        "landscape": None if curve is None else describe_landscape(answer, curve),
        "finding": describe_finding(answer, axis_names=list(question.workload.axes), mode=mode),
        "again": describe_again(given, base_url=str(request.base_url)),
    }


async def _find_curve(services: Services, answer: LhpAnswer) -> CurveInfo | None:
    """The curve that it was read from; None if it was deleted meanwhile, or can't be read now."""
    try:
        header: CurveHeader = await asyncio.to_thread(services.store.get_curve_header, answer.curve)
        host = await asyncio.to_thread(services.store.get_host, header.host)
    except (NotFoundError, StoreError):
        return None
    return curve_info(header, stale=is_stale(header, host))


def _encode(given: Mapping[str, str]) -> str:
    return urlencode(given, safe=",")


def describe_again(given: Mapping[str, str], *, base_url: str) -> Repeated:
    """How to ask the same from a shell, with curl and from Python.

    `base_url` ends with a slash.
    """
    query = {name: value for name, value in given.items() if name != "wait"}
    words = ["lhp", "query", query["dims"]]
    if base_url.rstrip("/") != DEFAULT_URL:
        words += ["--url", base_url.rstrip("/")]
    for name, value in query.items():
        if name == "workload" or name in OPTIONS:
            words += [f"--{name.replace('_', '-')}", value]
        elif name != "dims":
            words += ["--param", f"{name}={value}"]
    basis = query.get("basis", "measured")
    pairs = ", ".join(
        f"{name!r}: {value!r}"
        for name, value in query.items()
        if name != "basis" or basis == "measured"
    )
    method = {"predicted": "predict_lhp", "any": "find_lhp"}.get(basis)
    call = f"{method}({{{pairs}}})" if method else f"ask_lhp({{{pairs}}}, wait_s=60)"
    return Repeated(
        link=f"?{_encode(query)}",
        base_url=base_url.rstrip("/"),
        command=shlex.join(words),
        curl=shlex.join(["curl", f"{base_url}lhp?{_encode(query)}"]),
        python="\n".join(
            (
                "from profiler_service.client import ServiceClient",
                "",
                f"with ServiceClient({base_url.rstrip('/')!r}) as client:",
                f"    answer = client.{call}",
                "print(answer.lhp)",
            )
        ),
    )
