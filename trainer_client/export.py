"""Writes finished models to files: small dense ones, and sparse ones for kernels that skip zeros.

    model = load_dense("run/models/weights.safetensors")   # or load_sparse("….csr.safetensors")
    scores_tbv, state = model(words_tb)

A dense model is the network that the service measures as `hlstm_lm`, with the live dims and
without masks. A sparse model computes the same through products of compressed sparse rows. Each
file holds the model's vocabulary, too: `scoring` reads texts with it. Knows nothing of training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from profiler_service.errors import LhpError
from profiler_service.networks import (
    BoundHLSTM,
    HLSTMLanguageModel,
    HLSTMMatrices,
    HLSTMWeights,
    LSTMLanguageModel,
    bind_csr,
)
from profiler_service.networks.hlstm import NUM_GATES
from profiler_service.networks.products import csr_weight
from trainer_client.files import make_directory, write_whole
from trainer_client.groups.layers import STATE, STATE_AXIS
from trainer_client.groups.shrinking import shrink
from trainer_client.run.training_run import TrainingRun
from trainer_client.tasks.language_model.corpus import Vocabulary
from trainer_client.tasks.language_model.networks import MaskedHLSTM, StackedLSTM
from trainer_client.tasks.language_model.task import LanguageModelling

# Shapes: T time steps, B batch, N = T · B, V vocabulary, E = I embedding_width, S state_width,
# G gate_width, K the four gates, Q = K · G, M = max(E, S), U = K · S.

DENSE = "lhp-hlstm-lm-1"
SPARSE = "lhp-hlstm-lm-csr-1"
BASELINE = "lhp-lstm-lm-1"
_MATRICES = ("input_qi", "recurrent_qs", "gate_uq")


class ModelFileError(LhpError):
    """A file doesn't contain a complete model of the kind asked for."""


def shrink_model(
    model: MaskedHLSTM, *, gate_width: int | None = None, state_width: int | None = None
) -> HLSTMLanguageModel:
    """A network without masks that computes the same, with the live dims or larger dims.

    States are renumbered, and the table's columns with them, so that the decoder reads the
    first ones. If some states beyond the embedding's columns live and some within them don't, all
    states stay, because the embedding reads the first columns. Raises InvalidRequestError for
    widths that are too small for the live units.
    """
    with torch.no_grad():
        widths = {"gate_width": gate_width, "state_width": state_width}
        asked = {axis: width for axis, width in widths.items() if width is not None}
        small = shrink(model.layout, model.weights, model.masks, widths=asked)
        embedding_width = model.config.embedding_width
        if _leaves_a_column_out(small.index[STATE], embedding_width):
            asked[STATE_AXIS] = model.widths[STATE_AXIS]
            small = shrink(model.layout, model.weights, model.masks, widths=asked)
        index_s = small.index[STATE]
        kept = set(index_s.tolist())
        rest = [m for m in range(model.table.shape[1]) if m not in kept]
        columns_m = torch.cat([index_s, torch.tensor(rest, dtype=torch.int64).to(index_s)])
        width = max(embedding_width, len(index_s))
        layer = dict(small.weights)
        layer["input_kgi"] = layer["input_kgi"][:, :, columns_m[:embedding_width]]
        return _build(
            embedding_width,
            {
                "table_vm": model.table[:, columns_m[:width]],
                "decoder_bias_v": model.network.decoder_bias_v,
                **{f"layer.{name}": weight for name, weight in layer.items()},
            },
        )


def _leaves_a_column_out(state_index_s: Tensor, embedding_width: int) -> bool:
    """Whether states beyond the embedding's columns live, and not all states within them."""
    inside = state_index_s < embedding_width
    return not bool(inside.all()) and int(inside.sum()) < embedding_width


def write_dense(
    model: HLSTMLanguageModel, path: str | os.PathLike[str], vocabulary: Vocabulary | None = None
) -> None:
    """Returns once the network is on disk as safetensors. Raises FileError."""
    _write(path, model.state_dict(), DENSE, model.embedding_width, vocabulary)


def load_dense(path: str | os.PathLike[str]) -> HLSTMLanguageModel:
    """The network in the file, on the CPU, for inference. Raises ModelFileError."""
    tensors, embedding_width = _read(path, DENSE)
    try:
        return _build(embedding_width, tensors)
    except (KeyError, RuntimeError) as error:
        raise ModelFileError(
            f"{path} lacks a part of its model: {error}", hint="export it again"
        ) from error


def load_baseline(path: str | os.PathLike[str]) -> LSTMLanguageModel:
    """The baseline in the file, on the CPU, for inference. Raises ModelFileError."""
    tensors, embedding_width = _read(path, BASELINE)
    try:
        _, hidden_size = tensors["first.weight_hh_l0"].shape
        with torch.device("meta"):
            network = LSTMLanguageModel(len(tensors["table_ve"]), embedding_width, hidden_size)
        network.load_state_dict(tensors, assign=True)
    except (KeyError, RuntimeError) as error:
        raise ModelFileError(
            f"{path} lacks a part of its model: {error}", hint="export it again"
        ) from error
    return network.requires_grad_(False).eval()


