"""Whole models as people build them: what is asked about each, and that its kinds take it."""

from __future__ import annotations

import collections
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from profiler_service.advice.example import arrange_example
from profiler_service.advice.layers import Layer, find_layers
from profiler_service.kinds import get_workload_kind
from tests.advice.test_classes import Conv1D
from tests.advice.test_layers import Tied

WIDTH, HEADS, TOKENS = 12, 2, torch.zeros(2, 7, dtype=torch.long)


class Gpt2Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.c_attn, self.c_proj = Conv1D(3 * WIDTH, WIDTH), Conv1D(WIDTH, WIDTH)
        self.c_fc, self.c_out = Conv1D(4 * WIDTH, WIDTH), Conv1D(WIDTH, 4 * WIDTH)

    def forward(self, x_bsw: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            each.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for each in self.c_attn(self.ln_1(x_bsw)).chunk(3, dim=-1)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x_bsw = x_bsw + self.c_proj(seen.transpose(1, 2).flatten(2))
        hidden_bsn: torch.Tensor = self.c_fc(self.ln_2(x_bsw)).relu()
        result: torch.Tensor = x_bsw + self.c_out(hidden_bsn)
        return result


class Gpt2(nn.Module):
    """As HuggingFace's: weights transposed, and scores tied to the words."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(50, WIDTH), nn.Embedding(9, WIDTH)
        self.h = nn.Sequential(Gpt2Block(), Gpt2Block())
        self.lm_head = nn.Linear(WIDTH, 50, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        scores: torch.Tensor = self.lm_head(self.h(self.wte(input_ids) + self.wpe(places)))
        return scores


class LlamaMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(WIDTH, 30, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(30, WIDTH, bias=False)
        self.norm = nn.RMSNorm(WIDTH)

    def forward(self, x_bsw: torch.Tensor) -> torch.Tensor:
        x_bsw = self.norm(x_bsw)
        result: torch.Tensor = self.down_proj(
            functional.silu(self.gate_proj(x_bsw)) * self.up_proj(x_bsw)
        )
        return result


class InvertedResidual(nn.Sequential):
    """A block of MobileNet."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 18, 1, bias=False), nn.BatchNorm2d(18), nn.ReLU6()),
            *(nn.Conv2d(18, 18, 3, stride=2, padding=1, groups=18, bias=False), nn.BatchNorm2d(18)),
            nn.Conv2d(18, 5, 1, bias=False),
        )


class Residual(nn.Module):
    """A block of ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, stride=2, bias=False)
        self.second = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.short_cut = nn.Conv2d(3, 6, 1, stride=2, bias=False)

    def forward(self, x_birc: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(x_birc).relu()) + self.short_cut(x_birc)
        return result


class CellLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)

    def forward(self, x_tbi: torch.Tensor) -> torch.Tensor:
        state = None
        for x_bi in x_tbi:
            state = self.cell(x_bi, state)
        assert state is not None
        result: torch.Tensor = state[0]
        return result


class Translator(nn.Module):
    """Several inputs, one of them by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, WIDTH)
        self.both = nn.Transformer(WIDTH, HEADS, 1, 1, 20, batch_first=True)

    def forward(self, source: torch.Tensor, *, target: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.both(self.words(source), self.words(target))
        return result


IMAGES = torch.zeros(2, 3, 8, 8)
STEPS = torch.zeros(7, 2, 4)


GPT2_KINDS = {"embedding": 2, "linear": 8, "attention": 2, "lm_head": 1}
# Encoder: in_proj, attention, out_proj and 2 products of its MLP. Decoder: the same, and for the
# attention to the source, which isn't measured, one product for queries, one for keys and values,
# out_proj.
TRANSLATOR_KINDS = {"embedding": 1, "linear": 11, "attention": 2}


def find(model: nn.Module, value: object) -> list[Layer]:
    return find_layers(model, batch=16, steps=70, example=arrange_example(value, model))


@pytest.mark.parametrize(
    ("make", "value", "kinds"),
    [
        (Gpt2, {"input_ids": TOKENS}, GPT2_KINDS),
        (LlamaMlp, torch.zeros(2, 7, WIDTH), {"linear": 3}),
        (lambda: InvertedResidual().eval(), IMAGES, {"conv2d": 2, "depthwise_conv2d": 1}),
        (Residual, IMAGES, {"conv2d": 3}),
        (CellLoop, STEPS, {"linear": 2}),
        (Tied, TOKENS[0], {"embedding": 1, "lm_head": 1}),
        (lambda: nn.LSTM(4, 6, num_layers=2, bidirectional=True), STEPS, {"lstm": 1}),
        (lambda: nn.GRU(4, 6), STEPS, {"gru": 1}),
        (Translator, {"source": TOKENS, "target": TOKENS[:, :5]}, TRANSLATOR_KINDS),
    ],
)
def test_the_kinds_take_what_is_asked(
    make: Callable[[], nn.Module], value: object, kinds: dict[str, int]
) -> None:
    model = make()
    found = find(model, value)
    asked = [each.question for each in found if each.question is not None]
    assert collections.Counter(each.kind for each in asked) == kinds
    for question in asked:
        kind = get_workload_kind(question.kind)
        kind.check_point(kind.describe(dict(question.params)), question.dims)
        multiples = question.multiple_of or (1,) * len(question.dims)
        assert not any(dim % each for dim, each in zip(question.dims, multiples, strict=True))
    assert not any("doesn't reach" in note for each in found for note in each.notes)
    # Nothing is counted twice or left out, whatever the model is made of.
    assert sum(each.num_parameters for each in found) == sum(p.numel() for p in model.parameters())


def test_two_hundred_equal_layers_are_one_question() -> None:
    model = nn.Sequential(*(nn.Linear(5, 5) for _ in range(200)))
    found = find(model, torch.zeros(3, 5))
    assert len(found) == 200 and len({each.question for each in found}) == 1
