"""How the user has to type the command `lhp`. Knows no command."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def command_name() -> str:
    """`lhp` if every terminal finds this program under that name; otherwise its path.

    The path is relative if the program is inside the working directory, for example
    `.venv/bin/lhp`. An activated virtual environment doesn't count: it may not be active in
    the next terminal.
    """
    script = Path(sys.argv[0])
    if script.name != "lhp":
        script = Path(sys.executable).with_name("lhp")
    if not script.exists():
        return "lhp"
    environment = os.environ.get("VIRTUAL_ENV")
    directories = [
        directory
        for directory in os.get_exec_path()
        if environment is None or Path(directory) != Path(environment) / "bin"
    ]
    found = shutil.which("lhp", path=os.pathsep.join(directories))
    if found is not None and Path(found).samefile(script):
        return "lhp"
    script = script.absolute()
    if script.is_relative_to(Path.cwd()):
        script = script.relative_to(Path.cwd())
    return shlex.quote(str(script))


def as_typed_here(text: str) -> str:
    """The text, with every `lhp` command in it (such as `lhp serve`) as the user has to type it."""
    return text.replace("`lhp ", f"`{command_name()} ")
