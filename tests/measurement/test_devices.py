from __future__ import annotations

import platform
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from profiler_service.errors import MeasurementFailedError
from profiler_service.measurement.devices import (
    cpu_model,
    create_flush,
    delay_cuda,
    kernel_variables,
    open_device,
    open_gpu_probe,
    parse_libraries,
    probe_dtypes,
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


def test_float32_is_always_among_the_dtypes() -> None:
    assert probe_dtypes("cpu")[0] == "float32"


def test_dtypes_that_a_device_fails_to_multiply_are_left_out() -> None:
    assert probe_dtypes("meta") == ()  # has shapes only: nothing can be copied from it


@pytest.mark.gpu
def test_a_gpu_with_tensor_cores_of_all_kinds_multiplies_all_dtypes() -> None:
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("needs a CUDA device of compute capability 8.0 or more")
    assert probe_dtypes("cuda") == ("float32", "bfloat16", "float16")


def test_a_cpu_s_cache_is_not_flushed() -> None:
    with pytest.raises(MeasurementFailedError, match="on a GPU only") as caught:
        open_device("cpu", cpus=[0], cache="flushed")
    assert "LHP_CACHE=warm" in caught.value.hint


def test_a_cache_is_warm_or_flushed() -> None:
    with pytest.raises(MeasurementFailedError, match="never 'cold'") as caught:
        open_device("cpu", cpus=[0], cache="cold")
    assert "warm or flushed" in caught.value.hint


def test_a_flush_writes_twice_the_cache() -> None:
    written = create_flush(1000, "cpu")()
    assert isinstance(written, torch.Tensor)
    assert written.nbytes == 2000
    assert not written.any()


def test_a_cache_of_unknown_size_is_not_flushed() -> None:
    with pytest.raises(MeasurementFailedError, match="size of its L2 cache") as caught:
        create_flush(0, "cpu")
    assert "LHP_CACHE=warm" in caught.value.hint


class FakeNvml(ModuleType):
    """As much of pynvml as is used, with one GPU, `GPU-1-2`, at 1,500 MHz."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM = 1

    def __init__(self, *, reasons: int = 0, unsupported: str = "") -> None:
        super().__init__("pynvml")
        self.nvmlClocksThrottleReasonHwSlowdown = 8
        self.nvmlClocksThrottleReasonHwThermalSlowdown = 64
        self.nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 128
        self.nvmlClocksEventReasonSwThermalSlowdown = 32
        self._reasons = reasons
        self._unsupported = unsupported

    def _check(self, name: str) -> None:
        if name == self._unsupported:
            raise self.NVMLError("Not Supported")

    def nvmlInit(self) -> None:  # noqa: N802
        self._check("nvmlInit")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        assert uuid == "GPU-1-2"
        return "handle"

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:  # noqa: N802
        assert handle == "handle"
        self._check("reasons")
        return self._reasons

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        assert (handle, kind) == ("handle", self.NVML_CLOCK_SM)
        self._check("clock")
        return 1500  # MHz


@pytest.mark.parametrize(
    ("reasons", "throttled"),
    # None; hardware, thermal (hardware, software), power brake; idle and the power cap don't count.
    [(0, False), (8, True), (64, True), (32, True), (128, True), (1, False), (4, False)],
)
def test_gpu_probe_tells_throttling_and_the_clock(
    reasons: int, throttled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(reasons=reasons))
    probe = open_gpu_probe("1-2")
    assert probe.is_throttled() is throttled
    assert probe.read_clock_hz() == 1.5e9


@pytest.mark.parametrize(
    ("unsupported", "throttled", "clock_hz"),
    [("nvmlInit", False, None), ("reasons", False, 1.5e9), ("clock", True, None)],
)
def test_gpu_probe_shows_what_the_driver_does(
    unsupported: str, throttled: bool, clock_hz: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = FakeNvml(reasons=8, unsupported=unsupported)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    probe = open_gpu_probe("1-2")
    assert (probe.is_throttled(), probe.read_clock_hz()) == (throttled, clock_hz)


def test_gpu_probe_without_nvml_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it raises ImportError
    probe = open_gpu_probe("1-2")
    assert (probe.is_throttled(), probe.read_clock_hz()) == (False, None)


@pytest.mark.gpu
def test_the_clock_of_a_real_gpu_is_shown() -> None:
    pytest.importorskip("pynvml")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    clock_hz = open_gpu_probe(str(torch.cuda.get_device_properties(0).uuid)).read_clock_hz()
    assert clock_hz is not None and 1e8 < clock_hz < 3e9


def test_delay_is_long_enough_on_the_fastest_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[int] = []
    monkeypatch.setattr(torch.cuda, "_sleep", slept.append)
    delay_cuda(50e-6)
    assert slept == [150_000]  # 50 µs at 3 GHz; 75 µs at 2 GHz
