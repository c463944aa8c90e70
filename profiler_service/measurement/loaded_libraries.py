"""Versions of the libraries that are loaded in this process, as the libraries report them.

The loaded library may not be the installed package: LD_LIBRARY_PATH, a system library or a second
copy can come before it. Linux. Imports no torch.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from profiler_service.measurement.system_files import ROOT, read_text

_ALLOCATOR: Final = re.compile(r"lib(jemalloc|tcmalloc|mimalloc|hoard|rpmalloc|snmalloc)\w*[.-].*")


def find_loaded_files(root: Path = ROOT) -> tuple[Path, ...]:
    """The shared libraries that are mapped into this process, in the order of their addresses."""
    lines = (line.split(maxsplit=5) for line in read_text(root / "proc/self/maps").splitlines())
    paths = dict.fromkeys(fields[5] for fields in lines if len(fields) == 6)
    return tuple(Path(path) for path in paths if re.search(r"\.so(\.[\d.]+)?$", path))


def find_allocators(files: Iterable[Path], flags: Mapping[str, str]) -> dict[str, str]:
    """The allocators among the loaded `files`, as a flag of a platform.

    Those that LD_PRELOAD names are left out, because they are a flag already. The others come from
    /etc/ld.so.preload, or are linked with the interpreter. Empty for the C library's own.
    """
    preloaded = flags.get("LD_PRELOAD", "").split()
    names = sorted({file.name for file in files if _ALLOCATOR.fullmatch(file.name)})
    others = [name for name in names if not any(name.startswith(given) for given in preloaded)]
    return {"allocator": " ".join(others)} if others else {}


def find_cublas_version(files: Iterable[Path]) -> str | None:
    """The version of the loaded cuBLAS; None if none is loaded, or if it doesn't report a version.

    It has its fourth number if an installed package has the same first three.
    """
    for file in files:
        if re.fullmatch(r"libcublas\.so[\d.]*", file.name):
            loaded = _read_cublas_version(file)
            if loaded is not None:
                return _with_build_number(loaded)
    return None


def find_openblas_version(files: Iterable[Path]) -> str | None:
    """Version and build of the loaded OpenBLAS that torch uses, and the kernels that it chose.

    None if none is loaded. numpy and scipy bring their own, which computes none of the measured
    products.
    """
    for file in files:
        if "openblas" in file.name and not {"numpy.libs", "scipy.libs"} & set(file.parts):
            described = _read_openblas(file)
            if described is not None:
                return described
    return None


def _read_cublas_version(file: Path) -> str | None:
    try:
        get_property = ctypes.CDLL(str(file)).cublasGetProperty
    except (OSError, AttributeError):
        return None
    numbers = []
    for kind in range(3):  # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL of libraryPropertyType
        number = ctypes.c_int()
        if get_property(kind, ctypes.byref(number)) != 0:
            return None
        numbers.append(number.value)
    return ".".join(map(str, numbers))


def _with_build_number(loaded: str) -> str:
    for distribution in importlib.metadata.distributions():
        name, installed = str(distribution.metadata["Name"]), distribution.version
        if name.startswith("nvidia-cublas") and installed.startswith(f"{loaded}."):
            return installed
    return loaded


def _read_openblas(file: Path) -> str | None:
    try:
        library = ctypes.CDLL(str(file))
    except OSError:
        return None
    texts = []
    for name in ("openblas_get_config", "openblas_get_corename"):
        try:
            function = getattr(library, name)
        except AttributeError:
            return None
        function.restype = ctypes.c_char_p
        texts.append((function() or b"").decode(errors="replace").strip())
    return " ".join(texts)
