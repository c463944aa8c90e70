"""Attention that a model calls by itself: a row of its own, or named with the reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

from profiler_service.advice.example import Example
from profiler_service.advice.layers import Layer, find_layers
from profiler_service.errors import ModelError
from profiler_service.kinds import get_workload_kind
from tests.advice.test_layers import describe, params_of

B, H, S, D = 2, 3, 5, 4


class Attends(nn.Module):
    """Projects, and attends with whatever `call` makes of queries, keys and values [b, h, s, d]."""

    def __init__(self, call: Callable[..., torch.Tensor] = scaled_dot_product_attention) -> None:
        super().__init__()
        self.project = nn.Linear(H * D, 3 * H * D)
        self.call = call

    def forward(self, x_bse: torch.Tensor) -> torch.Tensor:
        parts = self.project(x_bse).chunk(3, dim=-1)
        return self.call(*(each.unflatten(-1, (H, D)).transpose(1, 2) for each in parts))


def find(model: nn.Module, *args: object) -> list[Layer]:
    given = args or (torch.zeros(B, S, H * D),)
    return find_layers(model, batch=16, steps=70, example=Example(args=given))


def test_a_module_that_calls_attention_has_a_row_for_it() -> None:
    blocks = nn.Sequential(nn.Identity(), Attends())
    attention, projection = find(blocks)
    assert describe([attention, projection]) == [
        ("1", "attention", (H, D)),
        ("1.project", "linear", (3 * H * D, H * D)),
    ]
    assert attention.class_name == "scaled_dot_product_attention"
    assert params_of(attention) == {"batch": B, "sequence": S, "mask": "none", "dtype": "float32"}
    assert attention.num_parameters == 0 and attention.sizes((4, 4)) == {}
    assert "only together with the projections" in attention.notes[0]
    assert attention.question is not None
    kind = get_workload_kind("attention")
    kind.check_point(kind.describe(params_of(attention)), attention.question.dims)


@pytest.mark.parametrize(
    ("mask", "is_causal", "asked", "note"),
    [
        (None, True, "causal", ""),
        (torch.zeros(S, S), False, "dense", ""),
        (torch.ones(S, S, dtype=torch.bool), False, "dense", "its mask is boolean, 5 × 5"),
        (torch.zeros(B, 1, S, S), False, "dense", "its mask is added, 2 × 1 × 5 × 5"),
    ],
)
def test_masks(mask: torch.Tensor | None, is_causal: bool, asked: str, note: str) -> None:
    model = Attends(
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
    )
    attention, _ = find(model)
    assert params_of(attention)["mask"] == asked
    assert (note in " ".join(attention.notes)) and len(attention.notes) == 1 + bool(note)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (
            lambda q, k, v: scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True),
            "grouped-query attention, 3 heads of queries and 1 of keys",
        ),
        (
            lambda q, k, v: scaled_dot_product_attention(q[:, :, -1:], k, v),
            "1 queries and 5 keys: only equal numbers are measured",
        ),
        (
            lambda q, k, v: scaled_dot_product_attention(q, k, v[..., :2]),
            "heads of 4 for keys and 2 for values",
        ),
        (lambda q, k, v: scaled_dot_product_attention(q, k[:1], v[:1]), "differ in batch"),
        (lambda q, k, v: scaled_dot_product_attention(q, k, v, dropout_p=0.5), "drops 0.5 of"),
        (lambda q, k, v: scaled_dot_product_attention(q[:0], k[:0], v[:0]), "no queries"),
    ],
)
def test_attention_that_isnt_measured_is_named(
    call: Callable[..., torch.Tensor], problem: str
) -> None:
    attention, projection = find(Attends(call))
    assert problem in attention.problem and attention.question is None and attention.has_kind
    assert not projection.problem


def test_heads_that_stand_in_the_batch() -> None:
    [attention, _] = find(Attends(lambda *qkv: scaled_dot_product_attention(*(x[0] for x in qkv))))
    # Queries [heads, sequence, head_dim] look like as many sequences of one head.
    assert describe([attention]) == [("", "attention", (1, D))]
    assert params_of(attention)["batch"] == H


def test_of_several_calls_the_largest_is_asked_about_and_one_named_that_isnt_measured() -> None:
    def call_thrice(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scaled_dot_product_attention(q[:, :, :2], k[:, :, :2], v[:, :, :2])
        scaled_dot_product_attention(q[:, :, :2], k, v)
        return scaled_dot_product_attention(q, k, v)

    largest, named, _ = find(Attends(call_thrice))
    assert params_of(largest)["sequence"] == S
    assert named.problem.startswith("2 queries and 5 keys")


def test_a_model_without_data_or_in_another_dtype_shows_its_attention_too() -> None:
    for model in (Attends().to("meta"), Attends().to(torch.bfloat16)):
        x_bse = torch.zeros(B, S, H * D, dtype=model.project.weight.dtype)
        attention, _ = find(model, x_bse)
        assert describe([attention]) == [("", "attention", (H, D))]
        assert params_of(attention)["dtype"] == str(x_bse.dtype).removeprefix("torch.")


def test_a_dtype_that_is_given_holds_for_attention() -> None:
    example = Example(args=(torch.zeros(B, S, H * D),))
    attention, _ = find_layers(Attends(), batch=1, steps=1, dtype="bfloat16", example=example)
    assert params_of(attention)["dtype"] == "bfloat16"


def test_attention_is_that_of_the_module_that_is_running() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Attends()

        def forward(self, x_bse: torch.Tensor) -> torch.Tensor:
            seen = self.inner(x_bse)
            return scaled_dot_product_attention(seen[..., :2], seen[..., :2], seen[..., :2])

    outer, inner, _ = find(Outer())
    assert describe([outer, inner]) == [
        ("", "attention", (H, 2)),
        ("inner", "attention", (H, D)),
    ]


def test_a_model_of_attention_alone_has_no_layer_with_weights() -> None:
    class Alone(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return scaled_dot_product_attention(x, x, x)

    with pytest.raises(ModelError, match="has no layer with weights"):
        find(Alone(), torch.zeros(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("given", "mask", "batch"),
    [
        ({}, "none", B),
        ({"attn_mask": torch.zeros(S, S)}, "dense", B),
        ({"attn_mask": torch.zeros(S, S), "is_causal": True}, "causal", B),
        ({"key_padding_mask": torch.zeros(B, S, dtype=torch.bool)}, "dense", B),
    ],
)
@pytest.mark.parametrize("batch_first", [False, True])
def test_attention_within_multihead_attention(
    given: dict[str, object], mask: str, batch: int, batch_first: bool
) -> None:
    layer = nn.MultiheadAttention(H * D, H, batch_first=batch_first)
    x = torch.zeros(B, S, H * D) if batch_first else torch.zeros(S, B, H * D)
    example = Example(args=(x, x, x), kwargs={"need_weights": False, **given})
    found = find_layers(layer, batch=16, steps=70, example=example)
    assert [name for name, *_ in describe(found)] == ["in_proj", "attention", "out_proj"]
    assert describe(found)[1] == ("attention", "attention", (H, D))
    asked = params_of(found[1])
    assert (asked["mask"], asked["batch"], asked["sequence"]) == (mask, batch, S)
