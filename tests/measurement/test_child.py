"""What the child does with orders, in this process, on a device that only counts."""

from __future__ import annotations

import gc
import itertools
import os
import weakref
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch

from profiler_service.analysis.samples import Platform, TimingProtocol
from profiler_service.measurement.child import OrderRunner, describe, find_memory_error
from profiler_service.measurement.copies import Copies
from profiler_service.measurement.exchange import Block, Finished, Order, PointFailed
from profiler_service.measurement.operations import Call, Operands
from profiler_service.measurement.timer import Sample
from profiler_service.workload import Dims, ParamValue

RUNS_OUT = 7
RAISES = 8
ARENAS: list[weakref.ref[torch.Tensor]] = []
"""The memory that operands were taken from at each visit."""


class FakeDevice:
    """Calls, and takes a second for it; what `release_memory` finds still alive is counted.

    With a flushed cache, it makes two copies of each call.
    """

    name = "cpu"
    gpu_uuid: str | None = None

    def __init__(self, *, usable: bool = True, cache: str = "warm") -> None:
        self._usable = usable
        self.protocol = TimingProtocol(timer="fake", cache=cache)
        self.alive_at_release: list[int] = []
        self.captured: list[bool] = []
        self.warmups: list[int] = []
        self.copied: list[tuple[Copies | None, list[object]]] = []
        """Of each visit, how to copy, and what the call and its copies returned, if it copied."""

    def platform(self) -> Platform:
        raise NotImplementedError

    def sample(
        self,
        call: Call,
        *,
        calls: int,
        warmup_calls: int,
        check_stop: Callable[[], None] = lambda: None,
        copies: Copies | None = None,
        is_captured: bool = False,
    ) -> Sample:
        self.captured.append(is_captured)
        self.warmups.append(warmup_calls)
        for _ in range(warmup_calls):
            call()
            check_stop()
        result = call()
        if copies is None:
            self.copied.append((None, []))
        else:
            others = [copies.make(), copies.make()]
            self.copied.append((copies, [result, *(each() for each in others)]))
        return Sample(started_s=0.0, latency_s=1.0, num_discarded=0, unstable=False)

    def is_usable(self) -> bool:
        return self._usable

    def release_memory(self) -> None:
        self.alive_at_release.append(sum(arena() is not None for arena in ARENAS))