class SparseLanguageModel(nn.Module):
    """A language model like HLSTMLanguageModel, with sparse products in its layer.

    The layer is the one that the service measures with the backend `csr`. For inference on a CPU.
    """

    table_vm: Tensor
    decoder_bias_v: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], embedding_width: int) -> None:
        """The model of these tensors, which `sparse_tensors` makes. They aren't copied."""
        super().__init__()
        self.embedding_width = embedding_width
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self.state_width = len(tensors["gate_bias_u"]) // NUM_GATES
        shapes = _sparse_shapes(tensors, embedding_width)
        matrices = {
            name: csr_weight(
                tensors[f"{name}_crow"], tensors[f"{name}_column"], tensors[f"{name}_value"], shape
            )
            for name, shape in shapes.items()
        }
        self.num_weights = sum(each.values().numel() for each in matrices.values())
        """Nonzero weights of H and W."""
        bound = bind_csr(
            HLSTMMatrices(
                **matrices,
                hidden_bias_q=tensors["hidden_bias_q"],
                gate_bias_u=tensors["gate_bias_u"],
            )
        )
        self.layer = BoundHLSTM(bound, input_size=embedding_width, state_width=self.state_width)

    @torch.no_grad()
    def forward(
        self, words_tb: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Scores of the next word scores_tbv, and the last (h_bs, c_bs)."""
        x_tbe = F.embedding(words_tb, self.table_vm[:, : self.embedding_width])
        h_tbs, state = self.layer(x_tbe, state)
        decoder_vs = self.table_vm[:, : self.state_width]
        scores_nv = F.linear(h_tbs.flatten(0, 1), decoder_vs, self.decoder_bias_v)
        return scores_nv.view(*words_tb.shape, -1), state


def _sparse_shapes(
    tensors: Mapping[str, Tensor], embedding_width: int
) -> dict[str, tuple[int, int]]:
    num_units, num_rows = len(tensors["hidden_bias_q"]), len(tensors["gate_bias_u"])
    return {
        "input_qi": (num_units, embedding_width),
        "recurrent_qs": (num_units, num_rows // NUM_GATES),
        "gate_uq": (num_rows, num_units),
    }


_PARTS = ("crow", "column", "value")


def sparse_tensors(network: HLSTMLanguageModel) -> dict[str, Tensor]:
    """The tensors of a SparseLanguageModel: the network's nonzeros, and its dense parts."""
    layer: HLSTMWeights = network.layer.weights()
    with torch.no_grad():
        matrices = {
            "input_qi": layer.input_kgi.flatten(0, 1),
            "recurrent_qs": layer.recurrent_kgs.flatten(0, 1),
            "gate_uq": _block_diagonal(layer.gate_ksg),
        }
        tensors = {
            "table_vm": network.table_vm.detach().clone(),
            "decoder_bias_v": network.decoder_bias_v.detach().clone(),
            "hidden_bias_q": layer.hidden_bias_kg.detach().flatten().clone(),
            "gate_bias_u": layer.gate_bias_ks.detach().flatten().clone(),
        }
        for name, weight_mn in matrices.items():
            rows, columns = weight_mn.nonzero(as_tuple=True)
            crow = torch.zeros(len(weight_mn) + 1, dtype=torch.int32)
            crow[1:] = torch.bincount(rows, minlength=len(weight_mn)).cumsum(0)
            tensors[f"{name}_crow"] = crow
            tensors[f"{name}_column"] = columns.int()
            tensors[f"{name}_value"] = weight_mn[rows, columns].detach().clone()
    return tensors


def write_sparse(
    network: HLSTMLanguageModel, path: str | os.PathLike[str], vocabulary: Vocabulary | None = None
) -> None:
    """Returns once the network's nonzeros are on disk as safetensors. Raises FileError."""
    _write(path, sparse_tensors(network), SPARSE, network.embedding_width, vocabulary)


def load_sparse(path: str | os.PathLike[str]) -> SparseLanguageModel:
    """The model in the file, on the CPU, for inference. Raises ModelFileError."""
    tensors, embedding_width = _read(path, SPARSE)
    _check_sparse(path, tensors, embedding_width)
    return SparseLanguageModel(tensors, embedding_width).eval()


def write_models(run: TrainingRun[Any], dims: tuple[int, int], directory: Path) -> None:
    """Returns once the model of the run's current step is on disk, under the step's name.

    The run is one of language modelling. Writes a dense network of these dims (gate_width,
    state_width), and in step (d), `weights`, also a sparse one of the live dims. Of the baseline,
    writes the parameters. All have the run's vocabulary. Raises FileError.
    """
    if run.ranks.rank != 0:
        return
    assert isinstance(run.task, LanguageModelling)
    path = directory / f"{run.step}.safetensors"
    vocabulary = Vocabulary(words=run.task.words)
    if isinstance(run.model, StackedLSTM):
        tensors = run.model.network.state_dict()
        _write(path, tensors, BASELINE, run.task.config.embedding_width, vocabulary)
        return
    assert isinstance(run.model, MaskedHLSTM)
    network = shrink_model(run.model, gate_width=dims[0], state_width=dims[1])
    write_dense(network, path, vocabulary)
    if run.step == "weights":
        write_sparse(shrink_model(run.model), path.with_suffix(".csr.safetensors"), vocabulary)


def _check_sparse(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], embedding_width: int
) -> None:
    """Raises ModelFileError if an index is outside its matrix: the kernels don't check that."""
    names = ("table_vm", "decoder_bias_v", "hidden_bias_q", "gate_bias_u")
    wanted = {*names, *(f"{name}_{part}" for name in _MATRICES for part in _PARTS)}
    is_fine = set(tensors) == wanted
    if is_fine:
        shapes = _sparse_shapes(tensors, embedding_width)
        for name, (rows, columns) in shapes.items():
            crow, column, value = (tensors[f"{name}_{part}"] for part in _PARTS)
            is_fine &= (
                len(crow) == rows + 1
                and int(crow[0]) == 0
                and bool((crow.diff() >= 0).all())
                and int(crow[-1]) == len(column) == len(value)
                and crow.dtype == column.dtype == torch.int32
                and bool(((column >= 0) & (column < columns)).all())
            )
    if not is_fine:
        raise ModelFileError(
            f"{path} lacks a part of its model, or its parts don't fit", hint="export it again"
        )


