"""The models that a run exports, ready to be padded: their units are known, and what to ask.

The service measures both kinds as whole models.
"""

from __future__ import annotations

import dataclasses
import os

import torch
from torch import Tensor, nn

from profiler_service.advice.questions import Question
from profiler_service.errors import InvalidRequestError
from profiler_service.networks import HLSTMLanguageModel, LSTMLanguageModel
from trainer_client.export import load_model
from trainer_client.groups.discovery import FoundUnits
from trainer_client.groups.layers import HLSTM_LAYOUT, recurrent_layout
from trainer_client.groups.layout import Layout, Part, UnitGroup
from trainer_client.groups.padding import Padder
from trainer_client.widths.questions import AskedLayer, Followed

WHOLE = "the whole model"


def load_exported(path: str | os.PathLike[str]) -> HLSTMLanguageModel | LSTMLanguageModel:
    """The dense model in the file. Raises ModelFileError, InvalidRequestError for a sparse one."""
    model = load_model(path)
    if isinstance(model, HLSTMLanguageModel | LSTMLanguageModel):
        return model
    raise InvalidRequestError(
        f"{path} holds a sparse model: its products skip zeros, so more of them change nothing",
        hint="pad the dense model of the same run: weights.safetensors",
    )


def make_padder(
    model: HLSTMLanguageModel | LSTMLanguageModel, words_tb: Tensor
) -> Padder[nn.Module]:
    """The model with its units, to be padded. Outputs are compared on these words."""
    layout = _hlstm_units(model) if isinstance(model, HLSTMLanguageModel) else _lstm_units()
    return Padder(model, words_tb, found=FoundUnits(layout=layout, fixed={}))


def _hlstm_units(model: HLSTMLanguageModel) -> Layout:
    """The layer's units. The table's first columns are the decoder's, as far as states reach.

    States beyond the embedding's columns need more columns; others have them, and read zero times
    what stands there.
    """
    groups = []
    for group in HLSTM_LAYOUT.groups:
        parts = [
            dataclasses.replace(part, parameter=f"layer.{part.parameter}") for part in group.parts
        ]
        if group.dimension == "state_width" and model.layer.state_width >= model.embedding_width:
            parts.append(Part(parameter="table_vm", axis=1, role="outgoing"))
        groups.append(dataclasses.replace(group, parts=tuple(parts)))
    return Layout(groups=tuple(groups), matrices=())


def _lstm_units() -> Layout:
    """The hidden units between both layers, and those that the table has in common with both."""
    (hidden,) = recurrent_layout(
        "first",
        num_gates=4,
        readers=(Part(parameter="second.weight_ih_l0", axis=1, role="outgoing"),),
    ).groups
    (second,) = recurrent_layout("second", num_gates=4).groups
    embedding = UnitGroup(
        name="embedding",
        axis="embedding_width",
        parts=(
            *second.parts,
            Part(parameter="table_ve", axis=1, role="outgoing"),
            Part(parameter="first.weight_ih_l0", axis=1, role="outgoing"),
        ),
    )
    return Layout(groups=(dataclasses.replace(hidden, axis="hidden_size"), embedding), matrices=())


def draw_words(model: nn.Module, *, steps: int, batch: int) -> Tensor:
    """Random words of the model's vocabulary, words_tb: the same at every call."""
    vocabulary = len(next(iter(model.parameters())))
    return torch.randint(vocabulary, (steps, batch), generator=torch.Generator().manual_seed(0))


def ask_whole(model: HLSTMLanguageModel | LSTMLanguageModel, words_tb: Tensor) -> Followed:
    """The question about the whole model, as it reads these words."""
    steps, batch = words_tb.shape
    dtype = str(model.decoder_bias_v.dtype).removeprefix("torch.")
    params: dict[str, int | str] = {"batch": batch, "steps": steps, "dtype": dtype}
    params["vocabulary"] = len(model.decoder_bias_v)
    if isinstance(model, HLSTMLanguageModel):
        params["input_size"] = model.embedding_width
        kind, axes = "hlstm_lm", {"gate_width": model.layer.gate_width}
        axes["state_width"] = model.layer.state_width
    else:
        kind, axes = "lstm_lm", {"hidden_size": model.first.hidden_size}
        axes["embedding_width"] = model.second.hidden_size
    question = Question(kind=kind, dims=tuple(axes.values()), params=tuple(sorted(params.items())))
    follows = {place: (axis, 1) for place, axis in enumerate(axes)}
    layer = AskedLayer(names=(WHOLE,), question=question, follows=follows)
    return Followed(layers=(layer,), refused={})
