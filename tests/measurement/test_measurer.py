"""A real child process: no part of it is replaced, but for workloads that misbehave."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profiler_service.analysis.samples import TimingProtocol
from profiler_service.errors import (
    DeviceLostError,
    MeasurementChildDiedError,
    MeasurementFailedError,
    MeasurementInterruptedError,
    PlatformMismatchError,
    UnsupportedOnHostError,
)
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL, workload_kinds
from profiler_service.measurement.exchange import CAPACITY
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.processors import describe_cores
from profiler_service.plan.base import Batch
from tests.measurement import builders
from tests.measurement.builders import (
    ASKS_TOO_MUCH,
    BLOCKS,
    KILLS_ITSELF,
    KILLS_ITSELF_TOO,
    KINDS,
    MISSING,
    NOTHING,
    RAISES_LATER,
    TROUBLE,
    WAITS_FOR_THE_GPU,
    workload,
)

LINE = Grid(axes=(GridAxis(first=1, count=100),))
"""Its point number i has dims (i + 1,)."""


def batch_of(dims: Sequence[int], *, calls: int = 1, warmup_calls: int = 0) -> Batch:
    """Visits of LINE's points with these dims, in this order, each in a round of its own."""
    return Batch(
        point=np.array(dims, dtype=np.int32) - 1,
        round=np.arange(len(dims), dtype=np.int32),
        calls=calls,
        warmup_calls=warmup_calls,
    )


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer(device="cpu", kinds={**workload_kinds(), **KINDS}) as measurer:
        yield measurer


def child_pid(measurer: Measurer) -> int:
    assert measurer._child is not None
    return measurer._child.pid


def test_linear_is_measured_once_per_visit_in_order(measurer: Measurer) -> None:
    grid = Grid(axes=(GridAxis(first=8, count=4, step=8), GridAxis(first=5, count=3)))
    rng = np.random.default_rng(0)
    point = rng.permutation(np.tile(np.arange(grid.size, dtype=np.int32), 5))
    rounds = np.arange(len(point), dtype=np.int32) // 12
    batch = Batch(point=point, round=rounds, calls=3, warmup_calls=2)
    samples = measurer.measure(LINEAR.describe(), grid, batch)
    np.testing.assert_array_equal(samples.point, point)
    np.testing.assert_array_equal(samples.round, rounds)
    assert samples.calls == 3
    assert not samples.failures
    assert (samples.latency_s > 0).all()
    assert (np.diff(samples.time_s) > 0).all()
    # Samples begin and end within the batch: the last one began before the end.
    assert 0 < samples.time_s[0] < samples.time_s[-1] < samples.seconds
    # All that is timed happened within the batch's wall time.
    assert samples.latency_s.sum() * 3 < samples.seconds


def test_a_larger_product_takes_longer(measurer: Measurer) -> None:
    # 64 times the multiplications: dims reach the operands, and the unit is seconds a call.
    grid = Grid(axes=(GridAxis(first=64, count=2, step=448),))
    visits = np.tile(np.array([0, 1], dtype=np.int32), 20)
    batch = Batch(point=visits, round=visits, calls=2)
    samples = measurer.measure(MATMUL.describe(), grid, batch)
    small = np.median(samples.latency_s[samples.point == 0])
    large = np.median(samples.latency_s[samples.point == 1])
    assert 1e-7 < small * 3 < large < 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_the_device_has_can_be_measured(measurer: Measurer, dtype: str) -> None:
    if dtype not in measurer.dtypes:
        pytest.skip(f"this device doesn't multiply {dtype}")
    samples = measurer.measure(MATMUL.describe({"dtype": dtype}), LINE, batch_of([30, 31]))
    assert len(samples) == 2


def test_dtype_that_the_device_lacks_is_refused(measurer: Measurer) -> None:
    with pytest.raises(UnsupportedOnHostError, match="doesn't multiply float8") as caught:
        measurer.measure(workload(TROUBLE, dtype="float8"), LINE, batch_of([1]))
    assert "float32" in caught.value.hint


@pytest.mark.parametrize("backend", ["dense", "packed", "compiled", "csr"])
def test_every_backend_the_device_has_can_be_measured(measurer: Measurer, backend: str) -> None:
    assert "float32" in measurer.backends[backend]
    given = {"backend": backend} | ({"sparsity": "0.9"} if backend == "csr" else {})
    samples = measurer.measure(MATMUL.describe(given), LINE, batch_of([30, 31, 30]))
    assert len(samples) == 3 and not samples.failures


