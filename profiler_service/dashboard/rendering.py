"""Renders templates: what every page shows, and how quantities are written.

Knows no page.
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
from fastapi import Request
from fastapi.responses import HTMLResponse

from profiler_service.access.caller import current_caller
from profiler_service.access.scopes import Scope
from profiler_service.answering.services import Services
from profiler_service.api.problems import hide_details, problem_of
from profiler_service.distribution import find_version
from profiler_service.plots.quantities import format_number
from profiler_service.wording import format_age, format_range, format_seconds

SECTIONS = (
    ("Ask", ""),
    ("Curves", "ui/curves"),
    ("Compare", "ui/compare"),
    ("History", "ui/history"),
    ("Hosts", "ui/hosts"),
    ("Sweeps", "ui/sweeps"),
)
"""Name and address of what the navigation lists."""
RUNS = ("Runs", "ui/runs")
"""Listed, too, if LHP_RUNS is set."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self';"
    " img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
"""The Content-Security-Policy of pages. Nothing comes from another host. Figures need styles of
their own, which their library writes into the page."""

HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "Cache-Control": "no-store",
    # Without any referrer, browsers would hide the origin of forms, and they would look foreign.
    "Referrer-Policy": "same-origin",
}


def format_size(dims: tuple[int, ...] | list[int]) -> str:
    """Dims as pages write them: `1197 × 317`."""
    return " × ".join(map(str, dims))


def breakable(text: str) -> markupsafe.Markup:
    """The text, which may be broken after its commas: keys of workloads are long."""
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(escaped.replace(",", ",<wbr>").replace("[", "<wbr>["))


def with_code(text: str) -> markupsafe.Markup:
    """The text, with what stands between backticks as code."""
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(re.sub("`([^`]+)`", r"<code>\1</code>", escaped))


def unbroken(text: str) -> str:
    """The text with its numbers and their units on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace(" ×", "\N{NO-BREAK SPACE}×")


def format_percent(share: float) -> str:
    """A share with two figures: `0.21 %`."""
    return f"{format_number(100 * share, 2)} %"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: `1 host`, `2,000 hosts`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "seconds": format_seconds,
    "range": format_range,
    "size": format_size,
    "count": count,
    "breakable": breakable,
    "unbroken": unbroken,
    "with_code": with_code,
    "percent": format_percent,
    "twice": lambda value: (value, value),
    "filled": lambda given: {name: value for name, value in given.items() if value},
}


def is_part(request: Request) -> bool:
    """Whether the request comes from a page that renews a part of itself."""
    return "hx-request" in request.headers


PARTS_OF_ASK = "/ui/ask"
"""The one address whose parts are shown by a page at another depth: the one at `/`."""


def find_root(request: Request) -> str:
    """The relative address of the service, seen from the page: `./`, `../` or more of them."""
    path: str = request.scope["path"]
    path = path.removeprefix(request.scope.get("root_path", ""))
    if is_part(request) and path == PARTS_OF_ASK:
        return "./"
    return "../" * (path.count("/") - 1) or "./"


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """The page or the part of one that the template makes of `values`."""
    caller = current_caller()
    services: Services = request.app.state.services
    away = services.database.problem
    now = dt.datetime.now(dt.UTC)
    text = _templates.get_template(template).render(
        root=find_root(request),
        sections=(*SECTIONS, RUNS) if request.app.state.services.settings.runs else SECTIONS,
        version=find_version(),
        signed_in_as=caller.token_name,
        may_measure=Scope.MEASURE in caller.allowed,
        may_manage=Scope.ADMIN in caller.allowed,
        ago=lambda moment: format_age(moment, now),
        away=problem_of(hide_details(away)) if away is not None and status < 500 else None,
        **values,
    )
    return HTMLResponse(
        text,
        status_code=status,
        headers=HEADERS,
    )
