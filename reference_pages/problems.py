"""One page a problem, from the error tree in `profiler_service.errors`, and a page listing them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Final

from profiler_service.api.problems import NOT_ON_THE_WIRE, status_of, title_of
from profiler_service.errors import LhpError, error_classes
from profiler_service.wire import PROBLEM_PATH
from reference_pages.advice import ADVICE
from reference_pages.markdown import code, paragraphs, table

INTRODUCTION: Final = """\
# Problems

Every error of the service is an `application/problem+json` document
([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)):

```json
{
  "type": "/problems/host-away",
  "title": "Host away",
  "status": 503,
  "detail": "host 'gpu-1' has no running worker",
  "hint": "start it there with `lhp worker`, or ask for another host",
  "see": "/hosts"
}
```

`type` is stable: it never changes between versions, and it is the path of the page that explains
the problem, here and at the service itself (`GET /problems/host-away`). A client decides by `type`,
or by `status` if it doesn't know the type. `title`, `detail` and `hint` are for people; their words
may change. `see` is the path of a resource with more details. The Python client raises the class of
the same name, `HostAwayError`.

"""


def problem_page(error: type[LhpError]) -> str:
    """The page of one problem: what it means, its status, and what to do."""
    text = f"# {title_of(error)}\n\n{paragraphs(error.__doc__)}"
    rows = []
    if error not in NOT_ON_THE_WIRE:
        again = "yes, after `Retry-After` seconds" if error.is_transient else "no"
        rows += [
            ("`type`", code(PROBLEM_PATH + error.problem_name())),
            ("HTTP status", str(status_of(error))),
            ("may the same request succeed a little later?", again),
        ]
    rows.append(("Python class", code(f"profiler_service.errors.{error.__name__}")))
    base = error.__base__
    if base is not None and base is not LhpError and issubclass(base, LhpError):
        rows.append(("more general problem", _link(base)))
    special = [each for each in error_classes() if each.__base__ is error]
    if special and error is not LhpError:
        rows.append(("more special problems", ", ".join(map(_link, special))))
    text += table(("", ""), rows)
    if error in NOT_ON_THE_WIRE:
        text += (
            "No HTTP request meets this problem: it belongs to the command line, a worker or a"
            " service that starts, or only sums up others.\n\n"
        )
    return text + f"## What to do\n\n{ADVICE[error.__name__].strip()}\n"


def _link(error: type[LhpError]) -> str:
    return f"[`{error.problem_name()}`]({error.problem_name()}.md)"


def index_page() -> str:
    """Every problem with its status and meaning, in one table."""
    rows = []
    for each in error_classes():
        status = "–" if each in NOT_ON_THE_WIRE else str(status_of(each))
        meaning = (inspect.getdoc(each) or "").split("\n\n")[0]
        rows.append((_link(each), status, meaning))
    return INTRODUCTION + table(("`type`: `/problems/…`", "status", "meaning"), rows)


def problem_pages() -> Mapping[str, Callable[[], str]]:
    """The function that returns each page, by the page's path below `docs/`."""
    pages: dict[str, Callable[[], str]] = {"problems/index.md": index_page}
    for each in error_classes():
        pages[f"problems/{each.problem_name()}.md"] = functools.partial(problem_page, each)
    return pages
