"""Whether the packages of the extra are there."""

from __future__ import annotations

import importlib.util

from profiler_service.distribution import EXTRA_MODULES


def check_extra() -> None:
    """Returns if every package of the extra is installed.

    Otherwise, a missing package would be noticed only when it is needed, after hours.
    """
    for module in sorted(EXTRA_MODULES["trainer"], reverse=True):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
