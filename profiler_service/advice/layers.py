"""The layers of a user's torch model, and the question to ask the service about each.

Runs the user's code in the user's process. Knows neither the service nor terminals.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from profiler_service.advice.loading import describe_raised
from profiler_service.errors import InvalidRequestError, ModelError
from profiler_service.grid import MAX_DIM
from profiler_service.suggestions import did_you_mean
from profiler_service.workload import DTYPE_SIZES_BYTES, Dims, ParamValue

# Shapes: T time steps, B batch, I input_size or in_features; … any dimensions.

_KINDS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Linear, "linear"),
    (nn.LSTM, "lstm"),
    (nn.GRU, "gru"),
)
_SIZES = {
    "linear": ("out_features", "in_features"),
    "lstm": ("hidden_size", "input_size"),
    "gru": ("hidden_size", "input_size"),
}
_DTYPES = f"{', '.join(list(DTYPE_SIZES_BYTES)[:-1])} or {list(DTYPE_SIZES_BYTES)[-1]}"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of a model, and the workload that has the same sizes."""

    name: str
    """Its name in `named_modules`; empty for the model itself."""
    kind: str
    dims: Dims
    params: tuple[tuple[str, ParamValue], ...]
    problem: str = ""
    """Why the service can't be asked about it; empty if it can."""

    def sizes(self, dims: Dims) -> dict[str, int]:
        """The constructor arguments that give the layer these `dims`, its own width first."""
        return dict(zip(_SIZES[self.kind], dims, strict=True))


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Size of the input that a layer received."""

    batch: int
    steps: int = 1

    @classmethod
    def by(cls, layer: nn.Module, given: torch.Tensor | PackedSequence) -> _Seen:
        if isinstance(given, PackedSequence):
            return cls(batch=int(given.batch_sizes[0]), steps=len(given.batch_sizes))
        if isinstance(layer, nn.Linear):  # x_…i
            return cls(batch=given.shape[:-1].numel())
        assert isinstance(layer, nn.RNNBase)
        if given.dim() == 2:  # x_ti
            return cls(batch=1, steps=given.shape[0])
        first, second = given.shape[:2]  # x_bti or x_tbi
        return (
            cls(batch=first, steps=second) if layer.batch_first else cls(batch=second, steps=first)
        )


def find_layers(
    model: nn.Module,
    *,
    batch: int,
    steps: int,
    dtype: str | None = None,
    example: tuple[tuple[object, ...], dict[str, object]] | None = None,
) -> list[Layer]:
    """Every nn.Linear, nn.LSTM and nn.GRU, in the model's order; a shared layer appears once.

    If an `example` input is given, the model runs on it. Each layer that was called then has the
    batch and steps of that call, or the largest if there were several calls. Every other layer
    has `batch` and `steps`. Each layer has its own dtype unless `dtype` is given.

    Raises ModelError if there is no such layer, or the model can't run on the example;
    InvalidRequestError if `dtype` isn't measured.
    """
    if dtype is not None and dtype not in DTYPE_SIZES_BYTES:
        raise InvalidRequestError(
            f"dtype {dtype!r} isn't measured",
            hint=did_you_mean(dtype, DTYPE_SIZES_BYTES) + f"give --dtype {_DTYPES}",
        )
    kinds = [
        (name, module, kind)
        for name, module in model.named_modules()
        for layer_type, kind in _KINDS
        if isinstance(module, layer_type)
    ]
    if not kinds:
        raise ModelError(
            f"{type(model).__name__} has no nn.Linear, nn.LSTM or nn.GRU",
            hint="only these layers are supported: for others, write a workload kind as"
            " docs/guides/add-a-workload-kind.md describes",
        )
    seen = {} if example is None else _run(model, {m for _, m, _ in kinds}, example)
    assumed = _Seen(batch=batch, steps=steps)
    return [
        _describe(name, module, kind, seen.get(module, assumed), dtype)
        for name, module, kind in kinds
    ]


def _describe(name: str, module: nn.Module, kind: str, seen: _Seen, dtype: str | None) -> Layer:
    dtype = dtype or str(next(module.parameters()).dtype).removeprefix("torch.")
    params: dict[str, ParamValue] = {"batch": seen.batch, "dtype": dtype}
    problem = ""
    if isinstance(module, nn.Linear):
        dims = module.out_features, module.in_features
    else:
        assert isinstance(module, nn.RNNBase)
        dims = module.hidden_size, module.input_size
        params |= {
            "steps": seen.steps,
            "layers": module.num_layers,
            "direction": "bi" if module.bidirectional else "uni",
        }
        if module.proj_size:
            problem = "LSTMs with proj_size aren't measured"
    if min(dims) < 1:
        problem = "its sizes aren't known before it has run: give an --example"
    elif max(dims) > MAX_DIM:
        problem = f"larger than {MAX_DIM}, the largest dimension that is measured"
    elif dtype not in DTYPE_SIZES_BYTES:
        problem = f"{dtype} isn't measured: give --dtype {_DTYPES}"
    return Layer(
        name=name, kind=kind, dims=dims, params=tuple(sorted(params.items())), problem=problem
    )


def _run(
    model: nn.Module,
    layers: set[nn.Module],
    example: tuple[tuple[object, ...], dict[str, object]],
) -> dict[nn.Module, _Seen]:
    """The largest input that each layer receives when the model runs on the example."""
    seen: dict[nn.Module, _Seen] = {}

    def note(layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        given = args[0] if args else kwargs.get("input")
        if isinstance(given, (torch.Tensor, PackedSequence)):
            now = _Seen.by(layer, given)
            before = seen.get(layer, now)
            seen[layer] = max(now, before, key=lambda each: each.batch * each.steps)

    hooks = [each.register_forward_pre_hook(note, with_kwargs=True) for each in layers]
    args, kwargs = example
    was_training = model.training
    try:
        with torch.inference_mode():
            model.eval()(*args, **kwargs)
    except Exception as error:
        hint = "check that the example has the shapes and types that the model's forward takes"
        raise describe_raised("the model, run on the example input,", error, hint=hint) from error
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return seen