def test_a_sparser_product_takes_less_time(measurer: Measurer) -> None:
    grid = Grid(axes=(GridAxis(first=512, count=1),))
    visits = np.zeros(20, dtype=np.int32)
    # 32 times fewer nonzeros.
    full, sparse = (
        np.median(
            measurer.measure(
                MATMUL.describe({"backend": "csr", "sparsity": sparsity}),
                grid,
                Batch(point=visits, round=visits),
            ).latency_s
        )
        for sparsity in ("0.36", "0.98")
    )
    assert sparse * 3 < full


def test_backend_that_the_device_lacks_is_refused(measurer: Measurer) -> None:
    # MKL has no sparse product of bfloat16, so torch has none on a CPU.
    lacking = MATMUL.describe({"backend": "csr", "dtype": "bfloat16"})
    with pytest.raises(UnsupportedOnHostError, match="no csr product of bfloat16") as caught:
        measurer.measure(lacking, LINE, batch_of([1]))
    # Which others have one differs: oneDNN packs bfloat16 only where the processor computes in it.
    others = [name for name, dtypes in measurer.backends.items() if "bfloat16" in dtypes]
    assert "dense" in others and "csr" not in others
    assert f"choose backend from: {', '.join(others)};" in caught.value.hint


def test_batch_without_visits(measurer: Measurer) -> None:
    assert len(measurer.measure(MATMUL.describe(), LINE, batch_of([]))) == 0


def test_batch_larger_than_the_block(measurer: Measurer) -> None:
    dims = [1 + i % 7 for i in range(CAPACITY + 5)]
    samples = measurer.measure(workload(NOTHING), LINE, batch_of(dims))
    np.testing.assert_array_equal(samples.point, np.array(dims) - 1)
    assert (np.diff(samples.time_s) >= 0).all()


def test_point_that_raises_is_a_failure_and_the_others_are_measured(measurer: Measurer) -> None:
    pid = child_pid(measurer)
    samples = measurer.measure(
        workload(TROUBLE), LINE, batch_of([1, ASKS_TOO_MUCH, 2, ASKS_TOO_MUCH, 3])
    )
    np.testing.assert_array_equal(samples.point, [0, 1, 2])
    np.testing.assert_array_equal(samples.round, [0, 2, 4])
    assert list(samples.failures) == [ASKS_TOO_MUCH - 1]
    assert samples.failures[ASKS_TOO_MUCH - 1].startswith("RuntimeError: ")
    assert child_pid(measurer) == pid  # no reason to end the child


def test_point_that_fails_later_loses_its_earlier_samples(measurer: Measurer) -> None:
    samples = measurer.measure(workload(TROUBLE), LINE, batch_of([RAISES_LATER, 1] * 3))
    np.testing.assert_array_equal(samples.point, [0, 0, 0])
    assert samples.failures == {RAISES_LATER - 1: "RuntimeError: not twice"}


def test_point_that_kills_the_child_is_a_failure_and_the_others_are_measured(
    measurer: Measurer, tmp_path: Path
) -> None:
    log = tmp_path / "visits"
    pid = child_pid(measurer)
    dims = [1, 2, KILLS_ITSELF, 3, KILLS_ITSELF, KILLS_ITSELF_TOO, 4]
    samples = measurer.measure(workload(TROUBLE, log=str(log)), LINE, batch_of(dims))
    np.testing.assert_array_equal(samples.point, [0, 1, 2, 3])
    np.testing.assert_array_equal(samples.round, [0, 1, 3, 6])
    assert (np.diff(samples.time_s) > 0).all()
    died = "the measuring process died (signal 9: SIGKILL; out of memory?)"
    assert samples.failures == {KILLS_ITSELF - 1: died, KILLS_ITSELF_TOO - 1: died}
    # Nothing was visited twice: the samples of 1 and 2 outlived the child that took them,
    # and the second visit of the deadly point was left out.
    assert log.read_text().split() == ["1", "2", "13", "3", "14", "4"]
    assert child_pid(measurer) != pid


