"""Models that a run exports: padded with equal outputs, written, and made narrow again."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from profiler_service.advice.example import Example
from profiler_service.errors import InvalidRequestError
from profiler_service.networks import HLSTMLanguageModel, LSTMLanguageModel
from tests.trainer_client.groups.test_discovery import WORDS, Tied
from tests.trainer_client.groups.test_layer_kinds import batch_net, draw, root_net, settled
from tests.trainer_client.widths.stand_ins import EightsOracle, RuledRace
from trainer_client.export import (
    BASELINE,
    ModelFileError,
    load_model,
    write_dense,
    write_sparse,
)
from trainer_client.groups.layout import LayoutError
from trainer_client.groups.padding import Padder, pad
from trainer_client.groups.surgery import tensors_of
from trainer_client.groups.undo import undo_padding
from trainer_client.widths.exported import ask_whole, draw_words, load_exported, make_padder
from trainer_client.widths.files import load_padded, read_weights, undo_file, write_padded
from trainer_client.widths.growth import grow


def hlstm(embedding: int, state: int) -> HLSTMLanguageModel:
    return settled(HLSTMLanguageModel(11, embedding, state, 7))


MODELS = [
    (hlstm(5, 6), {"gate_width": 9, "state_width": 8}),
    (hlstm(9, 6), {"gate_width": 8, "state_width": 9}),
    (settled(LSTMLanguageModel(11, 5, 7)), {"hidden_size": 8, "embedding_width": 8}),
]


def write(model: nn.Module, path: Path) -> None:
    """As a run exports it."""
    if isinstance(model, HLSTMLanguageModel):
        write_dense(model, path)
        return
    told = json.dumps({"format": BASELINE, "embedding_width": 5})
    save_file(dict(model.state_dict()), path, {"lhp": told})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("model", "to"), MODELS, ids=["more states", "fewer states than columns", "stacked"]
)
def test_an_exported_model_is_padded_written_and_undone(
    model: Any, to: dict[str, int], dtype: torch.dtype, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    write(copy.deepcopy(model).to(dtype), path)
    loaded = load_exported(path)
    words_tb = draw_words(loaded, steps=6, batch=3)
    padded = make_padder(loaded, words_tb).pad(to)
    assert padded.largest_difference < 1e-6
    _, description = read_weights(path)
    write_padded(padded, tmp_path / "wide.safetensors", description=description)
    wide = load_model(tmp_path / "wide.safetensors")
    assert type(wide) is type(loaded)
    bound = 1e-5 if dtype == torch.float32 else 0.02  # bfloat16 has eight bits
    torch.testing.assert_close(wide(words_tb)[0], loaded(words_tb)[0], rtol=bound, atol=bound)
    torch.testing.assert_close(tensors_of(padded.undo()), tensors_of(loaded))
    shapes = undo_file(tmp_path / "wide.safetensors", tmp_path / "narrow.safetensors")
    assert all(before != now for before, now in shapes.values())
    narrow, expected = load_file(tmp_path / "narrow.safetensors"), load_file(path)
    assert narrow.keys() == expected.keys()
    assert all(each.equal(expected[name]) for name, each in narrow.items())
    assert (tmp_path / "narrow.safetensors").read_bytes() == path.read_bytes()


def test_states_beyond_the_tables_columns_are_refused() -> None:
    model = hlstm(9, 6)
    padder = make_padder(model, draw_words(model, steps=3, batch=2))
    with pytest.raises(LayoutError, match="can't be called"):
        padder.pad({"state_width": 10})


def test_a_sparse_model_is_refused(tmp_path: Path) -> None:
    write_sparse(hlstm(5, 6), tmp_path / "model.csr.safetensors")
    with pytest.raises(InvalidRequestError, match="holds a sparse model") as raised:
        load_exported(tmp_path / "model.csr.safetensors")
    assert "dense" in raised.value.hint


def test_the_whole_exported_model_is_asked_about() -> None:
    for model, kind, dims, to in (
        (hlstm(5, 6), "hlstm_lm", (7, 6), {"gate_width": (7, 8), "state_width": (6, 8)}),
        (
            settled(LSTMLanguageModel(11, 5, 7)),
            "lstm_lm",
            (7, 5),
            {"hidden_size": (7, 8), "embedding_width": (5, 8)},
        ),
    ):
        words_tb = draw_words(model, steps=6, batch=3)
        oracle = EightsOracle()
        grown = grow(
            make_padder(model, words_tb),
            Example(args=(words_tb,)),
            ask_whole(model, words_tb),
            oracle=oracle,
            time_s=1,
            race=RuledRace(lambda each: 1 / sum(w.numel() for w in each.parameters())),
        )
        ((asked, workload, params, _),) = oracle.asked
        assert (asked, workload) == (dims, kind)
        assert (params["batch"], params["steps"], params["vocabulary"]) == (3, 6, 11)
        assert grown.widths == to


@pytest.mark.parametrize(
    ("make", "shape"), [(batch_net, (2, 3, 4, 4)), (root_net, (2, 7, 3))], ids=["images", "rms"]
)
def test_a_users_module_is_written_and_loaded(
    make: Any, shape: tuple[int, ...], tmp_path: Path
) -> None:
    model, x = settled(make()), draw(*shape)
    path = tmp_path / "wide.safetensors"
    padded = pad(model, x, to={"0.units": 8})
    write_padded(padded, path)
    loaded = load_padded(make().eval(), path)
    torch.testing.assert_close(loaded(x), model(x))
    assert str(loaded) == str(padded.module)
    undo_file(path, tmp_path / "narrow.safetensors")
    back = load_padded(make().eval(), tmp_path / "narrow.safetensors")
    torch.testing.assert_close(tensors_of(back), tensors_of(model), rtol=1e-6, atol=0)
    # A module of other layers, a file without the way back, and one that isn't safetensors.
    with pytest.raises(ModelFileError, match="and the module differ"):
        load_padded(nn.Linear(3, 4), path)
    with pytest.raises(ModelFileError, match="has no undo map"):
        undo_file(tmp_path / "narrow.safetensors", tmp_path / "again.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ModelFileError, match="can't be read as a model"):
        undo_file(tmp_path / "text.safetensors", tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


@pytest.mark.parametrize(
    "undo",
    [5, [1], {"w": 1}, {"w": [1]}, {"w": [{}]}, {"w": [{**dict.fromkeys("abc"), "axis": 0}]}],
)
def test_a_damaged_way_back_is_told(undo: object, tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    save_file({"w": torch.zeros(4)}, path, {"lhp": json.dumps({"format": "x", "undo": undo})})
    with pytest.raises((ModelFileError, LayoutError)) as raised:
        undo_file(path, tmp_path / "narrow.safetensors")
    assert raised.value.hint and not (tmp_path / "narrow.safetensors").exists()
    save_file({"w": torch.zeros(4)}, path, {"lhp": json.dumps([undo])})
    with pytest.raises(ModelFileError, match="its description is no object"):
        undo_file(path, tmp_path / "narrow.safetensors")


STEP = {"axis": 0, "runs": 1, "each": 1, "before": 3, "now": 4, "averaged": 0}


def test_an_undo_map_by_hand() -> None:
    # Two runs of three units, of which two were there: 0 1 | 3 4; each unit has two indices.
    step = {**STEP, "runs": 2, "each": 2, "before": 2, "now": 3}
    found = undo_padding({"w": torch.arange(12.0)}, {"w": [step]})
    assert found["w"].tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    # From 4 units to 16, a weight was halved.
    step = {**STEP, "before": 4, "now": 16, "averaged": 1}
    found = undo_padding({"w": torch.full((16,), 1.5)}, {"w": [step]})
    assert found["w"].tolist() == [3.0] * 4


@pytest.mark.parametrize(
    "undo",
    [
        {"other": [STEP]},
        {"w": [{**STEP, "now": 5}]},
        {"w": [{**STEP, "before": 0}]},
        {"w": [{**STEP, "before": 5}]},
        {"w": [{**STEP, "axis": 1}]},
        {"w": [{"axis": 0}]},
    ],
)
def test_an_undo_map_that_does_not_fit(undo: dict[str, list[dict[str, int]]]) -> None:
    with pytest.raises(LayoutError):
        undo_padding({"w": torch.zeros(4)}, undo)
    assert undo_padding({"w": torch.zeros(4)}, {"w": [STEP]})["w"].shape == (3,)


def test_a_tied_weight_is_written_twice_and_tied_again(tmp_path: Path) -> None:
    model = settled(Tied())
    padder = Padder(model, WORDS)
    write_padded(padder.pad({"embed.units": 8}), tmp_path / "wide.safetensors")
    loaded = load_padded(Tied().eval(), tmp_path / "wide.safetensors")
    assert loaded.decode.weight is loaded.embed.weight
    torch.testing.assert_close(loaded(WORDS), model(WORDS))
