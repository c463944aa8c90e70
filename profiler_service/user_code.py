"""Finds what `module:name` names in the user's own code, and says what that code has raised.

The module is imported in this process. Imports no torch.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from pathlib import Path

from profiler_service.errors import InvalidRequestError, ModelError


def find_named(where: str, describe: Callable[[str, BaseException], ModelError]) -> object:
    """What `where` ("module:name") names.

    Raises InvalidRequestError if there is no such module, or nothing of that name in it; if the
    import raises, what `describe` makes of "importing module" and the error.
    """
    name, _, attributes = where.partition(":")
    try:
        found: object = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise InvalidRequestError(
                f"there is no module {error.name!r} here",
                hint="run this command in the module's directory, or install its package",
            ) from error
        raise describe(f"importing {name}", error) from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise InvalidRequestError(
                f"{name} has no {attributes!r}", hint=f"look up the right name in {name}"
            )
        found = getattr(found, attribute)
    return found


def describe_error(what: str, error: BaseException, *, remark: str = "") -> str:
    """What `what` has raised, and on which line of the user's code: of the working directory."""
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    here = [frame for frame in frames if Path(frame.filename).is_relative_to(Path.cwd())]
    own = [frame for frame in here if "site-packages" not in frame.filename]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{what} raised {reason}{remark}{place}"
