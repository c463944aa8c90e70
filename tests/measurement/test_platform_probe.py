from __future__ import annotations

import platform
from pathlib import Path

import pytest

from profiler_service.measurement.platform_probe import (
    cpu_model,
    kernel_variables,
    parse_libraries,
    read_cpuinfo,
    read_nvidia_driver,
)

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


def test_only_variables_that_change_kernels_belong_to_the_platform() -> None:
    environment = {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
        "NVIDIA_TF32_OVERRIDE": "0",
        "OMP_WAIT_POLICY": "ACTIVE",
        "MKL_NUM_THREADS": "1",  # ours
        "OMP_NUM_THREADS": "1",  # ours
        "HOME": "/root",
        "MY_MKL_CBWR": "1",
    }
    assert kernel_variables(environment) == {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
        "NVIDIA_TF32_OVERRIDE": "0",
        "OMP_WAIT_POLICY": "ACTIVE",
    }


@pytest.mark.parametrize(
    ("preload", "flag"),
    [
        ("/usr/lib/libjemalloc.so.2", "libjemalloc.so.2"),
        ("/opt/b/libiomp5.so:/opt/a/libtcmalloc.so.4", "libiomp5.so libtcmalloc.so.4"),
        (" libone.so  /lib/libtwo.so ", "libone.so libtwo.so"),  # blanks separate as well
        ("/a/libtwo.so:", "libtwo.so"),
    ],
)
def test_preloaded_libraries_belong_to_the_platform_by_name(preload: str, flag: str) -> None:
    assert kernel_variables({"LD_PRELOAD": preload}) == {"LD_PRELOAD": flag}


@pytest.mark.parametrize("preload", ["", " ", ":"])
def test_nothing_preloaded_is_no_flag(preload: str) -> None:
    assert kernel_variables({"LD_PRELOAD": preload}) == {}


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
