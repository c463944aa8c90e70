"""Runs a model on an example, and notes the input that each of its layers receives.

Runs the user's code in the user's process. Knows no workload.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from profiler_service.advice.loading import describe_raised

# Shapes: T time steps, B batch, I input_size, in_features or in_channels, R rows and C columns of
# an image, E embed_dim; … any dimensions.

CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"


@dataclass(frozen=True, kw_only=True)
class Example:
    """The arguments with which a model is called."""

    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Size and form of the input that a layer received."""

    batch: int
    """Rows, tokens, images or sequences."""
    steps: int = 1
    height: int = 0
    """Rows of an image; 0 if the input is no image, or nothing is known about it."""
    width: int = 0
    layout: str = CHANNELS_FIRST
    keys: int = 0
    """Of attention: tokens of the keys; 0 if nothing is known about them."""
    projections: str = "together"
    """Of attention: whether query, key and value are one tensor (`together`), only the last two
    (`key_value`), or neither (`each`)."""

    @property
    def size(self) -> int:
        """What tells the largest of several calls."""
        return self.batch * self.steps * max(self.height * self.width, 1)


def arrange_example(value: object, model: nn.Module) -> Example:
    """The arguments that `value` means for the model's `forward`.

    A tuple or a list means several arguments. A mapping, a dataclass or a named tuple means keyword
    arguments if `forward` has parameters of these names, and else is one argument. So is everything
    else, and a tuple that `forward` can't take as several arguments.
    """
    fields = _find_fields(value)
    try:
        signature = inspect.signature(_unwrap(model).forward)
    except (TypeError, ValueError):  # scripted and traced models may have none
        if isinstance(value, Mapping):
            return Example(kwargs=fields or {})
        is_several = fields is None and isinstance(value, (tuple, list))
        return Example(args=tuple(value) if is_several else (value,))  # type: ignore[arg-type]
    if fields is not None:
        names_any = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
        takes_them = (isinstance(value, Mapping) and names_any) or (
            fields.keys() <= signature.parameters.keys()
        )
        if takes_them and _can_bind(signature, Example(kwargs=fields)):
            return Example(kwargs=fields)
    elif isinstance(value, (tuple, list)) and _can_bind(signature, Example(args=tuple(value))):
        return Example(args=tuple(value))
    return Example(args=(value,))


