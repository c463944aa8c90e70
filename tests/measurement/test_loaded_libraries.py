from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from profiler_service.measurement.loaded_libraries import (
    find_allocators,
    find_cublas_version,
    find_loaded_files,
    find_openblas_version,
)
from tests.measurement.machines import write_files

CUBLAS = """
int cublasGetProperty(int kind, int *value) {
    int numbers[] = {12, 8, 4};
    *value = numbers[kind];
    return 0;
}
"""
OPENBLAS = """
const char *openblas_get_config(void) { return "OpenBLAS 0.3.30 NO_AFFINITY "; }
const char *openblas_get_corename(void) { return "NEOVERSEV1"; }
"""

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def compile_library(path: Path, source: str) -> Path:
    """The shared library `path`, made of C."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source_path = path.with_suffix(".c")
    source_path.write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source_path], check=True, timeout=60)
    return path


def test_libraries_mapped_into_the_process_are_found(tmp_path: Path) -> None:
    maps = (
        "7f0000000000-7f0000001000 r--p 00000000 fe:00 11 /usr/lib/libcublas.so.12\n"
        "7f0000001000-7f0000002000 r-xp 00001000 fe:00 11 /usr/lib/libcublas.so.12\n"
        "7f0000003000-7f0000004000 r-xp 00000000 fe:00 12 /opt/a b/libjemalloc.so.2\n"
        "7f0000005000-7f0000006000 rw-p 00000000 00:00 0\n"
        "7f0000007000-7f0000008000 r--p 00000000 fe:00 13 /usr/share/locale.so.txt\n"
        "7ffc00000000-7ffc00001000 rw-p 00000000 00:00 0 [stack]"
    )
    root = write_files(tmp_path, {"proc/self/maps": maps})
    assert find_loaded_files(root) == (
        Path("/usr/lib/libcublas.so.12"),
        Path("/opt/a b/libjemalloc.so.2"),
    )


def test_this_process_has_the_c_library_loaded() -> None:
    assert any(file.name.startswith(("libc.", "libc-", "ld-")) for file in find_loaded_files())


@pytest.mark.parametrize(
    ("file", "flags", "allocator"),
    [
        ("/usr/lib/libjemalloc.so.2", {}, {"allocator": "libjemalloc.so.2"}),
        ("/usr/lib/libtcmalloc_minimal.so.4", {}, {"allocator": "libtcmalloc_minimal.so.4"}),
        ("/usr/lib/libmimalloc.so.2.1", {}, {"allocator": "libmimalloc.so.2.1"}),
        # A flag already. The file behind the name may have a longer one.
        ("/usr/lib/libjemalloc.so.2", {"LD_PRELOAD": "libjemalloc.so.2"}, {}),
        ("/usr/lib/libtcmalloc.so.4.5.9", {"LD_PRELOAD": "libtcmalloc.so.4"}, {}),
        ("/usr/lib/libc.so.6", {}, {}),
    ],
)
def test_an_allocator_that_came_without_ld_preload_is_a_flag(
    file: str, flags: Mapping[str, str], allocator: Mapping[str, str]
) -> None:
    assert find_allocators([Path(file)], flags) == allocator


class Installed:
    """An installed package, as importlib tells of it."""

    def __init__(self, name: str, version: str) -> None:
        self.metadata = {"Name": name}
        self.version = version


@needs_compiler
@pytest.mark.parametrize(
    ("installed", "version"),
    [
        ("12.8.4.1", "12.8.4.1"),  # the same, in more words
        ("12.4.5.8", "12.8.4"),  # another one is installed than is loaded
        ("12.8.40.1", "12.8.4"),
    ],
)
def test_the_version_of_cublas_is_that_of_the_loaded_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str, version: str
) -> None:
    library = compile_library(tmp_path / "libcublas.so.12", CUBLAS)
    package = Installed("nvidia-cublas-cu12", installed)
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [package])
    assert find_cublas_version([tmp_path / "libcublasLt.so.12", library]) == version


@needs_compiler
def test_a_cublas_that_is_installed_and_not_loaded_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Installed("nvidia-cublas-cu12", "12.8.4.1")
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [package])
    assert find_cublas_version([Path("/usr/lib/libc.so.6")]) is None
    mute = compile_library(tmp_path / "libcublas.so.12", "int unrelated;")
    assert find_cublas_version([mute]) is None


@needs_compiler
def test_openblas_tells_its_version_and_the_kernels_that_it_chose(tmp_path: Path) -> None:
    ours = compile_library(tmp_path / "torch.libs" / "libopenblas-r0.so", OPENBLAS)
    assert find_openblas_version([ours]) == "OpenBLAS 0.3.30 NO_AFFINITY NEOVERSEV1"


@needs_compiler
def test_numpy_s_own_openblas_is_none_of_torch_s(tmp_path: Path) -> None:
    numpys = compile_library(tmp_path / "numpy.libs" / "libopenblas64_.so", OPENBLAS)
    assert find_openblas_version([numpys]) is None
