"""Starts and follows a sweep of several hosts, and says how it ended on each."""

from __future__ import annotations

import time

from profiler_service.cli.command_name import command_name
from profiler_service.cli.progress import show_progress
from profiler_service.cli.terminal import make_console, open_client, print_json, say, show
from profiler_service.printable import printable
from profiler_service.processes.exit_codes import DONE, FAILED, INTERRUPTED
from profiler_service.wire import FleetSweepInfo, FleetSweepRequest, SweepInfo, SweepRequest

POLL_S = 0.5
"""Pause between two looks at the sweeps."""


def run_fleet_sweep(
    request: SweepRequest, label: str, *, url: str | None, detach: bool, json: bool
) -> int:
    """The exit code. Ctrl-C asks every host to stop, and keeps what was measured."""
    given = request.model_dump(exclude_unset=True)
    with open_client(url) as client:
        sweep = client.create_fleet_sweep(FleetSweepRequest(**given, label=label))
        interrupted = False
        if not detach:
            with show_progress(make_console()) as report:
                while not sweep.is_final:
                    try:
                        report(describe_progress(sweep), fraction=sweep.fraction)
                        time.sleep(POLL_S)
                        sweep = client.get_fleet_sweep(sweep.id)
                    except KeyboardInterrupt:
                        if interrupted:
                            raise
                        interrupted = True
                        sweep = client.cancel_fleet_sweep(sweep.id)
    if json:
        print_json(sweep)
    else:
        show(f"fleet sweep {sweep.id} of {sweep.label} is {sweep.state}")
        show(*(printable(_describe(each)) for each in sweep.sweeps))
        if detach:
            say("hint: the same command without --detach follows it")
    if interrupted:
        return INTERRUPTED
    return DONE if detach or sweep.state == "done" else FAILED


def describe_progress(sweep: FleetSweepInfo) -> str:
    """How many hosts are done, and how far each of the others is."""
    open_ = [each for each in sweep.sweeps if not each.is_final]
    ended = len(sweep.sweeps) - len(open_)
    shares = [
        f"{each.host} {0 if each.progress is None else each.progress.fraction:.0%}"
        for each in open_
    ]
    return ", ".join([f"{ended} of {len(sweep.sweeps)} hosts have ended", *shares])


def _describe(sweep: SweepInfo) -> str:
    text = f"  {sweep.host}: sweep {sweep.id} is {sweep.state}"
    if sweep.error:
        text += f": {sweep.error}"
    return text + (f"; plot it: {command_name()} plot {sweep.curve}" if sweep.curve else "")
