"""What is asked about each class of layers: nn.Linear, nn.Conv2d, nn.MultiheadAttention, …

Reads sizes only; runs nothing. A new class gets a function here, and its line in READERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from profiler_service.advice.questions import (
    NO_IMAGE,
    NO_SEQUENCE,
    Context,
    Part,
    Question,
    ask,
    make_attention_part,
)
from profiler_service.advice.seen import Seen
from profiler_service.workload import Dims, ParamValue

Reader = Callable[[Any, Seen | None, Context], list[Part]]
"""Makes the parts of a layer of one class, from the layer and the input that it received."""
Names = tuple[str, ...]
_PROJECTIONS = {
    "together": (("", 3),),
    "key_value": (("query", 1), ("key_value", 2)),
    "each": (("query", 1), ("key", 1), ("value", 1)),
}
"""Names of the products that project the inputs of attention, and how many inputs each projects:
torch multiplies inputs that are one tensor together."""


def is_transposed_linear(module: nn.Module) -> bool:
    """Whether it is HuggingFace's Conv1D: a linear layer with a weight [in_features, nf]."""
    weight, nf = getattr(module, "weight", None), getattr(module, "nf", None)
    return (
        type(module).__name__ == "Conv1D"
        and isinstance(weight, torch.Tensor)
        and weight.dim() == 2
        and weight.shape[1] == nf
    )


def _linear_params(rows: int, *, has_bias: bool) -> dict[str, ParamValue]:
    """The parameters of a product of so many rows. One without a bias is the kind's default."""
    return {"batch": rows, "bias": "yes"} if has_bias else {"batch": rows}


def _read_linear(module: nn.Linear, seen: Seen | None, context: Context) -> list[Part]:
    known, notes = context.see(seen)
    rows, columns = module.out_features, module.in_features
    weight = module.weight
    is_tied = isinstance(weight, nn.Parameter) and id(weight) in context.tables
    if is_tied and module.bias is None:
        question = ask(
            module, context, "lm_head", (rows,), params={"batch": known.batch, "width": columns}
        )
        return [Part(question=question, arguments=(("out_features", 0),), notes=notes)]
    params = _linear_params(known.batch, has_bias=module.bias is not None)
    question = ask(module, context, "linear", (rows, columns), params=params)
    arguments = ("out_features", 0), ("in_features", 1)
    return [Part(question=question, arguments=arguments, notes=notes)]


def read_transposed_linear(module: nn.Module, seen: Seen | None, context: Context) -> list[Part]:
    """What is asked about HuggingFace's Conv1D: the product that it carries out."""
    known, notes = context.see(seen)
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    columns, rows = weight.shape
    params = _linear_params(known.batch, has_bias=getattr(module, "bias", None) is not None)
    question = ask(module, context, "linear", (rows, columns), params=params)
    notes = (*notes, "its weight is stored transposed; measured as nn.Linear")
    return [Part(question=question, arguments=(("nf", 0), ("nx", 1)), notes=notes)]


def is_dynamic_linear(module: nn.Module) -> bool:
    """Whether it is torch's dynamically quantised linear layer, with a weight of 8 bits."""
    packed = getattr(module, "_packed_params", None)
    return (
        type(module).__module__.startswith("torch.ao.nn.quantized.dynamic")
        and type(module).__name__ == "Linear"
        and getattr(packed, "dtype", None) == torch.qint8
    )


def read_dynamic_linear(module: Any, seen: Seen | None, context: Context) -> list[Part]:
    """What is asked about it: the same product, by the kernel that it runs."""
    known, notes = context.see(seen)
    params = _linear_params(known.batch, has_bias=module.bias() is not None)
    params |= {"backend": "int8_dynamic", "dtype": "float32"}
    question = Question(
        kind="linear",
        dims=(module.out_features, module.in_features),
        params=tuple(sorted(params.items())),
    )
    arguments = ("out_features", 0), ("in_features", 1)
    notes = (*notes, "quantised: measured with weights of 8 bits, too (backend int8_dynamic)")
    return [Part(question=question, arguments=arguments, notes=notes)]


def _read_recurrent(module: nn.LSTM | nn.GRU, seen: Seen | None, context: Context) -> list[Part]:
    known, notes = context.see(seen, steps=True)
    question = ask(
        module,
        context,
        "lstm" if isinstance(module, nn.LSTM) else "gru",
        (module.hidden_size, module.input_size),
        params={
            "batch": known.batch,
            "steps": known.steps,
            "layers": module.num_layers,
            "direction": "bi" if module.bidirectional else "uni",
        },
    )
    arguments = ("hidden_size", 0), ("input_size", 1)
    problem = "LSTMs with proj_size aren't measured" if module.proj_size else ""
    return [Part(question=question, arguments=arguments, problem=problem, notes=notes)]


def _read_cell(module: nn.RNNCellBase, seen: Seen | None, context: Context) -> list[Part]:
    """The two products of a cell. nn.LSTM runs other kernels, so that its steps tell nothing."""
    known, notes = context.see(seen)
    rows = module.weight_ih.shape[0]
    gates = rows // module.hidden_size
    notes = (*notes, f"one product of nn.{type(module).__name__}: {gates} × hidden_size rows")
    return [
        Part(
            name=f"weight_{end}",
            weights=(f"weight_{end}", f"bias_{end}"),
            question=ask(
                module,
                context,
                "linear",
                (rows, columns),
                multiple_of=(gates, 1),
                params=_linear_params(known.batch, has_bias=module.bias),
            ),
            notes=notes,
        )
        for end, columns in (("ih", module.input_size), ("hh", module.hidden_size))
    ]


