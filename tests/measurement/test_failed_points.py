"""Points, children and devices that fail.

The child process is real: no part of it is replaced, but for workloads that misbehave.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profiler_service.errors import (
    DeviceLostError,
    MeasurementChildDiedError,
    MeasurementFailedError,
)
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import MATMUL
from profiler_service.measurement.measurer import Measurer
from profiler_service.plan.base import Batch
from tests.measurement import builders
from tests.measurement.batches import LINE, batch_of, child_pid
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
        # If that ends the measuring, the error says why, and not only that the child ended.
        monkeypatch.setattr("profiler_service.measurement.measurer.MAX_DEADLY_POINTS", 1)
        with pytest.raises(MeasurementChildDiedError, match="captur"):
            measurer.measure(workload(TROUBLE), LINE, batch_of([WAITS_FOR_THE_GPU, 2]))
