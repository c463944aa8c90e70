"""Builds the calls of today's layers (`kinds.layers`). Runs only in the measuring child.

Layers are called as models call them: with heads as views of the projections' result, and images in
the layout that the workload names. Knows nothing of how calls are timed.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable, Mapping

import torch
from torch import nn
from torch.nn import functional

from profiler_service import kinds
from profiler_service.kinds.kernels import unfold
from profiler_service.measurement.networks import place
from profiler_service.measurement.operations import Call, Operands, build_linear
from profiler_service.networks.attention import bind_attention
from profiler_service.networks.compilation import compile_frozen
from profiler_service.networks.convolutions import Convolution, bind_convolution
from profiler_service.networks.products import bind_linears
from profiler_service.networks.transformer import ACTIVATIONS, MLP, TransformerBlock
from profiler_service.workload import Dims, ParamValue

# Shapes: B batch, O out_channels, I in_channels, R rows and C columns of an image, K kernel,
# H heads, S sequence, D head_dim, N hidden, W width, V vocabulary.


def build_conv2d(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of a convolution of x_birc; `dims` is (out_channels, in_channels)."""
    out_channels, in_channels = dims
    return _build_convolution(operands, out_channels, in_channels, int(params["groups"]), params)


def build_depthwise_conv2d(
    operands: Operands, dims: Dims, params: Mapping[str, ParamValue]
) -> Call:
    """The call of a convolution with one kernel a channel; `dims` is (channels,)."""
    (channels,) = dims
    return _build_convolution(operands, channels, channels, channels, params)


def _build_convolution(
    operands: Operands,
    out_channels: int,
    in_channels: int,
    groups: int,
    params: Mapping[str, ParamValue],
) -> Call:
    kernel, batch = int(params["kernel"]), int(params["batch"])
    image_shape = batch, in_channels, int(params["height"]), int(params["width"])
    kernel_shape = out_channels, in_channels // groups, kernel, kernel
    layout, backend = str(params["layout"]), str(params.get("backend", "dense"))
    image_birc = _lay_out(operands.input(*_permute(image_shape, layout)), layout)

    def bind(weight_oikk: torch.Tensor, bias_o: torch.Tensor) -> Convolution:
        return bind_convolution(
            weight_oikk,
            bias_o,
            backend=backend,
            image_birc=image_birc,
            stride=int(params["stride"]),
            padding=int(params["padding"]),
            groups=groups,
        )

    weight_oikk = _lay_out(operands.weight(*_permute(kernel_shape, layout)), layout)
    bias_o = operands.weight(out_channels)
    if backend != "compiled":
        return functools.partial(bind(weight_oikk, bias_o), image_birc)
    kept = operands.keep(
        ("convolution", *kernel_shape, groups, *sorted(params.items())),
        lambda: bind(weight_oikk.clone(), bias_o.clone()),
        size_bytes=2 * weight_oikk.nbytes,
    )
    return functools.partial(kept, image_birc)


def _permute(shape: tuple[int, int, int, int], layout: str) -> tuple[int, int, int, int]:
    """The shape in the order in which the layout has it in memory."""
    first, channels, rows, columns = shape
    return (first, rows, columns, channels) if layout == "channels_last" else shape


def _lay_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The tensor as (first, channels, rows, columns), whatever its order in memory."""
    return tensor.permute(0, 3, 1, 2) if layout == "channels_last" else tensor


def build_attention(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of attention of q_bhsd, k_bhsd, v_bhsd; `dims` is (heads, head_dim)."""
    heads, head_dim = dims
    batch, sequence = int(params["batch"]), int(params["sequence"])
    query, key, value = (
        operands.input(batch, sequence, heads, head_dim).transpose(1, 2) for _ in range(3)
    )
    tensors = query, key, value, _find_mask(operands, params)
    backend = str(params.get("backend", "dense"))
    bind = functools.partial(
        bind_attention, *tensors, backend=backend, is_causal=params["mask"] == "causal"
    )
    if backend != "compiled":
        return functools.partial(bind(), *tensors)
    kept = operands.keep(("attention", *dims, *sorted(params.items())), bind, size_bytes=0)
    return functools.partial(kept, *tensors)


def _find_mask(operands: Operands, params: Mapping[str, ParamValue]) -> torch.Tensor | None:
    """What is added to the scores, mask_ss; None if nothing is."""
    sequence = int(params["sequence"])
    return operands.input(sequence, sequence) if params["mask"] == "dense" else None


