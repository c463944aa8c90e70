"""The credentials of a host that has joined: a file that only its owner reads.

Its lines are variables, so that a systemd unit can read it, too.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from profiler_service.errors import InvalidRequestError, LhpError
from profiler_service.settings import default_data_dir

VARIABLES = ("LHP_DATABASE_URL", "LHP_HOST")


def credentials_path() -> Path:
    """Where they are."""
    return default_data_dir() / "host.env"


def keep_credentials(path: Path, *, database_url: str, host: str) -> None:
    """Writes the file, in one step.

    Raises InvalidRequestError for a name with a line break; LhpError for a database that no service
    gives to its hosts: the worker would open it, a local file for example.
    """
    if not database_url.startswith("postgresql://"):
        raise LhpError(
            "the service named a database that isn't PostgreSQL",
            hint="see that the address is that of the right service, and its version this one",
        )
    values = dict(zip(VARIABLES, (database_url, host), strict=True))
    if any("\n" in value for value in values.values()):
        raise InvalidRequestError("a host's name has no line break", hint="choose another one")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A file made so is readable for its owner only.
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write("".join(f"{name}={value}\n" for name, value in values.items()))
        file.flush()
        os.fsync(number)
    Path(temporary).replace(path)


def read_credentials(path: Path) -> Mapping[str, str]:
    """Variable → value; empty if this machine hasn't joined."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
