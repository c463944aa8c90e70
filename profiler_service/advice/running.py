"""Runs a model on an example, and notes the input that each of its layers receives.

Runs the user's code in the user's process. Knows no workload.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from profiler_service.advice.example import Example, is_compiled, unwrap
from profiler_service.advice.loading import describe_raised
from profiler_service.advice.seen import Seen, look_at


def run_on(model: nn.Module, example: Example) -> dict[nn.Module, Seen]:
    """The largest input of each layer that is called when the model runs on the example.

    Nothing is compiled, and the model is in evaluation mode meanwhile. If all of its parameters are
    on the meta device, the example's tensors are taken there: then nothing is computed. Raises
    ModelError if the model raises.
    """
    seen: dict[nn.Module, Seen] = {}

    def note(layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        now = look_at(layer, args, kwargs)
        if now is not None and now.size:  # an expert of a mixture may get no token
            seen[layer] = max(now, seen.get(layer, now), key=lambda each: each.size)

    model = unwrap(model)
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