def test_point_that_takes_too_long_is_a_failure(measurer: Measurer) -> None:
    with Measurer(device="cpu", kinds=KINDS, point_timeout_s=0.5) as impatient:
        samples = impatient.measure(workload(TROUBLE), LINE, batch_of([1, BLOCKS, 2, BLOCKS]))
        assert impatient.platform.key == measurer.platform.key  # two children, one platform
    np.testing.assert_array_equal(samples.point, [0, 1])
    assert samples.failures == {BLOCKS - 1: "it took longer than 0.5 s"}


def test_batch_whose_points_all_kill_the_child_is_a_batch_of_failures() -> None:
    kind = builders.kind("everything_kills", "build_death")
    with Measurer(device="cpu", kinds={kind.name: kind}) as doomed:
        samples = doomed.measure(workload(kind), LINE, batch_of([1, 2, 3, 4]))
    assert len(samples) == 0
    died = "the measuring process died (signal 11: SIGSEGV)"
    assert samples.failures == dict.fromkeys([0, 1, 2, 3], died)


def test_child_that_dies_at_too_many_points_in_a_row_is_given_up(
    measurer: Measurer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real limit would take minutes: each of these deaths costs a new child.
    monkeypatch.setattr("profiler_service.measurement.measurer.MAX_DEADLY_POINTS", 2)
    # Not in a row: a sample lies between the two.
    samples = measurer.measure(
        workload(TROUBLE), LINE, batch_of([KILLS_ITSELF, 1, KILLS_ITSELF_TOO, 2])
    )
    assert len(samples) == len(samples.failures) == 2
    with pytest.raises(MeasurementChildDiedError, match=r"2 times .* \(signal 9: SIGKILL"):
        measurer.measure(workload(TROUBLE), LINE, batch_of([KILLS_ITSELF, KILLS_ITSELF_TOO, 2]))


def test_child_that_dies_before_its_visits_is_given_up_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dies as soon as the builder is imported, before any point could be to blame.
    (tmp_path / "deadly.py").write_text("import os; os.kill(os.getpid(), 11)")
    monkeypatch.syspath_prepend(tmp_path)
    kind = replace(builders.kind("deadly", "build"), builder="deadly:build")
    with (
        Measurer(device="cpu", kinds={kind.name: kind}) as doomed,
        pytest.raises(MeasurementChildDiedError, match=r"3 times .* \(signal 11: SIGSEGV\)"),
    ):
        doomed.measure(workload(kind), LINE, batch_of([1, 2, 3, 4]))


def test_a_device_that_cant_be_opened_again_is_lost_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('the driver is gone')")
    with Measurer(device="cpu", kinds={NOTHING.name: NOTHING}) as losing:
        with monkeypatch.context() as without_torch:
            without_torch.syspath_prepend(tmp_path)
            for _ in range(2):
                losing.close()  # as after a death of the child
                with pytest.raises(DeviceLostError, match="the driver is gone") as caught:
                    losing.measure(workload(NOTHING), LINE, batch_of([1]))
                assert caught.value.hint
        assert len(losing.measure(workload(NOTHING), LINE, batch_of([1]))) == 1


@pytest.mark.gpu
def test_a_lost_gpu_is_never_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    with Measurer(device="auto", kinds={NOTHING.name: NOTHING}) as losing:
        assert losing.platform.device == "cuda"
        with monkeypatch.context() as without_gpu:
            without_gpu.setenv("CUDA_VISIBLE_DEVICES", "")
            losing.close()
            with pytest.raises(DeviceLostError, match="no CUDA device"):
                losing.measure(workload(NOTHING), LINE, batch_of([1]))
        assert len(losing.measure(workload(NOTHING), LINE, batch_of([1]))) == 1


def test_builder_that_is_missing_is_an_error_not_a_failed_point(measurer: Measurer) -> None:
    with pytest.raises(MeasurementFailedError, match="build_what_is_not_there"):
        measurer.measure(workload(MISSING), LINE, batch_of([1]))
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1]))) == 1


def test_workload_kind_that_is_not_installed(measurer: Measurer) -> None:
    other = builders.kind("other", "build_nothing")
    with pytest.raises(MeasurementFailedError, match="'other'"):
        measurer.measure(workload(other), LINE, batch_of([1]))


