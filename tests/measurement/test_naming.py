"""Kernels named by a real child, and by readers with libraries and profilers made for the test."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from profiler_service.analysis.kernel_names import find_changes
from profiler_service.errors import UnsupportedOnHostError
from profiler_service.grid import Grid
from profiler_service.kinds import CONV2D, LINEAR, LSTM, MATMUL
from profiler_service.measurement import naming
from profiler_service.measurement.kernel_reading import (
    MAX_READ_BYTES,
    PrintedKernels,
    ProfiledKernels,
    SilentKernels,
    open_kernel_reader,
    shorten_cuda_name,
)
from profiler_service.measurement.measurer import Measurer
from profiler_service.plan.named_points import choose_named_points
from profiler_service.workload import Dims, Workload
from tests.measurement.batches import LINE, batch_of, child_pid
from tests.measurement.builders import (
    ASKS_TOO_MUCH,
    BLOCKS,
    KILLS_ITSELF,
    KINDS,
    MISSING,
    NOTHING,
    SLOW,
    TROUBLE,
    workload,
)

BACKENDS: Any = torch.backends
needs_bf16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="oneDNN has no bfloat16 kernels for this processor",
)
needs_avx512 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="other instruction sets have other kernels",
)
LINE_OF_ONEDNN = (
    b"onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx2,undef,src:f32,,,1x2:2x3,0.1\n"
)


def name(
    measurer: Measurer, named: Workload, *points: Dims, limit_s: float = 30.0
) -> dict[Dims, str]:
    found = measurer.name_kernels(named, points, limit_s=limit_s, must_stop=lambda: False)
    assert found is not None
    return found


@needs_bf16
def test_a_product_of_bfloat16_is_onednn_s(measurer: Measurer) -> None:
    points = (1197, 317), (1200, 320)
    found = name(measurer, LINEAR.describe({"dtype": "bfloat16"}), *points)
    assert set(found) == set(points)
    for each in found.values():
        # `matmul brg_matmul:avx512_core_bf16`, for example
        primitive, _, kernel = each.partition(" ")
        assert primitive == "matmul"
        assert ":" in kernel


@pytest.mark.skipif(not BACKENDS.mkl.is_available(), reason="this torch has no MKL")
def test_a_product_of_float32_is_mkl_s(measurer: Measurer) -> None:
    assert name(measurer, MATMUL.describe(), (300,)) == {(300,): "MKL SGEMM(T,N)"}
    # The batch may vary as well.
    varied = MATMUL.describe({"vary": "batch", "size": 300})
    assert name(measurer, varied, (17,)) == {(17,): "MKL SGEMM(T,N)"}


@needs_avx512
def test_a_packed_convolution_s_kernel_changes_above_multiples_of_16(measurer: Measurer) -> None:
    convolution = CONV2D.describe({"backend": "packed"})
    window = Grid.window((20, 32), (50, 0))
    points = choose_named_points(window, (20, 32), (32, 32))
    found = name(measurer, convolution, *points)
    assert set(found) == set(points)
    # Its weights are in blocks of 16, 32, 48 or 64 output channels: as many as are needed.
    assert "Acdb32a" in found[32, 32] and "Acdb48a" in found[33, 32]
    [change] = find_changes(found, (32, 32))
    assert (change.rule, change.number) == ("above multiples", 16)


@pytest.mark.skipif(not BACKENDS.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_an_lstm_is_onednn_s(measurer: Measurer) -> None:
    [found] = name(measurer, LSTM.describe({"steps": 3}), (70, 60)).values()
    assert "rnn " in found


def test_kernels_that_nobody_names_are_left_out(measurer: Measurer) -> None:
    assert name(measurer, workload(NOTHING), (1,), (2,)) == {}


def test_naming_uses_the_running_child_and_leaves_it_ready(measurer: Measurer) -> None:
    pid = child_pid(measurer)
    name(measurer, MATMUL.describe(), (30,), (31,))
    assert child_pid(measurer) == pid
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1, 2, 3]))) == 3


def test_points_that_cannot_be_called_cost_only_their_own_names(measurer: Measurer) -> None:
    pid = child_pid(measurer)
    assert name(measurer, workload(TROUBLE), (1,), (ASKS_TOO_MUCH,), (2,)) == {}
    assert name(measurer, MATMUL.describe(), (30,)).keys() == {(30,)}
    assert child_pid(measurer) == pid


def test_a_child_that_dies_is_replaced_and_earlier_names_stay(
    measurer: Measurer, caplog: pytest.LogCaptureFixture
) -> None:
    pid = child_pid(measurer)
    assert name(measurer, workload(TROUBLE), (1,), (KILLS_ITSELF,), (2,)) == {}
    assert "SIGKILL" in caplog.text
    # Nothing is running now, so nothing is tried.
    assert (
        measurer.name_kernels(workload(TROUBLE), [(1,)], limit_s=1.0, must_stop=lambda: False)
        is None
    )
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1, 2]))) == 2
    assert child_pid(measurer) != pid
    assert name(measurer, MATMUL.describe(), (30,)).keys() == {(30,)}


def test_no_point_is_begun_that_would_end_late(measurer: Measurer, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    log.touch()
    slow = workload(SLOW, log=str(log), call_ms=40)
    name(measurer, slow, *((n,) for n in range(1, 60)), limit_s=0.1)
    # The second may end at 80 ms. The third would end at 120 ms.
    assert log.read_text().split() in (["1"], ["1", "2"])
    name(measurer, slow, (7,), (8,), limit_s=0.0)
    assert "8" not in log.read_text().split()
    # 40 ms are within the limit, so the second point is named, too, and no third one.
    log.write_text("")
    name(measurer, slow, (7,), (8,), (9,), limit_s=0.06)
    assert log.read_text().split() in (["7"], ["7", "8"])


def test_naming_ends_when_it_is_told_to(measurer: Measurer, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    log.touch()
    slow = workload(SLOW, log=str(log), call_ms=40)
    points = [(n,) for n in range(1, 90)]
    found = measurer.name_kernels(slow, points, limit_s=60.0, must_stop=lambda: True)
    assert found == {}
    # Asked after a quarter of a second without a message.
    assert 1 <= len(log.read_text().split()) < 40


def test_naming_can_be_interrupted(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Measurer(device="cpu", kinds=KINDS) as measurer:

        def interrupt() -> None:
            fifo.read_text()  # returns when the call is under way
            measurer.interrupt()

        thread = threading.Thread(target=interrupt)
        thread.start()
        started_s = time.monotonic()
        assert name(measurer, workload(TROUBLE, fifo=str(fifo)), (BLOCKS,)) == {}
        thread.join()
        assert time.monotonic() - started_s < 10


def test_a_call_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "GRACE_S", 0.5)
    with Measurer(device="cpu", kinds=KINDS) as measurer:
        assert name(measurer, workload(TROUBLE), (BLOCKS,), limit_s=0.1) == {}


def test_what_can_not_be_measured_can_not_be_named(measurer: Measurer) -> None:
    with pytest.raises(UnsupportedOnHostError):
        name(measurer, workload(LINEAR, dtype="float8_e4m3fn", batch=16), (3, 4))
    # Its builder isn't there.
    assert name(measurer, workload(MISSING), (1,)) == {}


# Readers


def print_in_c(text: bytes) -> None:
    """Prints as a library of C does: into the buffer of its own `stdout`."""
    libc = ctypes.CDLL(None)
    libc.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    libc.fputs(text, ctypes.c_void_p.in_dll(libc, "stdout"))


@contextlib.contextmanager
def nothing_more() -> Iterator[None]:
    yield


def test_what_is_printed_meanwhile_is_read_and_what_comes_later_is_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    reader = PrintedKernels([nothing_more])
    print_in_c(b"before\n")

    def call() -> None:
        sys.stdout.write("from Python\n")
        print_in_c(LINE_OF_ONEDNN)

    assert reader.read(call) == "matmul brg_matmul:avx2"
    print_in_c(b"after\n")
    ctypes.CDLL(None).fflush(None)
    shown = capfd.readouterr().out
    assert "before" in shown and "after" in shown
    assert "onednn" not in shown
    # Nothing of it is left.
    assert reader.read(lambda: None) == ""


def test_a_call_that_raises_gives_the_output_back(capfd: pytest.CaptureFixture[str]) -> None:
    def call() -> None:
        print_in_c(LINE_OF_ONEDNN)
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        PrintedKernels([nothing_more]).read(call)
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"


def test_of_endless_output_the_beginning_is_read() -> None:
    reader = PrintedKernels([nothing_more])

    def call() -> None:
        os.write(1, LINE_OF_ONEDNN)
        os.write(1, b"x" * 2 * MAX_READ_BYTES)
        os.write(1, b"\n" + LINE_OF_ONEDNN.replace(b"avx2", b"avx512"))

    assert reader.read(call) == "matmul brg_matmul:avx2"


def test_a_torch_without_libraries_that_tell_names_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    reader = open_kernel_reader("cpu")
    assert isinstance(reader, SilentKernels)
    called: list[None] = []
    assert reader.read(lambda: called.append(None)) == ""
    assert called == []


@pytest.mark.parametrize("variable", ["ONEDNN_VERBOSE", "DNNL_VERBOSE", "MKL_VERBOSE"])
def test_output_that_the_user_asked_for_stays_the_user_s(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    assert isinstance(open_kernel_reader("cpu"), SilentKernels)
    monkeypatch.setenv(variable, "0")
    assert not isinstance(open_kernel_reader("cpu"), SilentKernels) or not (
        BACKENDS.mkl.is_available() or BACKENDS.mkldnn.is_available()
    )


@dataclass(frozen=True)
class DeviceType:
    name: str


@dataclass(frozen=True)
class Event:
    name: str
    device_type: DeviceType


ON_CPU, ON_GPU = DeviceType("CPU"), DeviceType("CUDA")


class FakeProfile:
    """Records what it is told before it is closed."""

    def __init__(self, log: list[str], recorded: list[Event] | None) -> None:
        self._log = log
        self._recorded = recorded

    def events(self) -> list[Event] | None:
        assert self._log[-1] == "closed", "events are there once the profile is closed"
        return self._recorded


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (
            [
                Event("aten::mm", ON_CPU),
                Event("Memcpy DtoD (Device -> Device)", ON_GPU),
                Event("void gemmSN_TN_kernel<float, 128, 16>(cublasParams)", ON_GPU),
                Event("Memset (Device)", ON_GPU),
                Event("MemsetLikeKernel", ON_GPU),
                Event("void gemmSN_TN_kernel<float, 128, 16>(cublasParams)", ON_GPU),
            ],
            "gemmSN_TN_kernel + MemsetLikeKernel + gemmSN_TN_kernel",
        ),
        ([Event("aten::mm", ON_CPU)], ""),
        ([], ""),
        (None, ""),
    ],
)
def test_a_profiler_s_kernels(recorded: list[Event] | None, expected: str) -> None:
    log: list[str] = []

    @contextlib.contextmanager
    def profile() -> Iterator[FakeProfile]:
        yield FakeProfile(log, recorded)
        log.append("closed")

    reader = ProfiledKernels(profile, lambda: log.append("synchronized"))
    assert reader.read(lambda: log.append("called")) == expected
    # The device works on what was queued after the call has returned.
    assert log == ["called", "synchronized", "closed"]


@pytest.mark.parametrize(
    ("full", "short"),
    [
        (
            "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_64x64_64x6_tn_align8>"
            "(cutlass_80_tensorop_bf16_s16816gemm_bf16_64x64_64x6_tn_align8::Params)",
            "cutlass_80_tensorop_bf16_s16816gemm_bf16_64x64_64x6_tn_align8",
        ),
        ("ampere_bf16_s16816gemm_bf16_64x64_ldg8_f2f_stages_64x5_tn", None),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64_warpgroupsize1x1x1", None),
        ("nvjet_hsh_64x8_64x16_4x1_v_bz_TNT", None),
        ("void gemvx::kernel<int, int, float>(cublasGemvParamsEx<int>)", "gemvx::kernel"),
        (
            "void at::native::elementwise_kernel<128, 4>(int, at::native::gpu_kernel_impl)",
            "at::native::elementwise_kernel",
        ),
        ("", ""),
    ],
)
def test_a_cuda_kernel_s_name(full: str, short: str | None) -> None:
    assert shorten_cuda_name(full) == (full if short is None else short)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_names_its_kernel() -> None:
    x = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16)
    assert open_kernel_reader("cuda").read(lambda: x @ x) != ""
