"""Whole networks as they are measured: built on views, and by a real measuring child."""

from __future__ import annotations

import functools
import gc
import random
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from profiler_service.errors import UnsupportedOnHostError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import (
    DEEPSPEECH2,
    GRU,
    HLSTM,
    HLSTM_KERNELS,
    HLSTM_LM,
    HLSTM_LM_KERNELS,
    LSTM,
    LSTM_LM,
)
from profiler_service.kinds.kernels import ALL_KERNELS, Kernel
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.networks import place
from profiler_service.measurement.operations import Call, Operands, load_builder
from profiler_service.networks import BoundHLSTM, DeepSpeech2
from profiler_service.networks.products import has_backend
from profiler_service.plan.base import Batch
from profiler_service.workload import DTYPE_SIZES_BYTES, Dims, ParamValue, WorkloadKind

SMALL: list[tuple[WorkloadKind, Dims, dict[str, ParamValue], tuple[int, ...]]] = [
    # kind, dims, parameters, shape of what the call returns (of the first of several)
    (LSTM, (6, 5), {"batch": 2, "steps": 3}, (3, 2, 6)),
    (LSTM, (6, 5), {"batch": 2, "steps": 3, "layers": 2, "direction": "bi"}, (3, 2, 12)),
    (GRU, (6, 5), {"batch": 2, "steps": 3}, (3, 2, 6)),
    (GRU, (6, 5), {"batch": 2, "steps": 3, "layers": 2, "direction": "bi"}, (3, 2, 12)),
    (HLSTM, (7, 6), {"batch": 2, "steps": 3, "input_size": 5}, (3, 2, 6)),
    (
        HLSTM_LM,
        (7, 6),
        {"batch": 2, "steps": 3, "input_size": 5, "vocabulary": 11},
        (3, 2, 11),
    ),
    (LSTM_LM, (6, 5), {"batch": 2, "steps": 3, "vocabulary": 11}, (3, 2, 11)),
    (DEEPSPEECH2, (6,), {"batch": 2, "frames": 33}, (2, 2, 29)),
    (DEEPSPEECH2, (6,), {"batch": 2, "frames": 33, "cell": "lstm", "layers": 1}, (2, 2, 29)),
]
BACKENDS: list[dict[str, ParamValue]] = [
    {"backend": "packed"},
    {"backend": "csr"},
    {"backend": "csr", "sparsity": "0.75"},
]
OTHER_BACKENDS = [
    (kind, dims, {**params, **given}, shape)
    for kind, dims, params, shape in SMALL
    if kind not in (LSTM, GRU, LSTM_LM) and "cell" not in params
    for given in BACKENDS
]
ALL = SMALL + OTHER_BACKENDS
NAMES = [f"{kind.name}-{'-'.join(map(str, params.values()))}" for kind, _, params, _ in ALL]


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer(device="cpu") as measurer:
        yield measurer


