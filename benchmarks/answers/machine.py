"""This machine: the conditions of measuring, and its description in a report."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parent.parent.parent


class RefereeError(Exception):
    """No verdict is possible: the service can't be asked, or the machine can't measure."""


@contextlib.contextmanager
def measuring_conditions(*, threads: int, cpus: int) -> Iterator[None]:
    """Pins this thread to the last `cpus` processors that it may use, without garbage
    collection."""
    before = os.sched_getaffinity(0)
    if cpus > len(before):
        raise RefereeError(f"the platform has {cpus} processors, this process only {len(before)}")
    collecting = gc.isenabled()
    # Before the first product: torch's own threads inherit the affinity of this thread.
    os.sched_setaffinity(0, sorted(before)[-cpus:])
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        if collecting:
            gc.enable()
        torch.set_flush_denormal(False)
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def busy_processor() -> Iterator[None]:
    """Keeps the first usable processor busy. It isn't one of those that measure."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise RefereeError("--busy needs a second processor")
    # The child ends by itself when this process is killed.
    loop = (
        "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\n"
        "while os.getppid() == int(sys.argv[2]): sum(range(100_000))"
    )
    process = subprocess.Popen([sys.executable, "-c", loop, str(usable[0]), str(os.getpid())])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def redact(text: str) -> str:
    """`text` without this machine's name and without local paths."""
    for secret, name in (
        (tempfile.gettempdir(), "TMP"),
        (sys.prefix, "VENV"),
        (str(REPOSITORY), "."),
        (str(Path.home()), "~"),
        (platform.node(), "HOST"),
    ):
        if len(secret) > 1:
            text = text.replace(secret, name)
    return text


def describe_machine() -> dict[str, str]:
    """The conditions of the figures: processor, memory, kernel, versions. No names of hosts."""
    model = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{model}, {os.cpu_count()} logical,"
        f" {len(os.sched_getaffinity(0))} usable here",
        "memory": f"{memory_bytes / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": f"{torch.__version__} ({torch.backends.cpu.get_cpu_capability()})",
        "load average before": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def describe_commit() -> str:
    """The commit checked out, and whether tracked files differ from it."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git checkout)"
    return commit + (" with local changes" if changes else "")