def build_mlp(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of an MLP on x_bw; `dims` is (hidden,)."""
    (hidden,), width = dims, int(params["width"])
    x_bw = operands.input(int(params["batch"]), width)
    if params["backend"] == "compiled":

        def create() -> MLP:
            activation, gated = str(params["activation"]), params["gated"] == "yes"
            return MLP(width, hidden, activation=activation, gated=gated)

        kept = _keep_compiled(operands, create, ("mlp", *dims), params, x_bw)
        return functools.partial(kept, x_bw)
    activation = ACTIVATIONS[str(params["activation"])]
    up = operands.product(hidden, width, params)
    gate = operands.product(hidden, width, params) if params["gated"] == "yes" else None
    down = operands.product(width, hidden, params)
    if gate is None:
        return lambda: down(activation(up(x_bw)))
    return lambda: down(activation(gate(x_bw)) * up(x_bw))


def build_transformer_block(
    operands: Operands, dims: Dims, params: Mapping[str, ParamValue]
) -> Call:
    """The call of a block on x_bsw; `dims` is (width, hidden)."""
    width, hidden = dims
    batch, sequence, is_causal = (
        int(params["batch"]),
        int(params["sequence"]),
        params["mask"] == "causal",
    )
    backend = params.get("backend", "dense")

    def create() -> TransformerBlock:
        return TransformerBlock(
            width,
            hidden,
            heads=int(params["heads"]),
            activation=str(params["activation"]),
            gated=params["gated"] == "yes",
        )

    x_bsw, mask_ss = operands.input(batch, sequence, width), _find_mask(operands, params)
    if backend == "compiled":
        key = "transformer_block", *dims
        kept = _keep_compiled(operands, create, key, params, x_bsw, mask_ss, is_causal=is_causal)
        return functools.partial(kept, x_bsw, mask_ss)
    block = place(operands, create)
    if backend == "packed":
        bind_linears(block, backend="packed", batch=batch * sequence)
    return functools.partial(block, x_bsw, mask_ss, is_causal=is_causal)


def _keep_compiled(
    operands: Operands,
    create: Callable[[], nn.Module],
    key: tuple[Hashable, ...],
    params: Mapping[str, ParamValue],
    x: torch.Tensor,
    *others: torch.Tensor | None,
    **options: bool,
) -> Callable[..., torch.Tensor]:
    """The compiled module, kept for later visits: see `Operands.keep`."""
    with torch.device("meta"):
        num_weights = sum(each.numel() for each in create().parameters())

    def compile_copy() -> Callable[..., torch.Tensor]:
        module = copy.deepcopy(place(operands, create))  # which owns its memory
        return compile_frozen(module, x, *others, **options)

    return operands.keep(
        (*key, *sorted(params.items())),
        compile_copy,
        size_bytes=2 * num_weights * operands.dtype.itemsize,
    )


def build_conv2d_kernel(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of `conv2d` by the kernel of that number: see `kinds.kernels`."""
    return build_conv2d(operands, *unfold(kinds.CONV2D, dims, params))


def build_depthwise_conv2d_kernel(
    operands: Operands, dims: Dims, params: Mapping[str, ParamValue]
) -> Call:
    """The call of `depthwise_conv2d` by the kernel of that number: see `kinds.kernels`."""
    return build_depthwise_conv2d(operands, *unfold(kinds.DEPTHWISE_CONV2D, dims, params))


def build_mlp_kernel(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of `mlp` by the kernel of that number: see `kinds.kernels`."""
    return build_mlp(operands, *unfold(kinds.MLP, dims, params))


def build_transformer_block_kernel(
    operands: Operands, dims: Dims, params: Mapping[str, ParamValue]
) -> Call:
    """The call of `transformer_block` by the kernel of that number: see `kinds.kernels`."""
    return build_transformer_block(operands, *unfold(kinds.TRANSFORMER_BLOCK, dims, params))


def build_embedding(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of an embedding of tokens_b, drawn anew at each visit; `dims` is (vocabulary,)."""
    (vocabulary,) = dims
    tokens_b = torch.randint(vocabulary, (int(params["batch"]),), device=operands.device)
    table_vw = operands.weight(vocabulary, int(params["width"]))
    return functools.partial(functional.embedding, tokens_b, table_vw)


def build_lm_head(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of the scores of x_bw for every word; `dims` is (vocabulary,)."""
    return build_linear(operands, (dims[0], int(params["width"])), params)
