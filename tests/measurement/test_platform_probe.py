from __future__ import annotations

import platform
from pathlib import Path

from profiler_service.measurement.platform_probe import (
    cpu_model,
    host_memory_flags,
    parse_libraries,
    read_cpuinfo,
    read_nvidia_driver,
)
from tests.measurement.machines import write_files

CPUINFO = """\
processor\t: 0
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
flags\t\t: fpu avx2 amx_tile

processor\t: 1
model name\t: another
"""


def test_cpu_model_tells_apart_processors_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    cpuinfo = read_cpuinfo(path)
    assert cpuinfo["flags"] == "fpu avx2 amx_tile"
    assert cpu_model(cpuinfo) == (
        "Intel(R) Xeon(R) Platinum 8480+ (cpu family 6, model 143, stepping 8)"
    )


def test_cpu_model_of_an_arm_processor_which_has_no_name() -> None:
    model = cpu_model({"CPU implementer": "0x41", "CPU part": "0xd40"})
    assert model.endswith("(CPU implementer 0x41, CPU part 0xd40)")


def test_cpu_model_without_cpuinfo_is_the_architecture(tmp_path: Path) -> None:
    assert read_cpuinfo(tmp_path / "absent") == {}
    assert cpu_model({}) == (platform.processor() or platform.machine())


def test_libraries_are_read_from_torch_s_build_configuration() -> None:
    configuration = """PyTorch built with:
  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for Intel(R) 64
  - Intel(R) MKL-DNN v3.12.0 (Git Hash 80afa71049cd69a3df32adcccb623b12cd7baa22)
  - OpenMP 201511 (a.k.a. OpenMP 4.5)
  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release"""
    assert parse_libraries(configuration) == {
        "mkl": "2024.2-Product",
        "onednn": "3.12.0",
        "blas": "mkl",
        "openmp": "201511",
    }
    assert parse_libraries("PyTorch built with: BLAS_INFO=open") == {"blas": "open"}


def test_microcode_and_huge_pages_are_flags(tmp_path: Path) -> None:
    files = {"sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never"}
    root = write_files(tmp_path, files)
    assert host_memory_flags({"microcode": "0xd0003d1"}, root) == {
        "microcode": "0xd0003d1",
        "transparent_hugepages": "madvise",
    }


def test_a_process_without_huge_pages_has_none(tmp_path: Path) -> None:
    # As after prctl(PR_SET_THP_DISABLE) in a parent.
    files = {
        "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
        "proc/self/status": "Name:\tpython\nTHP_enabled:\t0\nThreads:\t3",
    }
    root = write_files(tmp_path, files)
    assert host_memory_flags({}, root) == {"transparent_hugepages": "never"}
    write_files(root, {"proc/self/status": "THP_enabled:\t1"})
    assert host_memory_flags({}, root) == {"transparent_hugepages": "always"}


def test_only_unusual_sizes_of_huge_pages_are_a_flag(tmp_path: Path) -> None:
    pages = "sys/kernel/mm/transparent_hugepage"
    choices = "always inherit madvise never"
    files = {
        f"{pages}/enabled": "always madvise [never]",
        f"{pages}/hugepages-64kB/enabled": choices.replace("never", "[never]"),
        f"{pages}/hugepages-2048kB/enabled": choices.replace("inherit", "[inherit]"),
    }
    root = write_files(tmp_path, files)
    assert host_memory_flags({}, root) == {"transparent_hugepages": "never"}
    write_files(root, {f"{pages}/hugepages-64kB/enabled": choices.replace("always", "[always]")})
    assert host_memory_flags({}, root)["hugepage_sizes"] == "64kB always"


def test_what_the_machine_does_not_show_is_no_flag(tmp_path: Path) -> None:
    assert host_memory_flags({}, tmp_path) == {}


def test_nvidia_driver_version(tmp_path: Path) -> None:
    path = tmp_path / "version"
    path.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
    )
    assert read_nvidia_driver(path) == "550.54.15"
    # The open kernel module's text has more words between name and version.
    path.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n"
    )
    assert read_nvidia_driver(path) == "570.86.10"
    assert read_nvidia_driver(tmp_path / "absent") == "unknown"
