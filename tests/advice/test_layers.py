"""Layers of models as people write them, and what goes wrong with those."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from profiler_service.advice.layers import Layer, find_layers
from profiler_service.errors import ModelError
from profiler_service.grid import MAX_DIM


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


def test_every_layer_is_listed_with_its_own_parameters() -> None:
    recurrent, merge, first, second = find_layers(Tagger(), batch=16, steps=70)
    assert recurrent == Layer(
        name="recurrent",
        kind="lstm",
        dims=(6, 5),
        params=(
            ("batch", 16),
            ("direction", "bi"),
            ("dtype", "float32"),
            ("layers", 2),
            ("steps", 70),
        ),
    )
    assert recurrent.sizes((8, 5)) == {"hidden_size": 8, "input_size": 5}
    assert (merge.kind, merge.dims) == ("gru", (7, 12))
    assert dict(merge.params)["direction"] == "uni" and dict(merge.params)["layers"] == 1
    assert (first.name, first.kind, first.dims) == ("head.0", "linear", (8, 7))
    assert first.params == (("batch", 16), ("dtype", "float32"))
    assert second.params == (("batch", 16), ("dtype", "bfloat16"))
    assert second.sizes((4, 8)) == {"out_features": 4, "in_features": 8}
    assert [layer.problem for layer in (recurrent, merge, first, second)] == [""] * 4


def test_an_example_tells_batch_and_steps_of_each_layer() -> None:
    words_bt = torch.zeros(4, 9, dtype=torch.long)
    model = Tagger()
    layers = find_layers(model, batch=16, steps=70, example=((words_bt,), {}))
    seen = [(dict(each.params)["batch"], dict(each.params).get("steps")) for each in layers]
    # 4 sequences of 9 words, batch first or not; the heads see the last step only, 4 rows, the
    # second one a single row before.
    assert seen == [(4, 9), (4, 9), (4, None), (4, None)]
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
    ],
)
def test_inputs_of_every_form(layer: nn.Module, given: object, batch: int, steps: object) -> None:
    [found] = find_layers(layer, batch=16, steps=70, example=((given,), {}))
    assert found.name == ""
    assert dict(found.params)["batch"] == batch and dict(found.params).get("steps") == steps


def test_a_shared_layer_is_listed_once_and_one_that_isnt_run_as_asked() -> None:
    class Model(nn.Sequential):
        def __init__(self) -> None:
            super().__init__()
            self.shared = self.again = nn.Linear(5, 5)
            self.spare = nn.Linear(2, 3)

        def forward(self, x_bi: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.again(self.shared(x_bi))
            return result

    layers = find_layers(Model(), batch=16, steps=70, example=((torch.zeros(4, 5),), {}))
    assert [(each.name, dict(each.params)["batch"]) for each in layers] == [
        ("shared", 4),
        ("spare", 16),
    ]


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (nn.LSTM(5, 6, proj_size=3), "proj_size"),
        (
            nn.Linear(5, 6, dtype=torch.float64),
            "float64 isn't measured: give --dtype float32, bfloat16 or float16",
        ),
        (nn.LazyLinear(6), "give an --example"),
        (nn.Linear(1, MAX_DIM + 1, device="meta"), f"larger than {MAX_DIM}"),
    ],
)
def test_what_cant_be_measured_is_said(layer: nn.Module, problem: str) -> None:
    [found] = find_layers(layer, batch=16, steps=70)
    assert problem in found.problem


def test_a_dtype_given_is_that_of_every_layer() -> None:
    layers = find_layers(Tagger().double(), batch=1, steps=1, dtype="float16")
    assert {dict(each.params)["dtype"] for each in layers} == {"float16"}
    assert not any(each.problem for each in layers)


def test_a_model_without_such_layers() -> None:
    with pytest.raises(ModelError, match=r"Sequential has no nn\.Linear") as caught:
        find_layers(nn.Sequential(nn.Conv1d(1, 1, 1)), batch=16, steps=70)
    assert "docs/guides/add-a-workload-kind.md" in caught.value.hint


def test_an_example_whose_shapes_dont_fit() -> None:
    with pytest.raises(ModelError, match=r"example input, raised RuntimeError: mat1") as caught:
        find_layers(nn.Linear(5, 2), batch=16, steps=70, example=((torch.zeros(4, 6),), {}))
    assert "shapes" in caught.value.hint
