"""A systemd unit for the worker of a host that has joined."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from profiler_service.errors import LhpError
from profiler_service.processes.exit_codes import CANNOT_RUN

UNIT = "lhp-worker.service"
USER = "lhp"
"""Whom root's unit runs as. systemd makes the user up while the unit runs, if there is none."""


def unit_directory() -> Path:
    """Where units go: the system's for root, otherwise the user's own."""
    if os.geteuid() == 0:
        return Path("/etc/systemd/system")
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "systemd" / "user"


def check_interpreter(interpreter: Path) -> None:
    """Returns if the user that the unit runs as can start it. Raises LhpError.

    Root's unit runs as another user, who can't look into a directory that is root's alone.
    """
    if os.geteuid() != 0:
        return
    for path in (*interpreter.parents, *interpreter.resolve().parents):
        if not path.stat().st_mode & stat.S_IXOTH:
            raise LhpError(
                f"the worker doesn't run as root, and {path} is closed to others",
                hint="install lhp where every user can start it, for example in /opt/lhp",
            )


def write_unit(directory: Path, *, credentials: Path) -> Path:
    """The unit's file, written there."""
    is_system = os.geteuid() == 0
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / UNIT
    # systemd itself reads the credentials, which are root's.
    own_user = (
        f"User={USER}\nDynamicUser=yes\nStateDirectory=lhp\nEnvironment=XDG_DATA_HOME=/var/lib\n"
    )
    path.write_text(
        f"""[Unit]
Description=Worker of the latency service
Wants=network-online.target
After=network-online.target

[Service]
{own_user if is_system else ""}EnvironmentFile={credentials}
ExecStart={sys.executable} -m profiler_service.cli worker
Restart=always
RestartSec=5
# An operator has removed the host, or the machine can't measure: trying again doesn't help.
RestartPreventExitStatus={CANNOT_RUN}
NoNewPrivileges=yes

[Install]
WantedBy={"multi-user.target" if is_system else "default.target"}
""",
        encoding="utf-8",
    )
    return path


def enable_unit() -> None:
    """Enables and starts the unit. Raises LhpError if systemd can't."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        raise LhpError(
            "this machine has no systemctl", hint="start the worker by other means: `lhp worker`"
        )
    scope = [] if os.geteuid() == 0 else ["--user"]
    for action in (["daemon-reload"], ["enable", "--now", UNIT]):
        done = subprocess.run(
            [systemctl, *scope, *action], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LhpError(
                f"`systemctl {' '.join(action)}` failed: {' '.join(done.stderr.split())}",
                hint="see `systemctl status`; or start the worker by other means: `lhp worker`",
            )