def after_the_visit_began(fifo: Path, do: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        fifo.read_text()  # returns when the visit has written to it
        do()

    os.mkfifo(fifo)
    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_interrupt_between_visits_leaves_the_child_alive(
    measurer: Measurer, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    pid = child_pid(measurer)
    many = [1] + [2] * 2_000_000  # at some 10 µs each, 20 s of visits
    thread = after_the_visit_began(fifo, measurer.interrupt)
    started_s = time.monotonic()
    with pytest.raises(MeasurementInterruptedError):
        measurer.measure(workload(NOTHING, fifo=str(fifo)), LINE, batch_of(many))
    thread.join()
    assert time.monotonic() - started_s < 10
    assert child_pid(measurer) == pid
    # An interrupt ends one measurement, not the next.
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1, 2]))) == 2
    measurer.interrupt()
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1, 2]))) == 2


def test_interrupt_of_a_visit_that_never_ends(measurer: Measurer, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    thread = after_the_visit_began(fifo, measurer.interrupt)
    started_s = time.monotonic()
    with pytest.raises(MeasurementInterruptedError):
        measurer.measure(workload(TROUBLE, fifo=str(fifo)), LINE, batch_of([BLOCKS]))
    thread.join()
    assert time.monotonic() - started_s < 10
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1]))) == 1


def test_ctrl_c_leaves_a_measurer_that_still_measures(measurer: Measurer, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    main = threading.main_thread().ident
    assert main is not None
    thread = after_the_visit_began(fifo, lambda: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        measurer.measure(workload(TROUBLE, fifo=str(fifo)), LINE, batch_of([BLOCKS]))
    thread.join()
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1]))) == 1


def test_child_ignores_the_signals_that_end_its_parent(measurer: Measurer) -> None:
    pid = child_pid(measurer)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1]))) == 1
    assert child_pid(measurer) == pid


def test_child_runs_on_the_measured_processors_with_a_thread_on_each(measurer: Measurer) -> None:
    assert os.sched_getaffinity(child_pid(measurer)) == set(measurer.measured_cpus)
    assert measurer.platform.cpus == len(measurer.measured_cpus)
    assert measurer.platform.threads == len(measurer.measured_cpus)
    if len(os.sched_getaffinity(0)) > 1:
        assert os.sched_getaffinity(0) - set(measurer.measured_cpus)


def test_platform_and_protocol_of_a_cpu(measurer: Measurer) -> None:
    platform = measurer.platform
    assert measurer.protocol.key == "perf_counter-warm-v2"
    assert platform.device == "cpu"
    assert platform.framework.startswith("torch 2.")
    assert platform.memory_bytes > 0 and platform.memory_bytes % 2**30 == 0
    assert dict(platform.libraries)["onednn"]
    flags = dict(platform.flags)
    assert flags["flush_denormal"] in ("true", "false")
    cores = describe_cores(measurer.measured_cpus)
    assert {name: flags[name] for name in cores} == cores
    assert platform.from_json(platform.to_json()) == platform
    assert measurer.dtypes[0] == "float32"


def test_child_on_another_platform_never_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    with Measurer(device="cpu", kinds=KINDS) as measurer:
        registered = measurer.platform
        # What a child is started with decides on its platform: the next one has another.
        monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
        assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1]))) == 1
        measurer.close()
        for _ in range(2):  # not only once: a second call would find no child either
            with pytest.raises(PlatformMismatchError, match="platform changed") as caught:
                measurer.measure(workload(NOTHING), LINE, batch_of([1]))
            assert "start the worker again" in caught.value.hint
        assert measurer.platform == registered
        # As it was at first, it measures again.
        monkeypatch.delenv("MKL_CBWR")
        assert len(measurer.measure(workload(NOTHING), LINE, batch_of([1]))) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("protocol", TimingProtocol(timer="sundial")),
        ("dtypes", ("float32", "float8")),
        ("backends", {}),
    ],
)
def test_child_that_measures_in_another_way_never_measures(name: str, value: object) -> None:
    with Measurer(device="cpu", kinds=KINDS) as measurer:
        measurer.close()
        setattr(measurer, name, value)  # as if this had been found when the measurer was made
        for _ in range(2):
            with pytest.raises(PlatformMismatchError):
                measurer.measure(workload(NOTHING), LINE, batch_of([1]))


def test_cache_that_cant_be_flushed_is_refused() -> None:
    with pytest.raises(MeasurementFailedError, match="on a GPU only") as caught:
        Measurer(device="cpu", cache="flushed")
    assert "LHP_CACHE=warm" in caught.value.hint