def _read_embedding(module: nn.Embedding, seen: Seen | None, context: Context) -> list[Part]:
    known, notes = context.see(seen)
    question = ask(
        module,
        context,
        "embedding",
        (module.num_embeddings,),
        params={"batch": known.batch, "width": module.embedding_dim},
    )
    problem = "max_norm changes its weight in each call" if module.max_norm is not None else ""
    notes = (*notes, "copies rows of its table, and multiplies nothing (no FLOPs)")
    return [
        Part(question=question, arguments=(("num_embeddings", 0),), problem=problem, notes=notes)
    ]


def _read_conv2d(module: nn.Conv2d, seen: Seen | None, context: Context) -> list[Part]:
    problem = _find_conv2d_problem(module)
    if problem:
        return [Part(problem=problem)]
    if seen is None:
        return [Part(problem=NO_IMAGE)]
    params: dict[str, ParamValue] = {
        "batch": seen.batch,
        "height": seen.height,
        "width": seen.width,
        "layout": seen.layout,
        "kernel": module.kernel_size[0],
        "stride": module.stride[0],
        "padding": _find_padding(module),
    }
    if module.groups > 1 and module.groups == module.in_channels == module.out_channels:
        question = ask(module, context, "depthwise_conv2d", (module.in_channels,), params=params)
        names = "in_channels", "out_channels", "groups"
        return [Part(question=question, arguments=tuple((name, 0) for name in names))]
    dims = module.out_channels, module.in_channels
    question = ask(module, context, "conv2d", dims, params=params | {"groups": module.groups})
    return [Part(question=question, arguments=(("out_channels", 0), ("in_channels", 1)))]


def _find_padding(module: nn.Conv2d) -> int:
    """The padding in pixels; -1 if it isn't the same on each side."""
    padding = module.padding
    if isinstance(padding, str):
        even = module.kernel_size[0] % 2 == 0
        return 0 if padding == "valid" else -1 if even else module.kernel_size[0] // 2
    return padding[0] if padding[0] == padding[1] else -1


def _find_conv2d_problem(module: nn.Conv2d) -> str:
    sizes: Mapping[str, tuple[int, ...]] = {
        "kernel": module.kernel_size,
        "stride": module.stride,
    }
    for name, (first, second) in sizes.items():
        if first != second:
            return f"its {name} is {first} × {second}: only equal sides are measured"
    if module.dilation != (1, 1):
        return f"its dilation is {module.dilation[0]}: only 1 is measured"
    if module.padding_mode != "zeros":
        return f"it pads by {module.padding_mode}: only zeros are measured"
    if _find_padding(module) < 0:
        return "its padding isn't the same on each side"
    return ""


def _read_attention(
    module: nn.MultiheadAttention, seen: Seen | None, context: Context
) -> list[Part]:
    """Its projections, and what it does between them.

    If no call shows what is projected together, it is self-attention.
    """
    known, notes = context.see(seen)
    if seen is None:
        notes = (*notes, "taken for self-attention")
    width, heads = module.embed_dim, module.num_heads
    bias = "in_proj_bias", "bias_k", "bias_v"

    def ask_part(name: str, dims: Dims, multiples: Dims, tokens: int, weights: Names) -> Part:
        rows = "embed_dim" if dims[0] == width else f"{dims[0] // width} × embed_dim"
        params = _linear_params(tokens, has_bias=module.out_proj.bias is not None)
        return Part(
            name=name,
            weights=weights,
            question=ask(module, context, "linear", dims, params=params, multiple_of=multiples),
            notes=(*notes, f"a product of nn.MultiheadAttention: {rows} rows"),
        )

    if module.in_proj_weight is None:
        parts = [
            ask_part(
                f"{letter}_proj",
                (width, columns),
                (heads, 1),
                known.keys if known.keys and letter != "q" else known.batch,
                (f"{letter}_proj_weight", *(bias if letter == "q" else ())),
            )
            for letter, columns in (("q", width), ("k", module.kdim), ("v", module.vdim))
        ]
    else:
        parts = [
            ask_part(
                f"in_proj.{name}" if name else "in_proj",
                (number * width, width),
                (number * heads, heads),
                known.keys if name in ("key", "value", "key_value") else known.batch,
                ("in_proj_weight", *bias) if index == 0 else (),
            )
            for index, (name, number) in enumerate(_PROJECTIONS[known.projections])
        ]
    output = ask_part("out_proj", (width, width), (heads, heads), known.batch, ("out_proj.",))
    if known.attention is None:
        attention = Part(name="attention", weights=(), problem=NO_SEQUENCE)
    else:
        attention = make_attention_part(known.attention, context, name="attention")
    return [*parts, attention, output]


READERS: dict[type[nn.Module], Reader] = {
    nn.Linear: _read_linear,
    nn.LSTM: _read_recurrent,
    nn.GRU: _read_recurrent,
    nn.RNNCellBase: _read_cell,
    nn.Embedding: _read_embedding,
    nn.Conv2d: _read_conv2d,
    nn.MultiheadAttention: _read_attention,
}
