"""Builds the calls of today's layers (`kinds.layers`). Runs only in the measuring child.

Layers are called as models call them: with heads as views of the projections' result, and images in
the layout that the workload names. Knows nothing of how calls are timed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch.nn import functional

from profiler_service.measurement.networks import place
from profiler_service.measurement.operations import Call, Operands, build_linear
from profiler_service.networks.transformer import ACTIVATIONS, TransformerBlock
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
    layout = str(params["layout"])
    return functools.partial(
        functional.conv2d,
        _lay_out(operands.input(*_permute(image_shape, layout)), layout),
        _lay_out(operands.weight(*_permute(kernel_shape, layout)), layout),
        operands.weight(out_channels),
        stride=int(params["stride"]),
        padding=int(params["padding"]),
        groups=groups,
    )


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
    return functools.partial(
        functional.scaled_dot_product_attention,
        query,
        key,
        value,
        attn_mask=_find_mask(operands, params),
        is_causal=params["mask"] == "causal",
    )


def _find_mask(operands: Operands, params: Mapping[str, ParamValue]) -> torch.Tensor | None:
    """What is added to the scores, mask_ss; None if nothing is."""
    sequence = int(params["sequence"])
    return operands.input(sequence, sequence) if params["mask"] == "dense" else None


def build_mlp(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of an MLP on x_bw; `dims` is (hidden,)."""
    (hidden,), width = dims, int(params["width"])
    activation = ACTIVATIONS[str(params["activation"])]
    up = operands.product(hidden, width, params)
    down = operands.product(width, hidden, params)
    x_bw = operands.input(int(params["batch"]), width)
    if params["gated"] == "no":
        return lambda: down(activation(up(x_bw)))
    gate = operands.product(hidden, width, params)
    return lambda: down(activation(gate(x_bw)) * up(x_bw))


def build_transformer_block(
    operands: Operands, dims: Dims, params: Mapping[str, ParamValue]
) -> Call:
    """The call of a block on x_bsw; `dims` is (width, hidden)."""
    width, hidden = dims
    block = place(
        operands,
        lambda: TransformerBlock(
            width,
            hidden,
            heads=int(params["heads"]),
            activation=str(params["activation"]),
            gated=params["gated"] == "yes",
        ),
    )
    x_bsw = operands.input(int(params["batch"]), int(params["sequence"]), width)
    return functools.partial(
        block, x_bsw, _find_mask(operands, params), is_causal=params["mask"] == "causal"
    )


def build_embedding(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of an embedding of tokens_b, drawn anew at each visit; `dims` is (vocabulary,)."""
    (vocabulary,) = dims
    tokens_b = torch.randint(vocabulary, (int(params["batch"]),), device=operands.device)
    table_vw = operands.weight(vocabulary, int(params["width"]))
    return functools.partial(functional.embedding, tokens_b, table_vw)


def build_lm_head(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of the scores of x_bw for every word; `dims` is (vocabulary,)."""
    return build_linear(operands, (dims[0], int(params["width"])), params)
