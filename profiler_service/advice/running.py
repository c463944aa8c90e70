"""Runs a model on an example, and notes the input that each of its layers receives.

Runs the user's code in the user's process. Knows no workload.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from profiler_service.advice.attention import AttentionCall, AttentionWatch
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
    attention: Mapping[nn.Module, Sequence[AttentionCall]] = field(default_factory=dict)
    """The largest call of attention that each module made by itself, and one that isn't measured,
    if it made such calls."""
    problem: ModelError | None = None
    """What the model raised; None if it came to its end."""


def run_on(model: nn.Module, example: Example) -> Run:
    """What is seen of each layer that is called when the model runs on the example.

    Nothing is compiled, and the model is in evaluation mode meanwhile. If all of its parameters are
    on the meta device, the example's tensors are taken there: then nothing is computed.
    """
    model = unwrap(model)
    noticed = _Noticed(model)
    problem = None
    hint = "check that the example has the shapes and types that the model's forward takes"
    try:
        if {each.device.type for each in model.parameters()} == {"meta"}:
            (args, kwargs), left = take_to_meta((example.args, dict(example.kwargs)))
            if left:
                hint = f"{LEFT_BEHIND.format(' and '.join(left))}; {hint}"
            example = Example(args=args, kwargs=kwargs)
        with evaluating(model), noticed.hooked():
            model(*example.args, **example.kwargs)
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever the user's code raises
        problem = describe_raised("the model, run on the example input,", error, hint=hint)
    attention = {module: tuple(by_kind.values()) for module, by_kind in noticed.attention.items()}
    return Run(seen=noticed.seen, attention=attention, problem=problem)


class _Noticed:
    """What the modules of a model are called with, and the attention that they call."""

    def __init__(self, model: nn.Module) -> None:
        self.seen: dict[nn.Module, Seen] = {}
        self.attention: dict[nn.Module, dict[bool, AttentionCall]] = {}
        """By module, and whether the call isn't measured."""
        self._model = model
        self._running: list[nn.Module] = []

    @contextlib.contextmanager
    def hooked(self) -> Iterator[None]:
        """In this context, everything is noted."""
        hooks = []
        for each in find_own_modules(self._model):
            hooks.append(each.register_forward_pre_hook(self._begin, with_kwargs=True))
            hooks.append(each.register_forward_hook(self._end, always_call=True))
        try:
            with AttentionWatch(self._note_attention):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _begin(self, layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        self._running.append(layer)
        now = look_at(layer, args, kwargs)
        if now is not None and now.size:  # an expert of a mixture may get no token
            self.seen[layer] = max(now, self.seen.get(layer, now), key=lambda each: each.size)

    def _end(self, layer: nn.Module, args: object, output: object) -> None:
        while self._running and self._running.pop() is not layer:
            pass

    def _note_attention(self, call: AttentionCall) -> None:
        if not self._running:
            return
        known = self.attention.setdefault(self._running[-1], {})
        before = known.get(bool(call.problem), call)
        known[bool(call.problem)] = max(before, call, key=lambda each: each.size)


def find_own_modules(model: nn.Module) -> list[nn.Module]:
    """The model's modules that run as Python, and so can be watched."""
    return [
        each
        for each in model.modules()
        if not isinstance(each, torch.jit.ScriptModule) and not is_compiled(each)
    ]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In this context, the model is in evaluation mode, and each of its layers is called."""
    was_training = {each: each.training for each in model.modules()}
    try:
        with torch.inference_mode(), _as_written():
            model.eval()
            yield
    finally:
        for each, training in was_training.items():
            each.training = training


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
