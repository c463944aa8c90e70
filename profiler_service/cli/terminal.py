"""What all commands of `lhp` use: settings, the client of the service, and printing.

Whatever is printed, is printed literally: brackets are no markup, and a character that a terminal
would obey becomes an escape. Knows no command.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from profiler_service.cli.command_name import as_typed_here
from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.printable import printable
from profiler_service.standard_streams import OutputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from profiler_service.client import ServiceClient
    from profiler_service.settings import Settings

PAGE = 100
"""Number of items that are fetched at a time."""
SHOWN_BY: Mapping[str, str] = {
    "hosts": "`lhp hosts`",
    "platforms": "`lhp hosts`",
    "workloads": "`lhp workloads`",
    "curves": "`lhp curves`",
}
"""The command that lists each of the service's resources, if there is one."""


def load_settings() -> Settings:
    """The settings from the environment. Raises InvalidRequestError, which names the variable."""
    from pydantic import ValidationError

    from profiler_service.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = "LHP_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidRequestError(
            f"{name}={first['input']!r}: {first['msg'].removeprefix('Value error, ')}",
            hint=f"correct or unset {name}",
        ) from error


def service_url(settings: Settings, given: str | None) -> str:
    """The service's address: `given`, or LHP_URL, or the address that `lhp serve` listens on."""
    if given:
        return given
    if "url" in settings.model_fields_set or not settings.port:
        return settings.url
    host = f"[{settings.listen}]" if ":" in settings.listen else settings.listen
    return f"http://{host}:{settings.port}"


@contextlib.contextmanager
def open_client(url: str | None) -> Iterator[ServiceClient]:
    """The client of the service at `url`, or of the one that the settings name.

    It tries each request once, so that the user sees an error at once. If an error's `see` is an
    address of the service, it becomes the command that shows the same.
    """
    from profiler_service.client import ContractError, ServiceClient, ServiceUnreachableError

    settings = load_settings()
    token = settings.token.get_secret_value()
    with ServiceClient(service_url(settings, url), token=token, attempts=1) as client:
        try:
            yield client
        except LhpError as error:
            if error.see:
                error.see = as_command(error.see) or client.address.join(error.see)
            if isinstance(error, (ServiceUnreachableError, ContractError)):
                error.hint += "; --url or LHP_URL names the service"
            raise


def as_command(path: str) -> str | None:
    """The command that shows the resource at `path`; None if no command does."""
    resource, _, name = path.removeprefix("/").partition("/")
    if resource == "curves" and name:
        return f"`lhp curves {name}`"
    return None if name else SHOWN_BY.get(resource)


def print_error(error: LhpError) -> None:
    """Prints the error, its hint, and the command that shows more, on stderr."""
    say(f"error: {error}")
    if error.hint:
        say(f"hint: {error.hint}")
    if error.see:
        say(f"see: {error.see}")


def print_json_error(error: LhpError, exit_code: int) -> None:
    """Prints the error for scripts, on stdout. Does nothing if it is that stdout can't be used."""
    from profiler_service.wire import PROBLEM_PATH

    if isinstance(error, OutputError):
        return
    fields = {
        "type": PROBLEM_PATH + error.problem_name(),
        "message": printable(str(error)),
        "hint": printable(error.hint),
        "see": printable(error.see),
        "exit_code": exit_code,
    }
    print_json({"error": fields})


def say(line: str) -> None:
    """Prints one line for people on stderr."""
    typer.echo(printable(as_typed_here(line)), err=True)


def show(*lines: str) -> None:
    """Prints lines for people on stdout."""
    for line in lines:
        typer.echo(printable(line))


def print_line(console: Console, line: str) -> None:
    """Prints one line on `console`."""
    console.print(Text(printable(line)), soft_wrap=True)


def print_json(value: BaseModel | Sequence[BaseModel] | Mapping[str, object]) -> None:
    """Prints the value for scripts, on stdout. Non-ASCII characters only if it takes them all."""
    from pydantic_core import to_json

    narrow = not (sys.stdout.encoding or "").lower().startswith("utf")
    text = to_json(value, indent=2, ensure_ascii=narrow).decode()
    typer.echo(_HIDDEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


_HIDDEN_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""What JSON leaves as it is, and a terminal may obey."""


T_co = TypeVar("T_co", covariant=True)


class Page(Protocol[T_co]):
    """One page of a listing."""

    @property
    def items(self) -> Sequence[T_co]:
        """What is on this page."""

    @property
    def next_cursor(self) -> str | None:
        """`cursor` of the next page; None on the last."""


def list_all(get_page: Callable[[Mapping[str, str | int]], Page[T_co]]) -> list[T_co]:
    """The items of all pages; `get_page` gives that of the query parameters."""
    items: list[T_co] = []
    cursor: str | None = ""
    while cursor is not None:
        page = get_page({"limit": PAGE, "cursor": cursor})
        items += page.items
        cursor = page.next_cursor
    return items


def make_console() -> Console:
    """The console that shows progress, on stderr."""
    return Console(stderr=True)


class LiteralTable(Table):
    """A table whose cells are printed as they are."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Adds a row. Texts are made printable."""
        literal = (Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*literal, **options)


def make_table(*headings: str) -> Table:
    """An empty table under these headings."""
    table = LiteralTable(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Prints the table on stdout."""
    console = Console()
    # A pipe has no width: folding to 80 columns would break lines that scripts read.
    console = console if console.is_terminal else Console(width=10_000)
    console.print(table)


def print_records(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints the rows on stdout as a table; on a terminal that is too narrow, one after the other.

    Then each row is its first cell, and below it a line for each other cell that isn't empty.
    """
    table = make_table(*headings)
    for row in rows:
        table.add_row(*row)
    console = Console()
    needed = Console(width=10_000).measure(table).maximum
    if not console.is_terminal or needed <= console.width:
        print_table(table)
        return
    width = max(len(heading) for heading in headings[1:])
    for row in rows:
        show(row[0])
        for heading, cell in zip(headings[1:], row[1:], strict=True):
            if cell:
                show(f"  {heading.lower():{width}}  {cell}")
