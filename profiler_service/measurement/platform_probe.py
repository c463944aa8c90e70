"""Reads the parts of a Platform from the machine: processor, libraries, variables, driver.

Imports no torch: what torch knows of the machine is passed in.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# Variables with which users change kernels or their arithmetic.
_KERNEL_VARIABLES: Final = re.compile(
    r"(MKL|ONEDNN|DNNL|OPENBLAS|OMP|KMP|GOMP|CUBLAS|CUDNN|NVIDIA_TF32)_\w+|TORCH_ALLOW_TF32_\w+"
)
# Set by this project; the number of threads is already a field of the platform.
_OWN_VARIABLES: Final = frozenset({"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"})


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


def kernel_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that change which kernels run and how, without thread counts.

    Of LD_PRELOAD (mostly allocators), only the names of the files, not their directories.
    """
    variables = {
        name: value
        for name, value in environment.items()
        if _KERNEL_VARIABLES.fullmatch(name) and name not in _OWN_VARIABLES
    }
    preloaded = re.split(r"[\s:]+", environment.get("LD_PRELOAD", "").strip(" :"))
    if preloaded != [""]:
        variables["LD_PRELOAD"] = " ".join(Path(path).name for path in preloaded)
    return variables


def find_cublas_version() -> str | None:
    """The version of the installed cuBLAS package, or None if torch brings its own."""
    for distribution in importlib.metadata.distributions():
        if str(distribution.metadata["Name"]).startswith("nvidia-cublas"):
            return distribution.version
    return None


def read_nvidia_driver(path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The NVIDIA driver's version; `unknown` if the driver doesn't show it."""
    text = path.read_text() if path.is_file() else ""
    match = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", text)
    return match.group(1) if match else "unknown"