def _build(embedding_width: int, tensors: Mapping[str, Tensor]) -> HLSTMLanguageModel:
    """The network of these tensors, copied, on the CPU, for inference."""
    _, state_width, gate_width = tensors["layer.gate_ksg"].shape
    with torch.device("meta"):  # draws no random numbers, so that exporting doesn't change the run
        network = HLSTMLanguageModel(
            len(tensors["table_vm"]), embedding_width, state_width, gate_width
        )
    copies = {name: each.detach().cpu().clone() for name, each in tensors.items()}
    network.load_state_dict(copies, assign=True)
    return network.requires_grad_(False).eval()


def _block_diagonal(gate_ksg: Tensor) -> Tensor:
    """All gates' W as one matrix, gate_uq."""
    num_gates, state_width, gate_width = gate_ksg.shape
    gate_ksjg = gate_ksg.new_zeros(num_gates, state_width, num_gates, gate_width)
    for k in range(num_gates):
        gate_ksjg[k, :, k] = gate_ksg[k]
    return gate_ksjg.view(num_gates * state_width, num_gates * gate_width)


def load_model(path: str | os.PathLike[str]) -> LoadedModel:
    """The model in the file, of any kind, on the CPU. Raises ModelFileError."""
    with _opened(path) as (_, metadata):
        kind = str(metadata.get("format", "no model"))
    if kind not in _LOADERS:
        raise ModelFileError(
            f"{path} holds {kind!r}", hint="name a file of a run's folder `models`"
        )
    return _LOADERS[kind](path)


LoadedModel = HLSTMLanguageModel | LSTMLanguageModel | SparseLanguageModel
_LOADERS: Mapping[str, Callable[[str | os.PathLike[str]], LoadedModel]] = {
    DENSE: load_dense,
    SPARSE: load_sparse,
    BASELINE: load_baseline,
}


def load_vocabulary(path: str | os.PathLike[str]) -> Vocabulary:
    """The vocabulary of the model in the file. Raises ModelFileError if there is none."""
    with _opened(path) as (_, metadata):
        if "text" in metadata:
            return Vocabulary(**{**metadata["text"], "words": tuple(metadata["text"]["words"])})
    raise ModelFileError(
        f"{path} has no vocabulary, so it can't be told which words its tokens are: an earlier"
        " version of this software exported it",
        hint="it can be loaded and computes as before; to score texts, train and export again",
    )


def _write(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    kind: str,
    embedding_width: int,
    vocabulary: Vocabulary | None,
) -> None:
    make_directory(Path(path).parent)
    contiguous = {name: each.contiguous().cpu() for name, each in tensors.items()}
    told: dict[str, Any] = {"format": kind, "embedding_width": embedding_width}
    if vocabulary is not None:
        told["text"] = dataclasses.asdict(vocabulary)
    # Only one entry: the order of several would differ from file to file.
    write_whole(Path(path), save(contiguous, {"lhp": json.dumps(told)}))


def _read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Tensor], int]:
    """The tensors in a file of that kind, and the embedding's width."""
    with _opened(path) as (file, metadata):
        if metadata.get("format") != kind:
            raise ModelFileError(
                f"{path} holds {metadata.get('format', 'no model')!r}, not {kind!r}",
                hint="load_baseline reads baseline.safetensors, load_sparse"
                " ….csr.safetensors, load_dense all others, load_model any",
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, int(metadata["embedding_width"])


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The file, and its description of the model. Errors in this context become ModelFileErrors."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file, json.loads((file.metadata() or {}).get("lhp", "{}"))
    except OSError as error:
        raise ModelFileError(
            f"{path} can't be read: {error}", hint="name a model of a run: DIR/models/weights…"
        ) from error
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"{path} can't be read as a model: {error}", hint="export it again"
        ) from error