@pytest.mark.parametrize(("kind", "dims", "params", "shape"), ALL, ids=NAMES)
def test_every_network_is_measured(
    measurer: Measurer,
    kind: WorkloadKind,
    dims: Dims,
    params: dict[str, ParamValue],
    shape: tuple[int, ...],
) -> None:
    grid = Grid(axes=tuple(GridAxis(first=dim, count=2) for dim in dims))
    point = np.tile(np.arange(grid.size, dtype=np.int32), 2)
    batch = Batch(point=point, round=point // grid.size, calls=1, warmup_calls=1)
    samples = measurer.measure(kind.describe(params), grid, batch)
    assert not samples.failures
    assert len(samples) == len(point)
    assert (samples.latency_s > 0).all()


@pytest.mark.parametrize(
    ("kind", "dims", "params", "shape", "dtype"),
    [
        (*each, dtype)
        for each in ALL
        for dtype in DTYPE_SIZES_BYTES
        if dtype == "float32" or each[2].get("backend") != "csr"  # as MKL has them
    ],
)
def test_results_have_their_shape_and_are_finite(
    kind: WorkloadKind,
    dims: Dims,
    params: dict[str, ParamValue],
    shape: tuple[int, ...],
    dtype: str,
) -> None:
    backend = str(params.get("backend", "dense"))
    if not has_backend(backend, "cpu", getattr(torch, dtype)):
        pytest.skip(f"this processor has no {backend} product of {dtype}")
    result = build(kind, dims, {**params, "dtype": dtype}, new_operands(dtype))()
    first = result[0] if isinstance(result, tuple) else result
    assert isinstance(first, torch.Tensor)
    assert first.shape == shape
    assert first.dtype == getattr(torch, dtype)
    assert first.isfinite().all()


def test_a_backend_that_the_device_lacks_is_refused(measurer: Measurer) -> None:
    # MKL has no sparse product of bfloat16, so torch has none on a CPU.
    grid = Grid(axes=(GridAxis(first=8, count=1), GridAxis(first=8, count=1)))
    batch = Batch(point=np.zeros(1, dtype=np.int32), round=np.zeros(1, dtype=np.int32))
    lacking = HLSTM.describe({"backend": "csr", "dtype": "bfloat16"})
    with pytest.raises(UnsupportedOnHostError, match="no csr hlstm of bfloat16") as caught:
        measurer.measure(lacking, grid, batch)
    # oneDNN packs bfloat16 only if the processor computes in it.
    others = [name for name in ("dense", "packed") if "bfloat16" in measurer.backends[name]]
    assert f"choose backend from: {', '.join(others)};" in caught.value.hint


def test_a_sparser_model_takes_less_time(measurer: Measurer) -> None:
    grid = Grid(axes=(GridAxis(first=512, count=1), GridAxis(first=256, count=1)))
    visits = np.zeros(9, dtype=np.int32)
    given = {"backend": "csr", "steps": 4, "input_size": 256, "vocabulary": 10}
    full, sparse = (
        np.median(
            measurer.measure(
                HLSTM_LM.describe({**given, "sparsity": sparsity}),
                grid,
                Batch(point=visits, round=visits),
            ).latency_s
        )
        for sparsity in ("0.36", "0.98")
    )
    # 32 times fewer nonzeros.
    assert sparse * 2 < full


def test_sparse_layers_have_exactly_the_nonzeros_asked_for() -> None:
    given: dict[str, ParamValue] = {"batch": 2, "steps": 3, "input_size": 5}
    call = build(
        HLSTM, (7, 6), {**given, "backend": "csr", "sparsity": "0.75"}, new_operands("float32")
    )
    with Spy() as spy:
        call()
    # Once a sequence: 28 rows of 5. At each of three steps: 28 rows of 6, and on a diagonal four
    # times 6 rows of 7. A quarter of 140, 168 and 168 remains.
    assert spy.seen == [((28, 5), 35)] + 3 * [((28, 6), 42), ((24, 28), 42)]


@pytest.mark.parametrize("given", BACKENDS, ids=lambda each: "-".join(each.values()))
def test_a_visit_leaves_nothing_behind(given: dict[str, ParamValue]) -> None:
    # What a backend makes of the weights is freed with the call, by counting references alone:
    # nothing else is collected while points are measured.
    params = dict(DEEPSPEECH2.describe({"batch": 1, "frames": 31, **given}).params)
    operands = new_operands("float32")
    gc.disable()
    try:
        with torch.inference_mode():
            call = load_builder(DEEPSPEECH2.builder)(operands, (6,), params)
            call()
        assert isinstance(call, functools.partial)
        assert isinstance(call.func, torch.nn.Module)
        layers = [each for each in call.func.modules() if isinstance(each, BoundHLSTM)]
        assert len(layers) == 6  # three layers of two directions
        traces = [weakref.ref(each.run) for each in layers]
        del call, layers
        assert [trace() for trace in traces] == [None] * 6
    finally:
        gc.enable()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_results_stay_finite_at_larger_dims(dtype: str) -> None:
    # Sums grow with the root of the width: these are the largest that the paper has.
    operands = new_operands(dtype)
    given: dict[str, ParamValue] = {"dtype": dtype, "batch": 1, "steps": 3, "vocabulary": 10}
    result = build(HLSTM_LM, (1500, 400), given, operands)()
    assert isinstance(result, tuple)
    scores_tbv, (h_bs, c_bs) = result
    assert scores_tbv.isfinite().all() and c_bs.isfinite().all()
    assert 0.05 < h_bs.abs().float().mean() <= 1


@pytest.mark.parametrize(
    ("kind", "dims", "params", "shape"),
    [each for each in SMALL if each[0] not in (LSTM, GRU, LSTM_LM) and "cell" not in each[2]],
)
def test_flops_are_those_that_torch_counts(
    kind: WorkloadKind, dims: Dims, params: dict[str, ParamValue], shape: tuple[int, ...]
) -> None:
    # Not those of torch.nn.LSTM and GRU: torch doesn't look into its kernels.
    call = build(kind, dims, params, new_operands("float32"))
    with FlopCounterMode(display=False) as counter:
        call()
    assert counter.get_total_flops() == kind.flops(dims, dict(kind.describe(params).params))


def test_weights_are_views_at_another_place_each_time() -> None:
    operands = new_operands("float32")
    operands.weight(1_000_000)  # large enough for what follows
    places = set()
    for _ in range(8):
        operands.start_visit()
        with torch.inference_mode():
            module = place(operands, lambda: DeepSpeech2(5, cell="lstm", layers=2))
        memory = operands.weights.memory
        first, last = memory.data_ptr(), memory.data_ptr() + 4 * len(memory)
        for name, parameter in module.named_parameters():
            assert first <= parameter.data_ptr() < last, name
            assert not parameter.requires_grad
        for name, buffer in module.named_buffers():
            assert buffer.device.type == "cpu" and (buffer == 1).all(), name
        assert not module.training
        places.add(module.head.weight.data_ptr() - first)
    assert len(places) > 1


def test_growing_arenas_leave_earlier_weights_valid() -> None:
    # The first parameters are views into a smaller arena than the last ones.
    operands = new_operands("float32")
    with torch.inference_mode():
        module = place(operands, lambda: torch.nn.LSTM(300, 200, num_layers=2))
        expected, _ = module(operands.input(3, 2, 300))
    assert expected.isfinite().all()


@pytest.mark.parametrize(
    ("kernels", "shape"), [(HLSTM_KERNELS, (3, 2, 6)), (HLSTM_LM_KERNELS, (3, 2, 11))]
)
def test_kernels_are_those_of_the_network(kernels: WorkloadKind, shape: tuple[int, ...]) -> None:
    params: dict[str, ParamValue] = {
        "gate_width": 7,
        "state_width": 6,
        "batch": 2,
        "steps": 3,
        "input_size": 5,
        **({"vocabulary": 11} if kernels is HLSTM_LM_KERNELS else {}),
    }
    for kernel, is_bound in (
        (Kernel("dense"), False),
        (Kernel("packed"), True),
        (Kernel("csr", 90), True),
    ):
        operands = new_operands("float32")
        described = dict(kernels.describe(params).params)
        with torch.inference_mode():
            call = load_builder(kernels.builder)(operands, kernel.dims, described)
            results = call()
        assert isinstance(results, tuple)
        assert tuple(results[0].shape) == shape
        assert isinstance(call, functools.partial) and isinstance(call.func, torch.nn.Module)
        assert any(isinstance(each, BoundHLSTM) for each in call.func.modules()) == is_bound


def test_a_network_has_no_compiled_kernel(measurer: Measurer) -> None:
    workload = HLSTM_KERNELS.describe({"gate_width": 7, "state_width": 6, "batch": 2, "steps": 3})
    batch = Batch(point=np.arange(3, dtype=np.int32), round=np.zeros(3, dtype=np.int32))
    samples = measurer.measure(workload, ALL_KERNELS, batch)
    assert samples.point.tolist() == [0, 1]
    assert list(samples.failures) == [2]
    assert "compiled" in samples.failures[2]


class Spy(TorchFunctionMode):
    """Lists the sparse weights that products are called with: their shape and nonzeros."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], int]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func is torch.addmm:
            weight = args[1]
            self.seen.append((tuple(weight.shape), len(weight.values())))
        return func(*args, **(kwargs or {}))


def new_operands(dtype: str) -> Operands:
    return Operands(dtype, "cpu", random.Random(0))


def build(
    kind: WorkloadKind, dims: Dims, params: dict[str, ParamValue], operands: Operands
) -> Call:
    with torch.inference_mode():
        call = load_builder(kind.builder)(operands, dims, dict(kind.describe(params).params))
    return torch.inference_mode()(call)
