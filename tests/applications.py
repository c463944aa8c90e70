"""Applications that tests have ended with: forgets them, so that their memory is given back."""

from __future__ import annotations

import functools
import sys


def forget_applications() -> None:
    """Empties the caches in which FastAPI keeps the functions of the last thousand applications.

    A service makes one application. Tests make thousands, and with its functions each keeps its
    store, its curves and its description. The garbage collector then searches millions of objects,
    for seconds, in which no thread of this process runs.
    """
    keeping = sys.modules.get("fastapi.dependencies.models")
    for each in vars(keeping).values() if keeping is not None else ():
        if isinstance(each, functools._lru_cache_wrapper):
            each.cache_clear()
