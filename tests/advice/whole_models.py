"""Whole models as people build them, at small widths, each with an example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_sequence

from tests.advice.model_classes import (
    HEADS,
    TOKENS,
    WIDTH,
    CellLoop,
    Gpt2,
    InvertedResidual,
    Llama,
    PackedGru,
    Recurrent,
    Residual,
    SelfAttention,
    Translator,
)
from tests.advice.test_layers import Tied


def make_encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 20, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def make_mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))


def make_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Embedding(10**6, 10**4), nn.Linear(10**4, 10**6, bias=False))


def make_compiled() -> nn.Module:
    compiled: nn.Module = torch.compile(make_mlp(), backend="eager")  # type: ignore[assignment]
    return compiled


def make_weight_normed() -> nn.Module:
    model = make_mlp()
    model[0] = parametrizations.weight_norm(model[0])
    return model


def make_quantised() -> nn.Module:
    from torch.ao.quantization import quantize_dynamic

    quantised: nn.Module = quantize_dynamic(  # type: ignore[no-untyped-call]
        nn.Sequential(nn.Embedding(50, 4), *make_mlp()), {nn.Linear}
    )
    return quantised


IMAGES = torch.zeros(2, 3, 8, 8)
STEPS = torch.zeros(7, 2, 4)
ROWS = torch.zeros(3, 4)


@dataclass(frozen=True, kw_only=True)
class WholeModel:
    """A model, an example, and what is to be said about its layers."""

    title: str
    make: Callable[[], nn.Module]
    value: object
    kinds: Mapping[str, int]
    """How many layers, or parts of layers, are asked about, by workload kind."""
    named: Mapping[str, str]
    """Why others aren't, by their class: the reason, or a part of it."""
    remark: str = ""
    """What else is said about it."""


NO_KIND = "no workload kind measures it"
MODELS = (
    WholeModel(
        title="a GPT-2-like language model (HuggingFace's `Conv1D`, scores tied to the words)",
        make=Gpt2,
        value={"input_ids": TOKENS},
        kinds={"embedding": 2, "linear": 8, "attention": 2, "lm_head": 1},
        named={"nn.LayerNorm": NO_KIND},
        remark="the weight that is shared counts once",
    ),
    WholeModel(
        title="a Llama-like language model (grouped-query attention, gated MLP)",
        make=Llama,
        value=TOKENS,
        kinds={"embedding": 1, "linear": 15},
        named={"nn.RMSNorm": NO_KIND, "scaled_dot_product_attention": "grouped-query attention"},
    ),
    WholeModel(
        title="`nn.MultiheadAttention`",
        make=SelfAttention,
        value=torch.zeros(2, 7, WIDTH),
        kinds={"linear": 2, "attention": 1},
        named={},
        remark="with `need_weights=True`, which is torch's default, its attention isn't measured",
    ),
    WholeModel(
        title="`nn.TransformerEncoder`",
        make=make_encoder,
        value=torch.zeros(2, 7, WIDTH),
        kinds={"linear": 8, "attention": 2},
        named={"nn.LayerNorm": NO_KIND},
        remark="torch's fused kernel for it is switched off meanwhile, so that its layers are seen",
    ),
    WholeModel(
        title="`nn.Transformer`, with two inputs, one of them by keyword",
        make=Translator,
        value={"source": TOKENS, "target": TOKENS[:, :5]},
        # Encoder: in_proj, attention, out_proj and 2 products of its MLP. Decoder: the same, and
        # for the attention to the source one product for queries, one for keys and values,
        # out_proj.
        kinds={"embedding": 1, "linear": 11, "attention": 2},
        named={"nn.LayerNorm": NO_KIND, "nn.MultiheadAttention": "5 queries and 7 keys"},
    ),
    WholeModel(
        title="an `nn.LSTM` in both directions and two layers",
        make=Recurrent,
        value=TOKENS,
        kinds={"embedding": 1, "lstm": 1, "linear": 1},
        named={},
    ),
    WholeModel(
        title="an `nn.GRU` with packed sequences",
        make=PackedGru,
        value=pack_sequence([torch.zeros(7, 4), torch.zeros(5, 4)]),
        kinds={"gru": 1, "linear": 1},
        named={},
        remark="asked about with the longest sequence and all of them",
    ),
    WholeModel(
        title="a loop over `nn.LSTMCell`",
        make=CellLoop,
        value=STEPS,
        kinds={"linear": 2},
        named={},
        remark="a cell is asked about as its two products",
    ),
    WholeModel(
        title="a ResNet-like network",
        make=Residual,
        value=IMAGES,
        kinds={"conv2d": 3},
        named={},
    ),
    WholeModel(
        title="a MobileNet-like network",
        make=InvertedResidual,
        value=IMAGES,
        kinds={"conv2d": 2, "depthwise_conv2d": 1},
        named={"nn.BatchNorm2d": NO_KIND},
    ),
    WholeModel(
        title="a language model whose scores are tied to its words",
        make=Tied,
        value=TOKENS[0],
        kinds={"embedding": 1, "lm_head": 1},
        named={},
        remark="the weight that is shared counts once",
    ),
    WholeModel(
        title="a lazy model",
        make=lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(6)),
        value=IMAGES,
        kinds={"conv2d": 1, "linear": 1},
        named={},
        remark="its sizes are known with an example only",
    ),
    WholeModel(
        title="a model without data, on the meta device",
        make=make_meta,
        value=TOKENS,
        kinds={"embedding": 1, "linear": 1},
        named={},
        remark="nothing is computed, and no memory is needed; there are no shares of time",
    ),
    WholeModel(
        title="a model in bfloat16",
        make=lambda: make_mlp().to(torch.bfloat16),
        value=ROWS.to(torch.bfloat16),
        kinds={"linear": 2},
        named={},
        remark="asked about in that dtype",
    ),
    WholeModel(
        title="a model that `torch.compile` has wrapped",
        make=make_compiled,
        value=ROWS,
        kinds={"linear": 2},
        named={},
        remark="the original model is looked at and run; nothing is compiled",
    ),
    WholeModel(
        title="a model with `weight_norm`",
        make=make_weight_normed,
        value=ROWS,
        kinds={"linear": 2},
        named={},
        remark="measured as the plain layer, and said so",
    ),
    WholeModel(
        title="a dynamically quantised model",
        make=make_quantised,
        value=TOKENS[0],
        kinds={"embedding": 1, "linear": 2},
        named={},
        remark="its linear layers are measured with weights of 8 bits; other quantised layers are"
        " named, and none is taken for a float layer",
    ),
    WholeModel(
        title="200 equal layers",
        make=lambda: nn.Sequential(*(nn.Linear(4, 4) for _ in range(200))),
        value=ROWS,
        kinds={"linear": 200},
        named={},
        remark="one question",
    ),
)
