"""`lhp join`: makes this machine a host of a service, and starts its worker.

Each command imports its packages only when it runs.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from profiler_service.cli.terminal import load_settings, open_client, say, show
from profiler_service.errors import InvalidRequestError

if TYPE_CHECKING:
    from profiler_service.client.address import Address
    from profiler_service.settings import Settings
    from profiler_service.wire import JoinInfo, JoinRequest

ASK_AGAIN_S = 5.0
"""How often a machine asks whether it has been approved."""
MAX_KEY_LENGTH = 256


def join(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the service to join.")],
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY",
            envvar="LHP_JOIN_KEY",
            help="Key from `lhp hosts add`. Other users of the machine see it here while the"
            " command runs: leave it out, and it is read from LHP_JOIN_KEY or stdin.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the host, if the key gives none [LHP_HOST].")
    ] = None,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Write and enable a systemd unit for the worker.")
    ] = False,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Start the worker at the end.")
    ] = True,
) -> None:
    """Make this machine a host of a service, and start its worker.

    Measures for some seconds first. Waits for approval unless the key gives it.
    """
    from profiler_service.processes.credentials import credentials_path
    from profiler_service.processes.systemd import (
        check_interpreter,
        enable_unit,
        unit_directory,
        write_unit,
    )

    settings = load_settings()
    if name is not None:
        settings = settings.model_copy(update={"host": name})
    if systemd:
        check_interpreter(Path(sys.executable))
    join_service(settings, url, key or read_key())
    if systemd:
        unit = write_unit(unit_directory(), credentials=credentials_path())
        if worker:
            enable_unit()
        show(f"the worker's unit is {unit}")
    elif worker:
        os.execv(sys.executable, [sys.executable, "-m", "profiler_service.cli", "worker"])


def read_key() -> str:
    """The join key that somebody types, or that comes from stdin. Raises InvalidRequestError."""
    if sys.stdin.isatty():
        return str(typer.prompt("Join key", hide_input=True, err=True)).strip()
    key = sys.stdin.readline(MAX_KEY_LENGTH).strip()
    if not key:
        raise InvalidRequestError(
            "a machine joins with a key, and none was given",
            hint="run the whole command that `lhp hosts add` printed, or set LHP_JOIN_KEY",
        )
    return key


def join_service(settings: Settings, url: str, key: str) -> None:
    """Returns when this machine is a host, and its credentials are kept."""
    from profiler_service.processes.credentials import credentials_path, keep_credentials

    asked = describe_machine(settings, key)
    joined = ask_until_admitted(url, asked)
    path = credentials_path()
    keep_credentials(path, database_url=joined.database_url, host=joined.host.name)
    show(f"joined as host {joined.host.name}; its credentials are in {path}")


def ask_until_admitted(url: str, asked: JoinRequest) -> JoinInfo:
    """What the service says of the host as soon as that may measure. Says that it waits."""
    told = ""
    while True:
        with open_client(url) as client:
            exposure = describe_exposure(client.address)
            if exposure and not told:
                say(exposure)
            joined = client.join(asked)
        if joined.database_url:
            return joined
        host = joined.host
        waiting = f"host {host.name} is {host.state}: it waits for `lhp hosts approve {host.name}`"
        if waiting != told:
            say(waiting)
            if host.wrong:
                say(f"{host.name}: {host.wrong}")
        told = waiting
        time.sleep(ASK_AGAIN_S)


def describe_exposure(address: Address) -> str:
    """What others on the network can read of a join at that address, in words; empty: nothing."""
    if address.is_loopback or address.url.scheme == "https":
        return ""
    return (
        f"{address} isn't HTTPS: others on the network can read the key, and the credentials that"
        " this machine gets"
    )


def describe_machine(settings: Settings, key: str) -> JoinRequest:
    """What this machine says of itself. Measures for some seconds."""
    from profiler_service.measurement.doctor import examine
    from profiler_service.measurement.identity import find_machine_id
    from profiler_service.processes.worker import create_measurer
    from profiler_service.wire import JoinRequest, PlatformInfo

    say("measuring for some seconds whether this machine is fit")
    diagnosis = examine(device=settings.device, threads=settings.threads, cache=settings.cache)
    poor = {each.name: each.found for each in diagnosis.findings if each.verdict == "poor"}
    # One measuring process says what all of them would: the others needn't start.
    measurer = create_measurer(settings.model_copy(update={"children": 1}))
    try:
        found = measurer.platform
        return JoinRequest(
            key=key,
            name=settings.host,
            machine=find_machine_id(),
            node=platform.node()[:255],
            platform=PlatformInfo(
                key=found.key,
                device=found.device,
                device_model=found.device_model,
                memory_bytes=found.memory_bytes,
                driver=found.driver,
                framework=found.framework,
                libraries=dict(found.libraries),
                threads=found.threads,
                cpus=found.cpus,
                flags=dict(found.flags),
            ),
            protocol=measurer.protocol.key,
            dtypes=list(measurer.dtypes),
            backends={each: list(dtypes) for each, dtypes in measurer.backends.items()},
            # A machine whose noise is small enough is fit, whatever else could be better.
            findings={} if diagnosis.quiet_enough else poor or {"noise": "too noisy"},
        )
    finally:
        measurer.close()
