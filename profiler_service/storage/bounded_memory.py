"""A limit on the memory that reading a file may take."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def bounded_memory(size_bytes: int) -> Iterator[None]:
    """In this context, the process may take so much more memory; beyond, it raises MemoryError.

    For files from anywhere: only when they are read, one knows what a few bytes expand to.
    """
    before = soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + size_bytes
    limits = [each for each in (soft, hard) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([most, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
