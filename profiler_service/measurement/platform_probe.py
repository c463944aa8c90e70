"""Reads the parts of a Platform from the machine: processor, libraries, memory, driver.

Imports no torch: what torch knows of the machine is passed in.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from pathlib import Path

from profiler_service.measurement.system_files import ROOT, read_text


def read_cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The fields of the first processor in /proc/cpuinfo; empty if there is none."""
    if not path.is_file():
        return {}
    first = path.read_text().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def cpu_model(cpuinfo: Mapping[str, str]) -> str:
    """The processor's name, and numbers that distinguish processors of the same (virtual) name."""
    name = cpuinfo.get("model name") or platform.processor() or platform.machine()
    fields = ("cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU revision")
    numbers = [f"{field} {cpuinfo[field]}" for field in fields if field in cpuinfo]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def parse_libraries(configuration: str) -> dict[str, str]:
    """Versions of the product libraries named in torch's build configuration, by name."""
    patterns = {
        "mkl": r"Math Kernel Library Version (\S+)",
        "onednn": r"(?:MKL-DNN|oneDNN) v(\S+)",
        "blas": r"BLAS_INFO=(\w+)",
        "openmp": r"OpenMP (\d+)",
    }
    found = {name: re.search(pattern, configuration) for name, pattern in patterns.items()}
    return {name: match.group(1) for name, match in found.items() if match}


def host_memory_flags(cpuinfo: Mapping[str, str], root: Path = ROOT) -> dict[str, str]:
    """Flags of a platform for the processor's firmware and the kernel's memory settings.

    `microcode`: its revision; updates have made some instructions several times slower.
    `transparent_hugepages`: `always`, `madvise` or `never`. `hugepage_sizes`: sizes other than the
    usual one that the kernel may use, if any. A flag is left out if the system doesn't show it.
    """
    flags = {}
    if "microcode" in cpuinfo:
        flags["microcode"] = cpuinfo["microcode"]
    pages = root / "sys/kernel/mm/transparent_hugepage"
    setting = _chosen(read_text(pages / "enabled"))
    if re.search(r"^THP_enabled:\s*0", read_text(root / "proc/self/status"), re.MULTILINE):
        setting = "never"  # of this process and its children
    if setting:
        flags["transparent_hugepages"] = setting
    sizes = {
        path.parent.name.removeprefix("hugepages-"): _chosen(read_text(path))
        for path in sorted(pages.glob("hugepages-*/enabled"))
    }
    usual = {"2048kB": "inherit"}
    others = [f"{size} {it}" for size, it in sizes.items() if it != usual.get(size, "never")]
    if others:
        flags["hugepage_sizes"] = ", ".join(others)
    return flags


def _chosen(text: str) -> str:
    """The choice in brackets: `madvise` in `always [madvise] never`."""
    match = re.search(r"\[(\w+)\]", text)
    return match[1] if match else ""


def read_nvidia_driver(path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The NVIDIA driver's version; `unknown` if the driver doesn't show it."""
    text = path.read_text() if path.is_file() else ""
    match = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", text)
    return match.group(1) if match else "unknown"
