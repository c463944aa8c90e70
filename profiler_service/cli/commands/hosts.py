"""`lhp hosts`: lists the machines that measure, and what operators decide about them.

Each command imports its packages only when it runs.
"""

from __future__ import annotations

import datetime as dt
import shlex
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from profiler_service.cli.options import JsonOption, UrlOption
from profiler_service.cli.terminal import (
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
    from pydantic import BaseModel

    from profiler_service.wire import HostInfo

M = TypeVar("M", bound="BaseModel")

app = typer.Typer(invoke_without_command=True, help="List the machines that measure; manage them.")

NameArgument = Annotated[str, typer.Argument(metavar="HOST", help="Name of a host.")]


@app.callback()
def hosts(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that were removed.")
    ] = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """List the machines that measure; with a command, manage one of them.

    Labels are shown as NAME=VALUE.
    """
    if context.invoked_subcommand is not None:
        return
    from profiler_service.wording import format_age, format_ago

    with open_client(url) as client:
        listed = client.list_hosts(with_retired=everything)
        platforms = {platform.key: platform for platform in client.list_platforms()}
        health = client.get_health()
    # The service itself knows more about its worker than the last heartbeat says.
    unwell = health.worker if health.detail else None
    if unwell is not None:
        say(f"{unwell.detail} ({unwell.hint})")
    if json:
        print_json(listed)
        return
    if not listed:
        say("no hosts: start a worker with `lhp serve` or `lhp worker`")
        return
    now = dt.datetime.now(dt.UTC)
    has_labels = any(host.labels for host in listed)
    columns = ["HOST", "STATE", "LAST SEEN", "DEVICE", "THREADS", "DTYPES", "PLATFORM"]
    table = make_table(*columns, *(["LABELS"] if has_labels else []))
    for host in listed:
        platform = platforms[host.platform]
        # Older services say only whether it is present.
        state = host.state or ("present" if host.present else "away")
        if unwell is not None and unwell.host == host.name:
            state = unwell.state
        table.add_row(
            host.name,
            state,
            # This machine's clock may differ from that of the service.
            format_age(host.last_seen_at, now)
            if host.silent_s is None
            else format_ago(host.silent_s),
            f"{platform.device}: {platform.device_model}",
            str(platform.threads),
            " ".join(host.dtypes),
            host.platform,
            *([_format_labels(host)] if has_labels else []),
        )
    print_table(table)
    for host in listed:
        if host.wrong:
            say(f"{host.name}: {host.wrong}")
        if host.platform_change is not None:
            changed_at = host.platform_change.changed_at
            say(f"{host.name}, since {changed_at:%F}: {host.platform_change.summary}")


@app.command()
def add(
    name: Annotated[
        str | None,
        typer.Argument(metavar="HOST", help="Name of the host; left out: the machine says it."),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A label of it.")
    ] = None,
    approve: Annotated[bool, typer.Option("--approve", help="It may measure at once.")] = False,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="It is removed after a day's silence.")
    ] = False,
    reusable: Annotated[
        bool, typer.Option("--reusable", help="Several machines may use the key.")
    ] = False,
    expires: Annotated[str, typer.Option(help="How long the key is valid: 30m, 1h, 7d.")] = "1h",
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Make a join key, and print the command to run on the new machine."""
    from profiler_service.cli.terminal import service_url
    from profiler_service.wire import JoinKeyRequest, parse_duration

    wanted = _validate(
        JoinKeyRequest,
        name=name,
        labels=parse_labels(labels or []),
        approve=approve,
        ephemeral=ephemeral,
        reusable=reusable,
        lifetime_s=parse_duration(expires, name="--expires"),
    )
    with open_client(url) as client:
        key = client.create_join_key(wanted)
        address = client.address
    if json:
        print_json(key)
        return
    # The shell writes the key to a pipe: no other user of the new machine sees it in an argument.
    command = f"lhp join {shlex.quote(service_url(load_settings(), url))}"
    show(f"echo {shlex.quote(key.key)} | {command}")
    times = "for several machines" if reusable else "once"
    say(f"run this on the new machine; the key is valid {times}, until {key.expires_at:%F %T} UTC")
    if address.is_loopback:
        say(
            f"{address} is this machine itself; others need the name or address by which they reach"
            " it: in LHP_URL, or with --url"
        )


@app.command()
def approve(name: NameArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Let a host measure: one that is pending, quarantined, draining or removed.

    If its platform has changed, the new one is accepted; its old curves are marked stale.
    """
    _change(name, url, as_json=json, status="approved")


@app.command()
def split(
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="Name of the new host.")],
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Make a new host of one whose platform has changed. The old one is removed; its curves stay.

    The machine's worker measures for the new host when it is started again.
    """
    _change(name, url, as_json=json, split_to=new_name)


@app.command()
def drain(name: NameArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Let a host end the sweeps that it has, and take no new ones."""
    _change(name, url, as_json=json, status="draining")


@app.command()
def rename(
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Give a host another name, while its worker is stopped. What it has measured goes with it."""
    _change(name, url, as_json=json, name=new_name)


@app.command()
def label(
    name: NameArgument,
    labels: Annotated[
        list[str],
        typer.Argument(metavar="LABEL...", help="NAME=VALUE sets a label, NAME- removes it."),
    ],
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Set or remove labels of a host, such as pool=train."""
    with open_client(url) as client:
        changed = dict(client.get_host(name).labels)
        for each in labels:
            if each.endswith("-") and "=" not in each:
                changed.pop(each[:-1], None)
            else:
                changed |= parse_labels([each])
    _change(name, url, as_json=json, labels=changed)


@app.command()
def rm(name: NameArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Remove a host. Its worker ends, its open sweeps fail; its curves and facts stay."""
    with open_client(url) as client:
        host = client.remove_host(name)
    _show(host, as_json=json)


def parse_labels(given: list[str]) -> dict[str, str]:
    """The labels given as NAME=VALUE. Raises InvalidRequestError."""
    labels = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise InvalidRequestError(
                f"{each!r} is no label", hint="write NAME=VALUE, such as pool=train"
            )
        labels[name] = value
    return labels


def _validate(model: type[M], **fields: object) -> M:
    """The request. Raises InvalidRequestError."""
    from pydantic import ValidationError

    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequestError(
            f"a host can't have that: {error.errors()[0]['msg']}",
            hint="a label and its value have letters, digits, and inside also . _ / -",
        ) from error


def _change(host_name: str, url: str | None, *, as_json: bool, **changes: object) -> None:
    from profiler_service.wire import HostChange

    change = _validate(HostChange, **changes)
    with open_client(url) as client:
        host = client.change_host(host_name, change)
    _show(host, as_json=as_json)


def _show(host: HostInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(host)
        return
    labels = _format_labels(host)
    show(f"host {host.name} is {host.state}" + (f", labelled {labels}" if labels else ""))
    if host.wrong:
        say(f"{host.name}: {host.wrong}")


def _format_labels(host: HostInfo) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(host.labels.items()))
