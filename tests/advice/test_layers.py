"""Layers of models as people write them, and what goes wrong with those."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_sequence

from profiler_service.advice.example import Example
from profiler_service.advice.layers import Layer, find_layers
from profiler_service.advice.questions import Question
from profiler_service.errors import ModelError
from profiler_service.grid import MAX_DIM
from profiler_service.workload import ParamValue


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 5)
        self.recurrent = nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.merge = nn.GRU(12, 7, dtype=torch.float32)
        self.head = nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 3).to(torch.bfloat16))

    def forward(self, words_bt: torch.Tensor) -> torch.Tensor:
        states_bti, _ = self.recurrent(self.embedding(words_bt))
        merged_tbi, _ = self.merge(states_bti.transpose(0, 1))
        hidden_bi: torch.Tensor = self.head[0](merged_tbi[-1])
        self.head[2](hidden_bi[:1].to(torch.bfloat16))
        scores: torch.Tensor = self.head[2](input=hidden_bi.to(torch.bfloat16))
        return scores


def params_of(layer: Layer) -> Mapping[str, ParamValue]:
    """The parameters of the question about the layer."""
    assert layer.question is not None
    return dict(layer.question.params)


def describe(layers: list[Layer]) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, kind and dims of each layer that is asked about."""
    return [
        (layer.name, layer.question.kind, layer.question.dims)
        for layer in layers
        if layer.question is not None and not layer.problem
    ]


def test_every_layer_is_listed_with_its_own_parameters() -> None:
    embedding, recurrent, merge, first, second = find_layers(Tagger(), batch=16, steps=70)
    assert embedding.class_name == "nn.Embedding" and embedding.num_parameters == 50
    assert recurrent == Layer(
        name="recurrent",
        class_name="nn.LSTM",
        # Of the first layer 5 inputs, of the second 12; 6 states, 2 biases; 4 gates of 6 units; 2
        # directions.
        num_parameters=2 * 24 * ((5 + 6 + 2) + (12 + 6 + 2)),
        question=Question(
            kind="lstm",
            dims=(6, 5),
            params=(
                ("batch", 16),
                ("direction", "bi"),
                ("dtype", "float32"),
                ("layers", 2),
                ("steps", 70),
            ),
        ),
        arguments=(("hidden_size", 0), ("input_size", 1)),
    )
    assert recurrent.sizes((8, 5)) == {"hidden_size": 8, "input_size": 5}
    assert describe([merge]) == [("merge", "gru", (7, 12))]
    assert params_of(merge)["direction"] == "uni" and params_of(merge)["layers"] == 1
    assert describe([first]) == [("head.0", "linear", (8, 7))]
    assert params_of(first) == {"batch": 16, "bias": "yes", "dtype": "float32"}
    assert params_of(second) == {"batch": 16, "bias": "yes", "dtype": "bfloat16"}
    assert second.sizes((4, 8)) == {"out_features": 4, "in_features": 8}


def test_an_example_tells_batch_and_steps_of_each_layer() -> None:
    words_bt = torch.zeros(4, 9, dtype=torch.long)
    model = Tagger()
    layers = find_layers(model, batch=16, steps=70, example=Example(args=(words_bt,)))
    seen = [(params_of(each)["batch"], params_of(each).get("steps")) for each in layers]
    # 4 sequences of 9 words, batch first or not; the heads see the last step only, 4 rows, the
    # second one a single row before.
    assert seen == [(36, None), (4, 9), (4, 9), (4, None), (4, None)]
    assert model.training  # as it was


@pytest.mark.parametrize(
    ("layer", "given", "batch", "steps"),
    [
        # 2 · 3 · 4 rows of 5.
        (nn.Linear(5, 2), torch.zeros(2, 3, 4, 5), 24, None),
        (nn.Linear(5, 2), torch.zeros(5), 1, None),
        (nn.GRU(5, 2), torch.zeros(7, 5), 1, 7),
        (nn.GRU(5, 2), torch.zeros(7, 3, 5), 3, 7),
        (nn.GRU(5, 2, batch_first=True), torch.zeros(7, 3, 5), 7, 3),
        # Sequences of 4 and 2 steps.
        (nn.LSTM(5, 2), pack_sequence([torch.zeros(4, 5), torch.zeros(2, 5)]), 2, 4),
        (nn.Embedding(9, 5), torch.zeros(2, 3, dtype=torch.long), 6, None),
    ],
)
def test_inputs_of_every_form(layer: nn.Module, given: object, batch: int, steps: object) -> None:
    [found] = find_layers(layer, batch=16, steps=70, example=Example(args=(given,)))
    assert found.name == ""
    assert params_of(found)["batch"] == batch and params_of(found).get("steps") == steps


