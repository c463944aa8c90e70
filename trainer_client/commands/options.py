"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

ServiceOption = Annotated[
    str | None,
    typer.Option(help="The latency service, for step (c).", metavar="URL", envvar="LHP_URL"),
]
HostOption = Annotated[
    str | None,
    typer.Option(help="The host that measures (default: the service's own).", metavar="NAME"),
]