def build(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    x = operands.input(dims[0])
    ARENAS.append(weakref.ref(operands.inputs.memory))

    def call() -> torch.Tensor:
        if dims[0] == RUNS_OUT:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if dims[0] == RAISES:
            raise ValueError("odd")
        return x

    return call


@pytest.fixture(autouse=True)
def _no_arenas() -> None:
    ARENAS.clear()


def build_kept(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    x = operands.input(dims[0])
    kept = operands.keep(dims, lambda: x.clone, size_bytes=0)
    return lambda: kept()


def visit(
    device: FakeDevice,
    sizes: Sequence[int],
    *,
    builder: str = "build",
    is_captured: bool = False,
    warmup_calls: int = 0,
    warms_once: bool = False,
) -> tuple[list[float], list[object]]:
    """The latencies that visits of these sizes leave in the block, and what was sent."""
    fd = Block.create_fd()
    block = Block(fd)
    os.close(fd)
    sent: list[object] = []
    points = np.array(sizes, dtype=np.int32)
    order = Order(
        builder=f"tests.measurement.test_child:{builder}",
        axes=("size",),
        params={},
        dims=points[:, None],
        point=points,
        calls=1,
        warmup_calls=warmup_calls,
        warms_once=warms_once,
        is_captured=is_captured,
    )
    OrderRunner(device, block, sent.append).carry_out(order)
    return block.latency_s[: len(sizes)].tolist(), sent


def test_point_that_runs_out_of_memory_fails_and_the_memory_of_all_is_given_back() -> None:
    device = FakeDevice()
    latency_s, sent = visit(device, [1, RUNS_OUT, 2, RUNS_OUT])
    assert latency_s == [1.0, 0.0, 1.0, 0.0]
    assert sent == [
        PointFailed(
            point=RUNS_OUT,
            reason="OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        ),
        Finished(),
    ]
    # Once, since the point isn't tried again; and nothing held the arena any more.
    assert device.alive_at_release == [0]
    assert len(ARENAS) == 3


def test_point_that_fails_otherwise_leaves_the_memory_as_it_is() -> None:
    device = FakeDevice()
    latency_s, sent = visit(device, [1, RAISES, 2])
    assert latency_s == [1.0, 0.0, 1.0]
    assert sent == [PointFailed(point=RAISES, reason="ValueError: odd"), Finished()]
    assert device.alive_at_release == []


def test_child_ends_where_its_device_is_of_no_more_use() -> None:
    with pytest.raises(SystemExit):
        visit(FakeDevice(usable=False), [1, RAISES, 2])
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("warms_once", "warmups"), [(True, [2, 2, 0, 0, 2]), (False, [2, 2, 2, 2, 2])]
)
def test_what_was_called_once_is_warm_if_that_is_asked(
    warms_once: bool, warmups: list[int]
) -> None:
    device = FakeDevice()
    visit(device, [1, 2, 1, 2, 3], warmup_calls=2, warms_once=warms_once)
    assert device.warmups == warmups


def test_a_point_that_failed_is_not_warm() -> None:
    """Each `visit` is a process of its own; here, a point fails in the only one."""
    device = FakeDevice()
    visit(device, [1, RAISES, 1], warmup_calls=1, warms_once=True)
    assert device.warmups == [1, 1, 0]


def test_copies_of_a_call_have_operands_of_their_own() -> None:
    device = FakeDevice(cache="flushed")
    visit(device, [1000, 1000])
    for copies, made in device.copied:
        assert copies is not None
        # Of the first call alone: 1,000 numbers of 4 bytes, and at most 128 places of 64 before.
        assert 4000 <= copies.size_bytes <= 4000 + 128 * 64
        tensors = [each for each in made if isinstance(each, torch.Tensor)]
        assert len(tensors) == 3
        starts = sorted(each.data_ptr() for each in tensors)
        assert all(b - a >= 4000 for a, b in itertools.pairwise(starts))


def test_with_a_warm_cache_nothing_is_copied() -> None:
    device = FakeDevice()
    visit(device, [1000])
    assert [copies for copies, _ in device.copied] == [None]


def test_a_call_that_keeps_its_weights_has_no_copies_with_others() -> None:
    # Its second copy would find its weights in the cache.
    latency_s, sent = visit(FakeDevice(cache="flushed"), [5], builder="build_kept")
    assert latency_s == [0.0]
    failed = next(each for each in sent if isinstance(each, PointFailed))
    assert "keeps its weights from visit to visit" in failed.reason
    # With a warm cache it is measured; and a visit of another builder is not refused after it.
    assert visit(FakeDevice(), [5], builder="build_kept")[0] == [1.0]


@pytest.mark.parametrize("is_captured", [False, True])
def test_the_device_is_told_whether_to_capture(is_captured: bool) -> None:
    device = FakeDevice()
    visit(device, [1, 2], is_captured=is_captured)
    assert device.captured == [is_captured] * 2


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_errors_by_which_memory_runs_out(error: Exception) -> None:
    assert find_memory_error(error) is error


def test_the_error_of_torch_s_cpu_allocator_is_one() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 58)
    assert find_memory_error(caught.value) is caught.value


def test_other_errors_are_none() -> None:
    assert find_memory_error(RuntimeError("CUDA error: an illegal memory access")) is None


def test_a_failed_capture_names_the_error_that_broke_it() -> None:
    # Leaving a graph's capture raises for itself when its body has raised.
    with pytest.raises(RuntimeError, match="invalidated") as caught:  # noqa: PT012
        try:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        finally:
            raise RuntimeError("operation failed due to a previous error: capture invalidated")
    assert describe(caught.value) == "OutOfMemoryError: CUDA out of memory."
