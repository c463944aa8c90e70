"""Runs a model on an example, and notes the input that each of its layers receives.

Runs the user's code in the user's process. Knows no workload.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from profiler_service.advice.example import Example, is_compiled, unwrap
from profiler_service.advice.loading import describe_raised
from profiler_service.advice.meta import take_to_meta
from profiler_service.advice.seen import Seen, look_at
from profiler_service.errors import ModelError

LEFT_BEHIND = "{} of the example can't be copied to the meta device: give its tensors themselves"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run of a model on an example showed, up to where it failed if it failed."""

    seen: Mapping[nn.Module, Seen] = field(default_factory=dict)
    """The largest input of each layer that was called."""
    problem: ModelError | None = None
    """What the model raised; None if it came to its end."""


def run_on(model: nn.Module, example: Example) -> Run:
    """What is seen of each layer that is called when the model runs on the example.

    Nothing is compiled, and the model is in evaluation mode meanwhile. If all of its parameters are
    on the meta device, the example's tensors are taken there: then nothing is computed.
    """
    seen: dict[nn.Module, Seen] = {}
    problem = None
    hint = "check that the example has the shapes and types that the model's forward takes"

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
    was_training = {each: each.training for each in model.modules()}
    try:
        if {each.device.type for each in model.parameters()} == {"meta"}:
            (args, kwargs), left = take_to_meta((example.args, dict(example.kwargs)))
            if left:
                hint = f"{LEFT_BEHIND.format(' and '.join(left))}; {hint}"
            example = Example(args=args, kwargs=kwargs)
        with torch.inference_mode(), _as_written():
            model.eval()(*example.args, **example.kwargs)
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever the user's code raises
        problem = describe_raised("the model, run on the example input,", error, hint=hint)
    finally:
        for each, training in was_training.items():
            each.training = training
        for hook in hooks:
            hook.remove()
    return Run(seen=seen, problem=problem)


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
