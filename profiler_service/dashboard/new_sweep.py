"""/ui/sweeps/new: measures a curve: a grid of sizes of one workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response

from profiler_service.access.scopes import Scope
from profiler_service.answering.resources import workload_info
from profiler_service.answering.services import Services
from profiler_service.api.access import require
from profiler_service.api.dependencies import ServicesDep, identify_client
from profiler_service.api.problems import error_of_invalid, hide_details, problem_of
from profiler_service.api.sweeps import submit_request
from profiler_service.dashboard.given import parse_given, read_form
from profiler_service.dashboard.rendering import render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.errors import InvalidDimsError, LhpError
from profiler_service.kinds import get_workload_kind, workload_kinds
from profiler_service.storage.store import Sweep
from profiler_service.wire import SweepRequest, WorkloadInfo, parse_range

DEFAULT_KIND = "matmul"
EXAMPLE_RANGE = "256:320"
"""What the form begins with for the default kind: 65 points, which take some seconds."""

router = APIRouter(
    route_class=PageRoute,
    prefix="/ui/sweeps/new",
    include_in_schema=False,
    dependencies=[require(Scope.MEASURE)],
)


@dataclass(frozen=True, kw_only=True)
class SweepForm:
    """What the form shows: the kind of workload, and what was given so far."""

    kinds: Sequence[str]
    kind: WorkloadInfo
    ranges: Sequence[str]
    """One for each axis; empty texts for those not given."""
    given: Mapping[str, str]
    """The parameters of the workload, and the host, that were given."""
    hosts: Sequence[str]


def _fill_form(fields: Mapping[str, Sequence[str]], services: Services) -> SweepForm:
    """The form with these values of each name. Raises UnknownWorkloadError."""
    kind = workload_info(get_workload_kind(fields.get("workload", [DEFAULT_KIND])[0]))
    ranges = [text.strip() for text in fields.get("range", [])]
    return SweepForm(
        kinds=list(workload_kinds()),
        kind=kind,
        ranges=[*ranges, *([""] * len(kind.axes))][: len(kind.axes)],
        given={
            name: fields[name][0].strip()
            for name in ("host", *(each.name for each in kind.parameters))
            if fields.get(name, [""])[0].strip()
        },
        hosts=sorted(services.known.curves.snapshot.hosts),
    )


@router.get("")
async def show_form(request: Request, services: ServicesDep) -> Response:
    """The form, with what the address gives. The one of the default kind can be sent as it is.

    Parameters that the kind doesn't have are left out: without JavaScript, another kind is chosen
    by sending the form here.
    """
    fields = parse_qs(request.url.query)
    if fields.get("workload", [DEFAULT_KIND]) == [DEFAULT_KIND]:
        fields.setdefault("range", [EXAMPLE_RANGE])
    form = _fill_form(fields, services)
    return render(request, "new_sweep.html", form=form, problem=None, passes=False)


@router.post("")
async def start_sweep(request: Request, services: ServicesDep) -> Response:
    """The page of the sweep; or the form as it was filled in, and what is wrong with it."""
    form = _fill_form(await read_form(request), services)
    try:
        sweep = await _submit(form, services, client=identify_client(request))
    except (LhpError, RequestValidationError) as error:
        if isinstance(error, RequestValidationError):
            error = error_of_invalid(error.errors())
        problem = problem_of(hide_details(error))
        return render(
            request,
            "new_sweep.html",
            form=form,
            problem=problem,
            passes=False,  # to load this page again would be to send the form again
            status=problem.status,
        )
    return RedirectResponse(f"../sweeps/{sweep.id}", status_code=303)


async def _submit(form: SweepForm, services: Services, *, client: str) -> Sweep:
    """The new sweep, or the equal one that is open. Raises LhpError, RequestValidationError."""
    for axis, text in zip(form.kind.axes, form.ranges, strict=True):
        if not text:
            raise InvalidDimsError(
                f"there is no range for {axis}",
                hint=f"write FIRST:LAST or FIRST:LAST:STEP, for example {EXAMPLE_RANGE}",
            )
    query = parse_given(
        SweepRequest,
        {
            "workload": form.kind.name,
            "params": {name: value for name, value in form.given.items() if name != "host"},
            "axes": [parse_range(text) for text in form.ranges],
            "host": form.given.get("host"),
        },
    )
    sweep, _ = await submit_request(query, services, client=client)
    return sweep
