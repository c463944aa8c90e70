"""A real child process: no part of it is replaced, but for workloads that misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profiler_service.analysis.samples import TimingProtocol
from profiler_service.errors import (
    MeasurementFailedError,
    PlatformMismatchError,
    UnsupportedOnHostError,
)
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.kinds.products import BACKEND
from profiler_service.measurement.child_process import ChildProcess
from profiler_service.measurement.exchange import CAPACITY, Order
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.topology import describe_cores
from profiler_service.plan.base import Batch
from profiler_service.workload import WorkloadKind
from tests.measurement.batches import LINE, batch_of, child_pid
from tests.measurement.builders import KINDS, NOTHING, TROUBLE, workload


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
    assert samples.clock_hz is None  # a CPU doesn't show it
    # What each lost is known, and part of it.
    assert samples.lost_s is not None
    assert ((samples.lost_s >= 0) & (samples.lost_s <= samples.latency_s * (1 + 1e-6))).all()


def test_a_larger_product_takes_longer(measurer: Measurer) -> None:
    # 64 times the multiplications: dims reach the operands, and the unit is seconds per call.
    grid = Grid(axes=(GridAxis(first=64, count=2, step=448),))
    visits = np.tile(np.array([0, 1], dtype=np.int32), 20)
    batch = Batch(point=visits, round=visits, calls=2)
    samples = measurer.measure(MATMUL.describe(), grid, batch)
    small = np.median(samples.latency_s[samples.point == 0])
    large = np.median(samples.latency_s[samples.point == 1])
    assert 1e-7 < small * 3 < large < 1


def test_a_larger_batch_takes_longer_where_the_batch_varies(measurer: Measurer) -> None:
    # 64 times the rows: what varies reaches the builder as the parameter that it is.
    workload = MATMUL.describe({"vary": "batch", "size": 512})
    grid = Grid(axes=(GridAxis(first=8, count=2, step=504),))
    visits = np.tile(np.array([0, 1], dtype=np.int32), 20)
    batch = Batch(point=visits, round=visits, calls=2)
    samples = measurer.measure(workload, grid, batch)
    small = np.median(samples.latency_s[samples.point == 0])
    large = np.median(samples.latency_s[samples.point == 1])
    assert 1e-7 < small * 3 < large < 1


def test_what_others_use_of_the_measured_processors_is_told(measurer: Measurer) -> None:
    # Another process wants all of one measured processor, and gets about half of it.
    cpu = measurer.measured_cpus[-1]
    code = f"import os; os.sched_setaffinity(0, [{cpu}]); print(flush=True)\nwhile True: pass"
    visits = np.zeros(1000, dtype=np.int32)
    grid = Grid(axes=(GridAxis(first=1197, count=1), GridAxis(first=317, count=1)))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            samples = measurer.measure(LINEAR.describe(), grid, Batch(point=visits, round=visits))
        finally:
            other.kill()
    assert samples.use.share is not None
    assert samples.use.share > 0.2 / len(measurer.measured_cpus)
    assert measurer.read_gpu_use() is None  # a CPU is never waited for


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
    # Large enough that what a call costs beside the product hardly counts.
    grid = Grid(axes=(GridAxis(first=1024, count=1),))
    visits = np.zeros(5, dtype=np.int32)
    latency_s: dict[str, list[float]] = {"0.36": [], "0.98": []}  # 32 times fewer nonzeros.
    for _ in range(4):  # In turn, so that both see the same states of the machine.
        for sparsity, measured in latency_s.items():
            workload = MATMUL.describe({"backend": "csr", "sparsity": sparsity})
            samples = measurer.measure(workload, grid, Batch(point=visits, round=visits))
            measured.extend(samples.latency_s)
    assert min(latency_s["0.98"]) * 3 < min(latency_s["0.36"])


def test_backend_that_the_device_lacks_is_refused(measurer: Measurer) -> None:
    # MKL has no sparse product of bfloat16, so torch has none on a CPU.
    lacking = MATMUL.describe({"backend": "csr", "dtype": "bfloat16"})
    with pytest.raises(UnsupportedOnHostError, match="no csr matmul of bfloat16") as caught:
        measurer.measure(lacking, LINE, batch_of([1]))
    # Which others have one differs: oneDNN packs bfloat16 only if the processor computes in it.
    others = [name for name in BACKEND.choices if "bfloat16" in measurer.backends[name]]
    assert "dense" in others and "csr" not in others
    assert f"choose backend from: {', '.join(others)};" in caught.value.hint


def test_quantised_products_are_measured_or_refused(measurer: Measurer) -> None:
    grid = Grid(axes=(GridAxis(first=17, count=1), GridAxis(first=64, count=1)))
    for backend in ("int8_dynamic", "int8_weight_only"):
        for dtype in ("float32", "bfloat16"):
            quantised = LINEAR.describe({"backend": backend, "dtype": dtype, "bias": "yes"})
            if dtype in measurer.backends[backend]:
                samples = measurer.measure(quantised, grid, batch_of([1, 1]))
                assert len(samples) == 2 and not samples.failures
            else:
                with pytest.raises(UnsupportedOnHostError, match=f"no {backend} linear of {dtype}"):
                    measurer.measure(quantised, grid, batch_of([1]))
    # torch has no dynamically quantised product of bfloat16 anywhere.
    assert measurer.backends["int8_dynamic"] == ("float32",)


@pytest.mark.parametrize(("kind", "is_captured"), [(NOTHING, True), (MATMUL, False)])
def test_calls_of_few_launches_are_not_captured(
    kind: WorkloadKind, is_captured: bool, measurer: Measurer, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[Order] = []
    send = ChildProcess.order

    def spy(child: ChildProcess, order: Order) -> None:
        orders.append(order)
        send(child, order)

    monkeypatch.setattr(ChildProcess, "order", spy)
    measurer.measure(kind.describe() if kind is MATMUL else workload(kind), LINE, batch_of([1]))
    assert [order.is_captured for order in orders] == [is_captured]


def test_batch_without_visits(measurer: Measurer) -> None:
    assert len(measurer.measure(MATMUL.describe(), LINE, batch_of([]))) == 0


def test_batch_larger_than_the_block(measurer: Measurer) -> None:
    dims = [1 + i % 7 for i in range(CAPACITY + 5)]
    samples = measurer.measure(workload(NOTHING), LINE, batch_of(dims))
    np.testing.assert_array_equal(samples.point, np.array(dims) - 1)
    assert (np.diff(samples.time_s) >= 0).all()


def test_child_runs_on_the_measured_processors_with_a_thread_on_each(measurer: Measurer) -> None:
    assert os.sched_getaffinity(child_pid(measurer)) == set(measurer.measured_cpus)
    assert measurer.platform.cpus == len(measurer.measured_cpus)
    assert measurer.platform.threads == len(measurer.measured_cpus)
    if len(os.sched_getaffinity(0)) > 1:
        assert os.sched_getaffinity(0) - set(measurer.measured_cpus)


def test_platform_and_protocol_of_a_cpu(measurer: Measurer) -> None:
    platform = measurer.platform
    assert measurer.protocol.key == "perf_counter-warm-v3"
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
        # As if this had been found when the measurer was made.
        measurer._children.ready = replace(measurer._children.ready, **{name: value})  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(PlatformMismatchError):
                measurer.measure(workload(NOTHING), LINE, batch_of([1]))


def test_cache_that_cant_be_flushed_is_refused() -> None:
    with pytest.raises(MeasurementFailedError, match="on a GPU only") as caught:
        Measurer(device="cpu", cache="flushed")
    assert "LHP_CACHE=warm" in caught.value.hint


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


@pytest.mark.gpu
def test_linear_on_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    grid = Grid(axes=(GridAxis(first=1024, count=2), GridAxis(first=512, count=2)))
    visits = np.tile(np.arange(4, dtype=np.int32), 10)
    with Measurer(device="cuda") as measurer:
        assert measurer.protocol.timer == "cuda_slope"
        flags = dict(measurer.platform.flags)
        assert {"cudnn_tf32", "float32_matmul_precision", "compute_capability"} <= flags.keys()
        assert int(flags["multiprocessors"]) > 0
        for dtype in measurer.dtypes:
            samples = measurer.measure(
                LINEAR.describe({"dtype": dtype}),
                grid,
                Batch(point=visits, round=visits, calls=20, warmup_calls=2),
            )
            assert not samples.failures
            np.testing.assert_array_equal(samples.point, visits)
            assert (samples.latency_s < 1e-3).all()
            assert samples.clock_hz is not None
            assert ((samples.clock_hz > 1e8) & (samples.clock_hz < 3e9)).all()


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
            assert measurer.protocol.key == f"cuda_slope-{cache}-v3"
            samples = measurer.measure(
                MATMUL.describe(), grid, Batch(point=visits, round=visits, calls=5)
            )
            assert not samples.failures
            median_s[cache] = np.median(samples.latency_s)
    assert median_s["warm"] < median_s["flushed"]
