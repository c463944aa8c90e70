"""Whole networks as they are measured: built on views, and by a real measuring child."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import DEEPSPEECH2, GRU, HLSTM, HLSTM_LM, LSTM
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.networks import place
from profiler_service.measurement.operations import Call, Operands, load_builder
from profiler_service.networks import DeepSpeech2
from profiler_service.plan import Batch
from profiler_service.workload import Dims, ParamValue, WorkloadKind

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
    (DEEPSPEECH2, (6,), {"batch": 2, "frames": 33}, (2, 2, 29)),
    (DEEPSPEECH2, (6,), {"batch": 2, "frames": 33, "cell": "lstm", "layers": 1}, (2, 2, 29)),
]
NAMES = [f"{kind.name}-{'-'.join(map(str, params.values()))}" for kind, _, params, _ in SMALL]


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer(device="cpu") as measurer:
        yield measurer


@pytest.mark.parametrize(("kind", "dims", "params", "shape"), SMALL, ids=NAMES)
def test_every_network_is_measured(
    measurer: Measurer,
    kind: WorkloadKind,
    dims: Dims,
    params: dict[str, ParamValue],
    shape: tuple[int, ...],
) -> None:
    grid = Grid(axes=tuple(GridAxis(start=dim, count=2) for dim in dims))
    point = np.tile(np.arange(grid.size, dtype=np.int32), 2)
    batch = Batch(point=point, round=point // grid.size, calls=1, warmup_calls=1)
    samples = measurer.measure(kind.describe(params), grid, batch)
    assert not samples.failures
    assert len(samples) == len(point)
    assert (samples.latency_s > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("kind", "dims", "params", "shape"), SMALL, ids=NAMES)
def test_results_have_their_shape_and_are_finite(
    kind: WorkloadKind,
    dims: Dims,
    params: dict[str, ParamValue],
    shape: tuple[int, ...],
    dtype: str,
) -> None:
    result = build(kind, dims, {**params, "dtype": dtype}, new_operands(dtype))()
    first = result[0] if isinstance(result, tuple) else result
    assert isinstance(first, torch.Tensor)
    assert first.shape == shape
    assert first.dtype == getattr(torch, dtype)
    assert first.isfinite().all()


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
    [each for each in SMALL if each[0] not in (LSTM, GRU) and "cell" not in each[2]],
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


def new_operands(dtype: str) -> Operands:
    return Operands(dtype, "cpu", random.Random(0))


def build(
    kind: WorkloadKind, dims: Dims, params: dict[str, ParamValue], operands: Operands
) -> Call:
    with torch.inference_mode():
        call = load_builder(kind.builder)(operands, dims, dict(kind.describe(params).params))
    return torch.inference_mode()(call)
