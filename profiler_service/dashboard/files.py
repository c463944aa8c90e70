"""What pages load beside their text: style, scripts, fonts, and the library that draws figures.

Everything comes from this service: a machine that measures may have no internet.
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from profiler_service.api.access import PUBLIC
from profiler_service.plots.files import FIGURES_SCRIPT, find_plotly_script
from profiler_service.plots.palette import css

STATIC = Path(__file__).parent / "static"
KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
"""Pages name these files with the service's version: what they hold never changes."""

router = APIRouter(prefix="/ui", include_in_schema=False, dependencies=[PUBLIC])


@router.get("/tokens.css")
async def get_tokens() -> Response:
    """The colours of pages and figures, light and dark."""
    return Response(css(), media_type="text/css", headers=KEPT)


@router.get("/figures.js")
async def get_figures_script() -> Response:
    """The script that draws figures."""
    return FileResponse(FIGURES_SCRIPT, media_type="text/javascript", headers=KEPT)


@functools.cache
def _compress(path: Path) -> bytes:
    return gzip.compress(path.read_bytes(), compresslevel=9, mtime=0)


@router.get("/plotly.min.js")
def get_plotly(request: Request) -> Response:
    """The library that draws, compressed once: it is the largest file by far."""
    compressed = _compress(find_plotly_script())
    return send_compressed(request, compressed, media_type="text/javascript", headers=KEPT)


def send_compressed(
    request: Request, compressed: bytes, *, media_type: str, headers: Mapping[str, str]
) -> Response:
    """The content as it is, compressed by gzip, if the client can read that; else unpacked."""
    vary = {**headers, "Vary": "Accept-Encoding"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(gzip.decompress(compressed), media_type=media_type, headers=vary)
    return Response(compressed, media_type=media_type, headers={**vary, "Content-Encoding": "gzip"})
