"""/ui/sign-in: signs a browser in with an access token, and out again.

The token itself is kept in the browser, in a cookie that no script reads and that only this
service's own pages send (SameSite=Strict). It ends when the browser is closed, and is worth nothing
once the token has expired or is revoked. What changes something is also refused if another site's
page sends it: see `api.origins`.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from profiler_service.api.access import COOKIE, PUBLIC
from profiler_service.api.dependencies import ServicesDep
from profiler_service.dashboard.given import read_form
from profiler_service.dashboard.rendering import find_root, render
from profiler_service.dashboard.routes import PageRoute
from profiler_service.errors import UnauthenticatedError

router = APIRouter(route_class=PageRoute, prefix="/ui", include_in_schema=False)

Next = Annotated[str, Query(max_length=2048)]
"""The page to show afterwards: its address below the service's own."""


@router.get("/sign-in", dependencies=[PUBLIC])
async def show_sign_in(request: Request, services: ServicesDep, next: Next = "") -> Response:  # noqa: A002  the name in the address
    """The form."""
    return render(
        request,
        "sign_in.html",
        next=next,
        refused=None,
        is_required=services.tokens.is_required,
    )


@router.post("/sign-in", dependencies=[PUBLIC])
async def sign_in(request: Request, services: ServicesDep, next: Next = "") -> Response:  # noqa: A002
    """The next page, if the token is valid; else the form again, which says why not."""
    text = (await read_form(request)).get("token", [""])[0].strip()
    try:
        services.tokens.verify(text)
    except UnauthenticatedError as error:
        return render(
            request, "sign_in.html", status=401, next=next, refused=error, is_required=True
        )
    response = RedirectResponse(find_root(request) + _keep_here(next), status_code=303)
    response.set_cookie(
        COOKIE,
        text,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.post("/sign-out", dependencies=[PUBLIC])
async def sign_out(request: Request) -> Response:
    """The form, after the browser has forgotten the token."""
    response = RedirectResponse("sign-in", status_code=303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _keep_here(address: str) -> str:
    """The address, relative to the service; empty if it leads elsewhere."""
    is_here = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address[1:] if is_here and address.isprintable() else ""