def test_close_ends_the_child() -> None:
    measurer = Measurer(device="cpu", kinds=KINDS)
    pid = child_pid(measurer)
    measurer.close()
    measurer.close()  # twice is once
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("device", "message", "hint"),
    [("cuda", "finds no CUDA device", "nvidia-smi"), ("abacus", "no device 'abacus'", "auto")],
)
def test_device_that_is_not_there_is_refused(device: str, message: str, hint: str) -> None:
    import torch

    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(MeasurementFailedError, match=message) as caught:
        Measurer(device=device)
    assert hint in caught.value.hint


def test_without_torch_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MeasurementFailedError, match=r"needs torch.*No module named 'torch'"
    ) as caught:
        Measurer()
    assert "pip install 'lhp-profiler[measure]'" in caught.value.hint


PARENT = """
import sys, threading
from profiler_service.measurement import doctor
from profiler_service.measurement.measurer import Measurer

measurer = Measurer(device="cpu")
assert "torch" not in sys.modules
print(measurer._child.pid, flush=True)
threading.Event().wait()
"""


def test_parent_never_imports_torch_and_its_child_dies_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    ended, _, _ = select.select([child], [], [], 30)
    os.close(child)
    assert ended  # a process's descriptor becomes readable when it ends


@pytest.mark.gpu
def test_linear_on_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    grid = Grid(axes=(GridAxis(first=1024, count=2), GridAxis(first=512, count=2)))
    visits = np.tile(np.arange(4, dtype=np.int32), 10)
    with Measurer(device="cuda") as measurer:
        assert measurer.protocol.timer == "cuda_graph"
        flags = dict(measurer.platform.flags)
        assert {"cudnn_tf32", "float32_matmul_precision", "compute_capability"} <= flags.keys()
        for dtype in measurer.dtypes:
            samples = measurer.measure(
                LINEAR.describe({"dtype": dtype}),
                grid,
                Batch(point=visits, round=visits, calls=20, warmup_calls=2),
            )
            assert not samples.failures
            np.testing.assert_array_equal(samples.point, visits)
            assert (samples.latency_s < 1e-3).all()


@pytest.mark.gpu
def test_products_take_longer_on_cuda_with_a_flushed_cache() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    # 4 MiB of weights: within the L2 cache of any recent GPU.
    grid = Grid(axes=(GridAxis(first=1024, count=1),))
    visits = np.zeros(20, dtype=np.int32)
    median_s = {}
    for cache in ("warm", "flushed"):
        with Measurer(device="cuda", cache=cache) as measurer:
            assert measurer.protocol.key == f"cuda_graph-{cache}-v2"
            samples = measurer.measure(
                MATMUL.describe(), grid, Batch(point=visits, round=visits, calls=5)
            )
            assert not samples.failures
            median_s[cache] = np.median(samples.latency_s)
    assert median_s["warm"] < median_s["flushed"]


@pytest.mark.gpu
def test_point_that_exceeds_a_gpu_s_memory_is_a_failure_and_the_others_are_measured() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    # The second point's weights: 2³⁸ elements, a tebibyte.
    grid = Grid(axes=(GridAxis(first=64, count=2, step=2**19 - 64),))
    visits = np.array([0, 1, 0], dtype=np.int32)
    with Measurer(device="cuda") as measurer:
        pid = child_pid(measurer)
        samples = measurer.measure(
            MATMUL.describe(), grid, Batch(point=visits, round=np.arange(3, dtype=np.int32))
        )
        np.testing.assert_array_equal(samples.point, [0, 0])
        assert "out of memory" in samples.failures[1]
        assert child_pid(measurer) == pid


@pytest.mark.gpu
def test_a_call_that_cant_be_captured_is_a_failure_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    with Measurer(device="cuda", kinds=KINDS) as measurer:
        pid = child_pid(measurer)
        samples = measurer.measure(workload(TROUBLE), LINE, batch_of([2, WAITS_FOR_THE_GPU, 3]))
        np.testing.assert_array_equal(samples.point + 1, [2, 3])
        assert "captur" in samples.failures[WAITS_FOR_THE_GPU - 1]
        assert child_pid(measurer) != pid  # torch's allocator may not have survived
        # Where that ends the measuring, the error says why, and not only that the child ended.
        monkeypatch.setattr("profiler_service.measurement.measurer.MAX_DEADLY_POINTS", 1)
        with pytest.raises(MeasurementChildDiedError, match="captur"):
            measurer.measure(workload(TROUBLE), LINE, batch_of([WAITS_FOR_THE_GPU, 2]))