def test_a_shared_layer_is_listed_once_and_one_that_isnt_run_is_marked() -> None:
    class Model(nn.Sequential):
        def __init__(self) -> None:
            super().__init__()
            self.shared = self.again = nn.Linear(5, 5)
            self.spare = nn.Linear(2, 3)
            self.later = nn.GRU(2, 3)

        def forward(self, x_bi: torch.Tensor) -> torch.Tensor:
            self.spare(x_bi[:0, :2])  # as an expert that gets no token
            result: torch.Tensor = self.again(self.shared(x_bi))
            return result

    example = Example(args=(torch.zeros(4, 5),))
    layers = find_layers(Model(), batch=16, steps=70, example=example)
    assert [(each.name, params_of(each)["batch"], each.notes) for each in layers] == [
        ("shared", 4, ()),
        ("spare", 16, ("the example doesn't reach it: batch=16 is assumed",)),
        ("later", 16, ("the example doesn't reach it: batch=16 steps=70 is assumed",)),
    ]
    # Without an example, all of them are as asked.
    assert not any(each.notes for each in find_layers(Model(), batch=16, steps=70))


class Tied(nn.Module):
    """A language model whose scores come from its embedding's table."""

    def __init__(self, *, bias: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.scores = nn.Linear(4, 10, bias=bias)
        self.scores.weight = self.words.weight

    def forward(self, words_b: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.scores(self.words(words_b))
        return scores


def test_tied_weights_count_once() -> None:
    words, scores = find_layers(Tied(), batch=16, steps=70)
    assert (words.num_parameters, scores.num_parameters) == (40, 0)
    assert scores.notes == ("shares a weight with words",)
    assert describe([words, scores]) == [
        ("words", "embedding", (10,)),
        ("scores", "lm_head", (10,)),
    ]
    assert params_of(scores) == {"batch": 16, "width": 4, "dtype": "float32"}
    # lm_head has no bias. The bias isn't shared.
    _, scores = find_layers(Tied(bias=True), batch=16, steps=70)
    assert describe([scores]) == [("scores", "linear", (10, 4))] and scores.num_parameters == 10


def test_parametrised_weights_count_as_they_are_stored() -> None:
    plain, normed, masked = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(5, 6)
    model = nn.Sequential(
        plain,
        parametrizations.weight_norm(normed),
        prune.random_unstructured(masked, "weight", 0.5),  # type: ignore[no-untyped-call]
    )
    found = find_layers(model, batch=16, steps=70)
    assert [(each.name, each.class_name) for each in found] == [
        ("0", "nn.Linear"),
        ("1", "nn.Linear"),
        ("2", "nn.Linear"),
    ]
    # 30 weights and 6 biases; a norm for each of the 6 rows besides.
    assert [each.num_parameters for each in found] == [36, 42, 36]
    assert [len(each.notes) for each in found] == [0, 1, 1]
    assert "measured without what computes its weight" in found[1].notes[0]
    assert len({each.question for each in found}) == 1


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (nn.LSTM(5, 6, proj_size=3), "proj_size"),
        (
            nn.Linear(5, 6, dtype=torch.float64),
            "float64 isn't measured: give --dtype float32, bfloat16 or float16",
        ),
        (nn.Linear(5, 6, dtype=torch.complex64), "complex64 isn't measured"),
        (nn.LazyLinear(6), "give an --example"),
        (nn.Linear(1, MAX_DIM + 1, device="meta"), f"larger than {MAX_DIM}"),
    ],
)
def test_what_cant_be_measured_is_said(layer: nn.Module, problem: str) -> None:
    [found] = find_layers(layer, batch=16, steps=70)
    assert problem in found.problem and found.has_kind


def test_layers_of_no_kind_are_named_with_their_size() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(3, 2))
            self.norm = nn.LayerNorm(4)
            self.rest = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.RNN(1, 1))

    found = find_layers(Own(), batch=16, steps=70)
    assert [(each.name, each.class_name, each.num_parameters) for each in found] == [
        ("", "Own", 6),
        ("norm", "nn.LayerNorm", 8),
        ("rest.0", "nn.Conv1d", 8),
        ("rest.2", "nn.RNN", 4),
    ]
    assert {each.problem for each in found} == {"no workload kind measures it"}
    assert not any(each.question or each.has_kind for each in found)


def test_a_dtype_given_is_that_of_every_layer() -> None:
    layers = find_layers(Tagger().double(), batch=1, steps=1, dtype="float16")
    assert {params_of(each)["dtype"] for each in layers} == {"float16"}
    assert not any(each.problem for each in layers)


def test_a_model_without_weights() -> None:
    with pytest.raises(ModelError, match=r"Sequential has no layer with weights"):
        find_layers(nn.Sequential(nn.ReLU()), batch=16, steps=70)
