"""Today's layers as they are measured: built on views, and by a real measuring child."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import (
    ATTENTION,
    CONV2D,
    DEPTHWISE_CONV2D,
    EMBEDDING,
    LM_HEAD,
    MLP,
    TRANSFORMER_BLOCK,
    get_workload_kind,
)
from profiler_service.kinds.backends import find_missing_backend
from profiler_service.kinds.kernels import Kernel, find_kernels
from profiler_service.measurement.backends import probe_backends
from profiler_service.measurement.measurer import Measurer
from profiler_service.networks.transformer import TransformerBlock
from profiler_service.plan.base import Batch
from profiler_service.workload import Dims, ParamValue, WorkloadKind
from tests.measurement.test_networks import build, new_operands

IMAGE: dict[str, ParamValue] = {"batch": 2, "height": 5, "width": 4, "stride": 2}
TOKENS: dict[str, ParamValue] = {"batch": 2, "sequence": 3}
SMALL: list[tuple[WorkloadKind, Dims, dict[str, ParamValue], tuple[int, ...]]] = [
    # kind, dims, parameters, shape of what the call returns
    (CONV2D, (7, 3), IMAGE, (2, 7, 3, 2)),
    (CONV2D, (6, 4), {**IMAGE, "groups": 2, "layout": "channels_last"}, (2, 6, 3, 2)),
    (CONV2D, (7, 3), {**IMAGE, "kernel": 1, "padding": 0}, (2, 7, 3, 2)),
    (DEPTHWISE_CONV2D, (7,), IMAGE, (2, 7, 3, 2)),
    (DEPTHWISE_CONV2D, (7,), {**IMAGE, "layout": "channels_last"}, (2, 7, 3, 2)),
    (ATTENTION, (4, 5), TOKENS, (2, 4, 3, 5)),
    (ATTENTION, (4, 5), {**TOKENS, "mask": "none"}, (2, 4, 3, 5)),
    (ATTENTION, (4, 5), {**TOKENS, "mask": "dense"}, (2, 4, 3, 5)),
    (MLP, (7,), {"batch": 2, "width": 3}, (2, 3)),
    (MLP, (7,), {"batch": 2, "width": 3, "gated": "yes", "activation": "silu"}, (2, 3)),
    (TRANSFORMER_BLOCK, (8, 5), {**TOKENS, "heads": 2}, (2, 3, 8)),
    (TRANSFORMER_BLOCK, (8, 5), {**TOKENS, "heads": 2, "mask": "dense"}, (2, 3, 8)),
    (
        TRANSFORMER_BLOCK,
        (8, 5),
        {**TOKENS, "heads": 2, "gated": "yes", "activation": "silu"},
        (2, 3, 8),
    ),
    (EMBEDDING, (11,), {"batch": 2, "width": 3}, (2, 3)),
    (LM_HEAD, (11,), {"batch": 2, "width": 3}, (2, 11)),
]
_OF_LAYERS: list[tuple[WorkloadKind, Dims, dict[str, ParamValue]]] = [
    (CONV2D, (7, 3), IMAGE),
    (CONV2D, (6, 4), {**IMAGE, "groups": 2, "layout": "channels_last"}),
    (DEPTHWISE_CONV2D, (7,), IMAGE),
    (MLP, (7,), {"batch": 2, "width": 3}),
    (MLP, (7,), {"batch": 2, "width": 3, "gated": "yes"}),
    (TRANSFORMER_BLOCK, (8, 5), {**TOKENS, "heads": 2, "mask": "dense"}),
]
OTHER_BACKENDS: list[tuple[WorkloadKind, Dims, dict[str, ParamValue]]] = [
    *(
        (kind, dims, {**params, "backend": backend})
        for kind, dims, params in _OF_LAYERS
        for backend in ("packed", "compiled")
    ),
    *(
        (ATTENTION, (4, 5), {**TOKENS, "mask": mask, "backend": backend})
        for backend in ("math", "fused", "compiled")
        for mask in ("causal", "none", "dense")
    ),
]


def name_of(kind: WorkloadKind, params: dict[str, ParamValue]) -> str:
    return f"{kind.name}-{'-'.join(map(str, params.values()))}"


NAMES = [name_of(kind, params) for kind, _, params, _ in SMALL]
NAMES_OF_OTHERS = [name_of(kind, params) for kind, _, params in OTHER_BACKENDS]


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer(device="cpu") as measurer:
        yield measurer


@pytest.mark.parametrize(
    ("kind", "dims", "params"),
    [*(each[:3] for each in SMALL), *OTHER_BACKENDS],
    ids=[*NAMES, *NAMES_OF_OTHERS],
)
def test_every_layer_is_measured(
    measurer: Measurer, kind: WorkloadKind, dims: Dims, params: dict[str, ParamValue]
) -> None:
    skip_without(kind, params, "float32")
    grid = Grid(axes=tuple(GridAxis(first=dim, count=1) for dim in dims))
    point = np.zeros(2, dtype=np.int32)
    batch = Batch(point=point, round=np.arange(2, dtype=np.int32), calls=1, warmup_calls=1)
    samples = measurer.measure(kind.describe(params), grid, batch)
    assert not samples.failures
    assert len(samples) == 2
    assert (samples.latency_s > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("kind", "dims", "params", "shape"), SMALL, ids=NAMES)
def test_results_have_their_shape_and_are_finite(
    kind: WorkloadKind,
    dims: Dims,
    params: dict[str, ParamValue],
    shape: tuple[int, ...],
    dtype: str,
) -> None:
    result = build(kind, dims, {**params, "dtype": dtype}, new_operands(dtype))()
    assert isinstance(result, torch.Tensor)
    assert result.shape == shape
    assert result.dtype == getattr(torch, dtype)
    assert result.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "dims", "params", "shape"),
    [each for each in SMALL if "mask" not in each[2]],
)
def test_flops_are_those_that_torch_counts(
    kind: WorkloadKind, dims: Dims, params: dict[str, ParamValue], shape: tuple[int, ...]
) -> None:
    # torch counts all pairs of tokens, whatever the mask: ours is told that there is none. And it
    # doesn't look into the fused kernel of attention.
    has_mask = "mask" in dict(kind.describe(params).params)
    params = {**params, "mask": "none"} if has_mask else params
    call = build(kind, dims, params, new_operands("float32"))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    assert counter.get_total_flops() == kind.flops(dims, dict(kind.describe(params).params))


@pytest.mark.parametrize("kind", [CONV2D, DEPTHWISE_CONV2D], ids=lambda kind: kind.name)
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_images_and_kernels_lie_as_the_layout_says(kind: WorkloadKind, layout: str) -> None:
    dims = (8, 8)[: len(kind.axes)]
    call = build(kind, dims, {**IMAGE, "layout": layout}, new_operands("float32"))
    convolution = inspect.getclosurevars(call).nonlocals["func"]
    (image,), kernel = convolution.args, convolution.keywords["weight"]
    wanted = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    other = torch.contiguous_format if layout == "channels_last" else torch.channels_last
    for tensor in (image, kernel)[: 1 if kind is DEPTHWISE_CONV2D else 2]:
        assert tensor.is_contiguous(memory_format=wanted)
        assert not tensor.is_contiguous(memory_format=other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("kind", "dims", "params"), OTHER_BACKENDS, ids=NAMES_OF_OTHERS)
def test_every_backend_computes_what_torch_does_by_itself(
    kind: WorkloadKind, dims: Dims, params: dict[str, ParamValue], dtype: str
) -> None:
    skip_without(kind, params, dtype)
    params = {**params, "dtype": dtype}
    # The same generator, from the same seed, gives the same places, and so the same numbers.
    result = build(kind, dims, params, new_operands(dtype))()
    expected = build(kind, dims, {**params, "backend": "dense"}, new_operands(dtype))()
    assert isinstance(result, torch.Tensor) and isinstance(expected, torch.Tensor)
    # Images keep their layout. torch's two kernels of attention differ in that of their results.
    assert result.stride() == expected.stride() or kind is ATTENTION
    # bfloat16 has 8 bits, and each of up to eight steps of a block rounds.
    bound = 1e-4 if dtype == "float32" else 8 * 2**-8
    torch.testing.assert_close(result, expected, rtol=bound, atol=bound * _size(expected))


def _size(tensor: torch.Tensor) -> float:
    return float(tensor.abs().max())


@pytest.mark.parametrize(
    ("kind", "dims", "params"),
    [
        (CONV2D, (7, 3), IMAGE),
        (CONV2D, (7, 3), {**IMAGE, "layout": "channels_last"}),
        (MLP, (7,), {"batch": 2, "width": 3}),
        (TRANSFORMER_BLOCK, (8, 5), {**TOKENS, "heads": 2, "mask": "dense"}),
        (ATTENTION, (4, 5), TOKENS),
    ],
)
def test_a_compiled_layer_is_compiled_once_for_all_its_visits(
    kind: WorkloadKind, dims: Dims, params: dict[str, ParamValue]
) -> None:
    operands, compiled = new_operands("float32"), {**params, "backend": "compiled"}
    torch._dynamo.utils.counters.clear()
    results = []
    for _ in range(3):
        # Other places in memory, and so another input, each time.
        operands.start_visit()
        results.append(build(kind, dims, compiled, operands)())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    first, second = results[:2]
    assert isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    assert not torch.equal(first, second)
    # Other parameters are another layer, even if its shapes are the same.
    last = "gelu_tanh" if "activation" in dict(kind.describe().params) else None
    other = {"activation": last} if last else {"mask": "none"} if kind is ATTENTION else {}
    build(kind, dims, {**compiled, **other, "batch": 3}, operands)()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize(
    ("kind", "dims", "params"),
    [each for each in _OF_LAYERS if "groups" not in each[2] and "gated" not in each[2]],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_kernels_of_a_layer_are_its_backends(
    kind: WorkloadKind, dims: Dims, params: dict[str, ParamValue]
) -> None:
    workload = find_kernels(kind.describe(params), dims)
    assert workload is not None
    for backend in ("dense", "packed"):
        expected = build(kind, dims, {**params, "backend": backend}, new_operands("float32"))()
        kernels, number = get_workload_kind(workload.kind), Kernel(backend).dims
        operands = new_operands("float32")
        result = build(kernels, number, dict(workload.params), operands)()
        assert isinstance(result, torch.Tensor) and isinstance(expected, torch.Tensor)
        assert torch.equal(result, expected)


def test_a_block_is_that_of_torch() -> None:
    """torch's own layer of an encoder, norms first, has the same weights in other places."""
    torch.manual_seed(0)
    block = TransformerBlock(8, 20, heads=2).eval()
    other = nn.TransformerEncoderLayer(
        8, 2, 20, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    parts = {
        "self_attn.in_proj_": block.in_projection,
        "self_attn.out_proj.": block.out_projection,
        "linear1.": block.up,
        "linear2.": block.down,
        "norm1.": block.norm_attention,
        "norm2.": block.norm_mlp,
    }
    other.load_state_dict(
        {
            f"{name}{each}": getattr(part, each).detach()
            for name, part in parts.items()
            for each in ("weight", "bias")
        }
    )
    x_bsw = torch.randn(2, 5, 8)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    with torch.inference_mode():
        expected = other(x_bsw, src_mask=causal)
        torch.testing.assert_close(block(x_bsw, is_causal=True), expected)
        torch.testing.assert_close(block(x_bsw, causal), expected)
        everything = other(x_bsw)
        torch.testing.assert_close(block(x_bsw), everything)
    assert not torch.allclose(expected, everything)


def test_a_gate_multiplies_the_activation() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(4, 6, heads=1, activation="silu", gated=True).eval()
    gate = block.gate
    assert gate is not None
    with torch.inference_mode():
        x_bsw = torch.randn(1, 2, 4)
        usual = block(x_bsw)
        # silu(0) = 0: a closed gate lets nothing of the MLP through but the last bias.
        gate.weight.zero_()
        gate.bias.zero_()
        closed = block(x_bsw)
        block.down.bias.zero_()
        block.out_projection.weight.zero_()
        block.out_projection.bias.zero_()
        torch.testing.assert_close(block(x_bsw), x_bsw)
    assert not torch.allclose(usual, closed)


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="a width of 7 can't be divided among 2 heads"):
        TransformerBlock(7, 6, heads=2)


def skip_without(kind: WorkloadKind, params: dict[str, ParamValue], dtype: str) -> None:
    on_host = probe_backends("cpu", (dtype,))
    missing = find_missing_backend(kind, {**params, "dtype": dtype}, on_host)
    if missing is not None:
        pytest.skip(f"this processor has no {missing[0]} {kind.name} of {dtype}")
