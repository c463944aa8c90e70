"""How routes get at the services. Knows no route."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from profiler_service.answering.services import Parts


async def _parts(request: Request) -> Parts:
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]