def _find_fields(value: object) -> dict[str, object] | None:
    """The named parts of a value; None if its parts have no names."""
    if isinstance(value, PackedSequence):  # a named tuple, but one input
        return None
    if isinstance(value, Mapping):
        return {str(name): part for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    return None


def _can_bind(signature: inspect.Signature, example: Example) -> bool:
    try:
        signature.bind(*example.args, **example.kwargs)
    except TypeError:
        return False
    return True


def is_compiled(module: nn.Module) -> bool:
    """Whether it is what torch.compile wraps a module into. Its only part is the original one."""
    return type(module).__name__ == "OptimizedModule" and hasattr(module, "_orig_mod")


def _unwrap(model: nn.Module) -> nn.Module:
    """The model that torch.compile has wrapped; the model itself if it isn't wrapped."""
    return model.get_submodule("_orig_mod") if is_compiled(model) else model


def run_on(model: nn.Module, example: Example) -> dict[nn.Module, Seen]:
    """The largest input of each layer that is called when the model runs on the example.

    Nothing is compiled, and the model is in evaluation mode meanwhile. If all of its parameters are
    on the meta device, the example's tensors are taken there: then nothing is computed. Raises
    ModelError if the model raises.
    """
    seen: dict[nn.Module, Seen] = {}

    def note(layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        now = _look_at(layer, args, kwargs)
        if now is not None and now.size:  # an expert of a mixture may get no token
            seen[layer] = max(now, seen.get(layer, now), key=lambda each: each.size)

    model = _unwrap(model)
    hooks = [
        each.register_forward_pre_hook(note, with_kwargs=True)
        for each in model.modules()
        if not isinstance(each, torch.jit.ScriptModule) and not is_compiled(each)
    ]
    if {each.device.type for each in model.parameters()} == {"meta"}:
        example = _take_to_meta(example)
    was_training = {each: each.training for each in model.modules()}
    try:
        with torch.inference_mode(), _as_written():
            model.eval()(*example.args, **example.kwargs)
    except Exception as error:
        hint = "check that the example has the shapes and types that the model's forward takes"
        raise describe_raised("the model, run on the example input,", error, hint=hint) from error
    finally:
        for each, training in was_training.items():
            each.training = training
        for hook in hooks:
            hook.remove()
    return seen


@contextlib.contextmanager
def _as_written() -> Iterator[None]:
    """In this context, torch calls each layer: it compiles none, and fuses none of attention."""
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # Without dynamo, nothing is compiled, and importing it takes seconds.
        is_loaded = "torch._dynamo" in sys.modules
        with torch.compiler.set_stance("force_eager") if is_loaded else contextlib.nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)


def _take_to_meta(example: Example) -> Example:
    def take(leaf: object) -> object:
        if isinstance(leaf, torch.Tensor):
            return leaf.to("meta")
        if isinstance(leaf, PackedSequence):  # torch annotates only its dtypes
            return leaf.to("meta")  # type: ignore[arg-type]
        return leaf

    args, kwargs = pytree.tree_map(
        take,
        (example.args, dict(example.kwargs)),
        is_leaf=lambda node: isinstance(node, PackedSequence),  # its batch_sizes stay on the CPU
    )
    return Example(args=args, kwargs=kwargs)


def _look_at(
    layer: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Seen | None:
    """Size and form of the input of one call; None if it has no plain tensor."""
    inputs = (*args, *kwargs.values())
    given = next(
        (each for each in inputs if isinstance(each, (torch.Tensor, PackedSequence))), None
    )
    if given is None or (isinstance(given, torch.Tensor) and given.is_nested):
        return None
    if isinstance(given, PackedSequence):
        return Seen(batch=int(given.batch_sizes[0]), steps=len(given.batch_sizes))
    if isinstance(layer, nn.RNNBase):
        if given.dim() == 2:  # x_ti
            return Seen(batch=1, steps=given.shape[0])
        first, second = given.shape[:2]  # x_bti or x_tbi
        return (
            Seen(batch=first, steps=second)
            if layer.batch_first
            else Seen(batch=second, steps=first)
        )
    if isinstance(layer, nn.Embedding):  # tokens_…
        return Seen(batch=given.numel())
    if isinstance(layer, nn.Conv2d):  # x_birc or x_irc
        images = given if given.dim() == 4 else given[None]
        return Seen(
            batch=images.shape[0],
            height=images.shape[2],
            width=images.shape[3],
            layout=_find_layout(images, layer.weight),
        )
    if isinstance(layer, nn.MultiheadAttention):
        return _look_at_attention(given, args, kwargs)
    return Seen(batch=given.shape[:-1].numel())  # x_…i


def _find_layout(images_birc: torch.Tensor, weight_oirc: torch.Tensor) -> str:
    """The layout in which torch convolves: channels last if either operand lies so."""
    lies_so = any(
        each.is_contiguous(memory_format=torch.channels_last) and not each.is_contiguous()
        for each in (images_birc, weight_oirc)
    )
    return CHANNELS_LAST if lies_so else CHANNELS_FIRST


def _look_at_attention(
    query: torch.Tensor, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Seen:
    """Which of query_…e, key_…e and value_…e are one tensor, and so are projected together."""
    given = {**dict(zip(("query", "key", "value"), args, strict=False)), **kwargs}
    key, value = given.get("key"), given.get("value")
    query = found if isinstance(found := given.get("query"), torch.Tensor) else query
    tokens = query.shape[:-1].numel()
    keys = key.shape[:-1].numel() if isinstance(key, torch.Tensor) else tokens
    projections = "each" if key is not value else "together" if query is key else "key_value"
    return Seen(batch=tokens, keys=keys, projections=projections)
