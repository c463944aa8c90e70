"""`lhp db`: what an operator does with the database.

These commands use the database itself, not the service. Each imports its packages only when it
runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler_service.cli.options import JsonOption
from profiler_service.cli.terminal import (
    load_settings,
    make_console,
    make_table,
    print_json,
    print_table,
    say,
    show,
)

if TYPE_CHECKING:
    from profiler_service.storage.store import Store

PATIENCE_S = 600.0
"""How long one statement of these commands may take. The service's are shorter."""

OlderThan = Annotated[
    str,
    typer.Option(
        metavar="AGE", help="Prune sweeps that ended so long ago, such as 30d. Others stay whole."
    ),
]


@contextlib.contextmanager
def _open_store() -> Iterator[Store]:
    """The store that the settings name. Raises StoreError."""
    from profiler_service.storage.store import Store

    store = Store.open(load_settings().database_url, timeout_s=PATIENCE_S)
    try:
        yield store
    finally:
        store.close()


def upgrade() -> None:
    """Bring the database's schema up to date; create the database if there is none."""
    from profiler_service.processes.serve import upgrade_database
    from profiler_service.storage.database import describe, parse_url

    settings = load_settings()
    upgrade_database(settings)
    say(f"{describe(parse_url(settings.database_url))} is up to date")


def stats(raw_older_than: OlderThan = "30d", json: JsonOption = False) -> None:
    """Show the size of each table, and what pruning would free."""
    from profiler_service.wire import parse_duration

    age_s = parse_duration(raw_older_than, name="--raw-older-than")
    with _open_store() as store:
        sizes = store.measure_sizes()
        prunable = store.find_prunable(older_than_s=age_s)
    if json:
        print_json(
            {
                "tables": [dataclasses.asdict(size) for size in sizes],
                "prunable": {"older_than_s": age_s, **dataclasses.asdict(prunable)},
            }
        )
        return
    table = make_table("TABLE", "ROWS", "SIZE")
    for size in sizes:
        table.add_row(size.name, f"{size.num_rows:,}", _format_bytes(size.size_bytes))
    print_table(table)
    typer.echo(
        f"`lhp db prune --raw-older-than {raw_older_than}` would free"
        f" {_format_bytes(prunable.size_bytes)} at most (sweeps to prune: {prunable.num_sweeps:,})"
    )


def prune(raw_older_than: OlderThan) -> None:
    """Delete raw samples of old sweeps. First visits, curves and facts stay.

    What you ask later of a sweep's raw samples, such as the history of its race, can't be answered
    any more. Measuring goes on meanwhile.
    """
    from profiler_service.cli.progress import show_progress
    from profiler_service.wire import parse_duration

    age_s = parse_duration(raw_older_than, name="--raw-older-than")
    num_sweeps = freed_bytes = 0
    with _open_store() as store, show_progress(make_console()) as report:
        while (pruned := store.prune_some(older_than_s=age_s)) is not None:
            num_sweeps += pruned.num_sweeps
            freed_bytes += pruned.freed_bytes
            report(f"sweeps pruned: {num_sweeps:,}; freed: {_format_bytes(freed_bytes)}")
    say(f"sweeps pruned: {num_sweeps:,}; freed: {_format_bytes(freed_bytes)}")


def backup(
    file: Annotated[Path, typer.Argument(help="The file to make. It must not be there yet.")],
) -> None:
    """Make a backup of the whole database, while it is in use."""
    from profiler_service.storage.backup import back_up

    back_up(load_settings().database_url, file)
    say(f"the backup is {file}, {_format_bytes(file.stat().st_size)}")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `lhp db backup` has made.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Lose what the database holds now.")
    ] = False,
) -> None:
    """Put a backup of your own back. Stop every service and worker before.

    A database that isn't empty is refused without `--replace`. At the end, it lists the tokens and
    join keys that are valid now.
    """
    from profiler_service.processes.serve import upgrade_database
    from profiler_service.storage import backup

    settings = load_settings()
    let_in = backup.restore(settings.database_url, file, replace=replace)
    upgrade_database(settings)  # the job engine's tables
    say("the backup is restored")
    for token_id, name in let_in.tokens:
        say(f"token {token_id} ({name}) is valid, even if it was revoked after the backup")
    for key_id, host in let_in.join_keys:
        whose = "any host" if host is None else f"host {host}"
        say(f"join key {key_id} for {whose} is valid, even if it was used after the backup")


def export(
    file: Annotated[Path, typer.Argument(help="The Parquet file to make.")],
    kind: Annotated[str | None, typer.Option(help="Only curves of this workload kind.")] = None,
    platform: Annotated[str | None, typer.Option(help="Only those of this platform.")] = None,
    host: Annotated[str | None, typer.Option(help="Only those that this host measured.")] = None,
) -> None:
    """Write curves to a Parquet file, with their platforms, hosts, times and evidence.

    Comparisons of kernels are left out: their answers are in their raw samples.
    """
    from profiler_service.storage.curve_file import is_portable, write_curves
    from profiler_service.storage.curve_record import CurveRecord
    from profiler_service.storage.store import CurveFilter

    wanted = CurveFilter(kind=kind, platform_key=platform, host=host)

    def read(store: Store) -> Iterator[CurveRecord]:
        cursor = None
        while True:
            page = store.list_curves(wanted, cursor=cursor)
            for header in page.items:
                if is_portable(header.mode):
                    yield store.read_record(header.id)
            if (cursor := page.next_cursor) is None:
                return

    with _open_store() as store:
        num_curves = write_curves(file, read(store))
    say(f"curves exported: {num_curves:,}")


def import_(
    file: Annotated[Path, typer.Argument(help="A file that `lhp db export` has made.")],
) -> None:
    """Take in the curves of a Parquet file. Those that are here already stay as they are.

    Each keeps its platform, and where it comes from. The whole file is checked first: if anything
    in it is wrong, nothing is imported.
    """
    from profiler_service.storage.curve_file import read_curves

    num_curves = num_new = 0
    with _open_store() as store:
        for record in read_curves(file):
            store.check_import(record)
            num_curves += 1
        for record in read_curves(file):
            num_new += store.import_curve(record)
    say(f"curves imported: {num_new:,}; here already: {num_curves - num_new:,}")


Reader = Annotated[
    str, typer.Argument(help="The role's name: small letters, digits and underscores.")
]


def add_reader(name: Reader) -> None:
    """Let a role of PostgreSQL read the views for dashboards, and nothing else.

    It is made if it isn't there. Its password is now LHP_READER_PASSWORD; if that isn't set, a new
    one is made and printed.
    """
    import secrets

    from profiler_service.access.caller import Caller

    given = load_settings().reader_password.get_secret_value()
    password = given or secrets.token_urlsafe(32)
    with _open_store() as store:
        is_new = store.add_reader(name, password, by=Caller())
    what = f"role {name} is {'new' if is_new else 'there, with a new password'}"
    if given:
        say(f"{what}; its password is LHP_READER_PASSWORD")
    else:
        say(f"{what}; its password isn't shown again:")
        show(password)


def rm_reader(name: Reader) -> None:
    """Drop a role that `lhp db add-reader` has made."""
    from profiler_service.access.caller import Caller

    with _open_store() as store:
        store.remove_reader(name, by=Caller())
    say(f"role {name} is dropped")


def _format_bytes(size_bytes: int | None) -> str:
    """`1.5 MiB`; three digits at least."""
    if size_bytes is None:
        return "not known"
    size, unit = float(size_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
