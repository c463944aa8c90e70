"""`lhp hosts keys`: the keys with which machines join.

Each command imports its packages only when it runs.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from profiler_service.cli.options import JsonOption, UrlOption
from profiler_service.cli.terminal import (
    list_all,
    make_table,
    open_client,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from profiler_service.wire import KeptJoinKey

app = typer.Typer(invoke_without_command=True, help="List the join keys; revoke one.")


@app.callback()
def keys(context: typer.Context, url: UrlOption = None, json: JsonOption = False) -> None:
    """List the keys that `lhp hosts add` made, newest first, without their texts."""
    if context.invoked_subcommand is not None:
        return
    with open_client(url) as client:
        listed = list_all(client.list_join_keys)
    if json:
        print_json(listed)
        return
    if not listed:
        say("no join keys: `lhp hosts add` makes one")
        return
    now = dt.datetime.now(dt.UTC)
    table = make_table("KEY", "HOST", "LETS IN", "STATE", "LABELS")
    for each in listed:
        labels = " ".join(f"{name}={value}" for name, value in sorted(each.labels.items()))
        count = "several" if each.reusable else "one"
        table.add_row(each.id, each.name or "any", count, _state(each, now), labels)
    print_table(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id (or the key itself).", metavar="KEY")],
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key let nobody in any more, at once. Hosts that have joined with it stay."""
    # Of a whole key, only the id is sent: addresses end up in logs.
    parts = key.split("_")
    key_id = parts[2] if len(parts) > 3 and parts[0] == "lhpjoin" else key
    with open_client(url) as client:
        revoked = client.revoke_join_key(key_id)
    if json:
        print_json(revoked)
    else:
        say(f"revoked {revoked.id}")


def _state(key: KeptJoinKey, now: dt.datetime) -> str:
    used = "" if key.used_at is None else f"used {key.used_at:%F %H:%M} UTC by {key.used_by}"
    if key.revoked_at is not None:
        state = f"revoked {key.revoked_at:%F %H:%M} UTC"
    elif used and not key.reusable:
        return used
    elif key.expires_at > now:
        state = f"valid until {key.expires_at:%F %H:%M} UTC"
    else:
        state = f"expired {key.expires_at:%F %H:%M} UTC"
    return f"{state}; last {used}" if used else state
