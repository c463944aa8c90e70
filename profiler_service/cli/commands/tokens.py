"""`lhp tokens create`, `list`, `revoke` and `bootstrap`: who may use the service.

Each command imports its packages only when it runs.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from profiler_service.cli.options import JsonOption, UrlOption
from profiler_service.cli.terminal import (
    list_all,
    load_settings,
    make_table,
    open_client,
    print_json,
    print_table,
    say,
    show,
)
from profiler_service.errors import InvalidRequestError

if TYPE_CHECKING:
    from profiler_service.access.tokens import Token
    from profiler_service.wire import TokenInfo

app = typer.Typer(no_args_is_help=True, help="Access tokens: who may use the service.")

NameArgument = Annotated[str, typer.Argument(help="What the token is for.", metavar="NAME")]
ExpiresOption = Annotated[
    str, typer.Option(help="How long it is valid: 12h, 90d; or never.", metavar="TIME")
]
NEVER = "never"


@app.command()
def create(
    name: NameArgument,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="read, measure, host or admin; may be repeated (default: read).", metavar="SCOPE"
        ),
    ] = None,
    expires: ExpiresOption = "90d",
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Make a token, and print it. It can't be printed again.

    `read` reads what is stored, `measure` also starts and cancels measurements, `host` is for
    machines that measure, `admin` does everything.
    """
    from pydantic import ValidationError

    from profiler_service.wire import TokenRequest

    try:
        request = TokenRequest.model_validate(
            {
                "name": name,
                "scopes": scope or ["read"],
                "expires_in": None if expires == NEVER else expires,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequestError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint="`lhp tokens create --help` says what it takes",
        ) from error
    with open_client(url) as client:
        made = client.create_token(request)
    if json:
        print_json(made)
        return
    _explain(made)
    show(made.token)


@app.command("list")
def list_(url: UrlOption = None, json: JsonOption = False) -> None:
    """List all tokens, without their secrets."""
    with open_client(url) as client:
        listed = list_all(client.list_tokens)
    if json:
        print_json(listed)
        return
    if not listed:
        say("no tokens: `lhp tokens bootstrap` on the machine of the database makes the first")
        return
    now = dt.datetime.now(dt.UTC)
    table = make_table("TOKEN", "NAME", "SCOPES", "STATE", "LAST USED", "MADE BY")
    for each in listed:
        used = "never" if each.last_used_at is None else f"{each.last_used_at:%F %H:%M} UTC"
        scopes = " ".join(each.scopes)
        table.add_row(each.id, each.name, scopes, _state(each, now), used, each.created_by)
    print_table(table)


def _state(token: TokenInfo, now: dt.datetime) -> str:
    if token.revoked_at is not None:
        return f"revoked {token.revoked_at:%F}"
    if token.expires_at is None:
        return "valid"
    return f"{'valid until' if token.expires_at > now else 'expired'} {token.expires_at:%F}"


@app.command()
def revoke(
    token: Annotated[
        str, typer.Argument(help="The token's id (or the token itself).", metavar="TOKEN")
    ],
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Make a token invalid, within a second."""
    # Of a whole token, only the id is sent: addresses end up in logs.
    parts = token.split("_")
    token_id = parts[1] if len(parts) > 2 and parts[0] == "lhp" else token
    with open_client(url) as client:
        revoked = client.revoke_token(token_id)
    if json:
        print_json(revoked)
    else:
        say(f"revoked {revoked.id} ({revoked.name})")


@app.command()
def bootstrap(name: NameArgument = "bootstrap", expires: ExpiresOption = "90d") -> None:
    """Make a token with the scope admin, directly in the database, and print it.

    From the first token on, every request to the service needs one. It is also the way back in if
    all tokens are lost.
    """
    from profiler_service.access.caller import Caller
    from profiler_service.access.scopes import Scope
    from profiler_service.processes.serve import prepare_database
    from profiler_service.storage.store import Store
    from profiler_service.wire import parse_duration

    settings = load_settings()
    lifetime_s = None if expires == NEVER else parse_duration(expires, name="expires")
    prepare_database(settings)
    store = Store.open(settings.database_url)
    try:
        made, text = store.create_token(
            name, [Scope.ADMIN], lifetime_s=lifetime_s, by=Caller(), action="token.bootstrap"
        )
    finally:
        store.close()
    _explain(made)
    show(text)


def _explain(made: TokenInfo | Token) -> None:
    until = "" if made.expires_at is None else f", valid until {made.expires_at:%F}"
    scopes = " ".join(made.scopes)
    say(f"token {made.id} ({scopes}){until}; set LHP_TOKEN to it. It isn't shown again:")
