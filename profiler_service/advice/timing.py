"""How a model's time is divided among its layers, by some runs on the example.

A layer's time is its own: from the start to the end of each of its calls, without the layers that
it calls. What lies between the layers is the rest. Only shares are of use: the runs are in the
user's process, with its threads, without torch.compile and without the fused kernels that would
hide the layers. Watching adds some microseconds to each call. Knows no workload.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from profiler_service.advice.example import Example, unwrap
from profiler_service.advice.loading import describe_raised
from profiler_service.advice.running import evaluating, find_own_modules
from profiler_service.errors import ModelError

FEWEST_RUNS, MOST_RUNS = 3, 15
BUDGET_S = 2.0
"""So long the runs take, if a run is short enough."""
LONG_S = 2.0
"""A run that takes so long is the only one."""


@dataclass(frozen=True)
class Call:
    """Whose time it is: a module's, or that of the attention that it calls by itself."""

    module: nn.Module
    is_attention: bool = False


Mark = tuple[Call | None, bool, float]
"""Something begins (True) or ends at that time, in seconds. None: the whole run."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How the time of a model is divided."""

    run_s: float
    """Time of a run: the median."""
    num_runs: int
    of_calls: Mapping[Call, float]
    """Own share of each layer and of each module's attention; together with `rest` they are 1."""
    rest: float
    """Share of what no layer accounts for."""


def measure_shares(
    model: nn.Module,
    example: Example,
    layers: Collection[nn.Module],
    attention: Collection[nn.Module],
    clock: Clock | None = None,
) -> Shares:
    """How the time of the model is divided among these layers, when it runs on the example.

    `attention` are the modules that call scaled_dot_product_attention by themselves. Medians of
    some runs, which follow an untimed one. The `clock` is that of the model's device, unless given.
    Raises ModelError if the model isn't on a CPU or on CUDA, or can't be run again.
    """
    model = unwrap(model)
    clock = clock or _choose_clock(model)
    own_modules = find_own_modules(model)
    watch = _Watch(
        clock,
        layers=[each for each in own_modules if each in layers],
        attention=[each for each in own_modules if each in attention],
    )
    runs: list[Mapping[Call | None, float]] = []
    try:
        with evaluating(model):
            first = watch.run(model, example)
            first_s = sum(first.values())
            if first_s >= LONG_S:
                runs.append(first)
            else:
                wanted = int(BUDGET_S / max(first_s, 1e-9))
                for _ in range(min(max(wanted, FEWEST_RUNS), MOST_RUNS)):
                    runs.append(watch.run(model, example))
    except (Exception, SystemExit) as error:
        hint = "a model that can run only once has no shares of time"
        raise describe_raised("the model, run again on the example,", error, hint=hint) from error
    return divide(runs)


def divide(runs: Sequence[Mapping[Call | None, float]]) -> Shares:
    """Each call's share of the sum of all medians, from the own times of each run, in seconds."""
    calls = {call for run in runs for call in run}
    medians = {call: statistics.median(run.get(call, 0.0) for run in runs) for call in calls}
    total_s = sum(medians.values()) or 1.0
    return Shares(
        run_s=statistics.median(sum(run.values()) for run in runs),
        num_runs=len(runs),
        of_calls={call: own / total_s for call, own in medians.items() if call is not None},
        rest=medians.get(None, 0.0) / total_s,
    )


def find_own_times(marks: Sequence[Mark]) -> dict[Call | None, float]:
    """The own time of each call, in seconds: without what began and ended within it."""
    own: dict[Call | None, float] = defaultdict(float)
    running: list[Call | None] = []
    last_s = 0.0
    for call, begins, now_s in marks:
        if running:
            own[running[-1]] += now_s - last_s
        last_s = now_s
        if begins:
            running.append(call)
        else:
            running.pop()
    return dict(own)


class Clock(Protocol):
    """Tells the time between moments."""

    def mark(self) -> object:
        """This moment."""

    def read(self, moments: Sequence[Any]) -> list[float]:
        """When each moment was, in seconds after the first."""


class _ProcessorClock:
    def mark(self) -> object:
        return time.perf_counter_ns()

    def read(self, moments: Sequence[Any]) -> list[float]:
        return [(each - moments[0]) * 1e-9 for each in moments]


class _CudaClock:
    """Moments on the device's current stream, so that nothing waits while the model runs."""

    def mark(self) -> object:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def read(self, moments: Sequence[Any]) -> list[float]:
        torch.cuda.synchronize()
        return [moments[0].elapsed_time(each) * 1e-3 for each in moments]


def _choose_clock(model: nn.Module) -> Clock:
    devices = {each.device.type for each in (*model.parameters(), *model.buffers())}
    if "cuda" in devices:
        return _CudaClock()
    if devices - {"cpu"}:
        name = "meta" if "meta" in devices else min(devices - {"cpu"})
        raise ModelError(
            f"a model on the device {name!r} has no times",
            hint="put it on a CPU or on CUDA, with data, to see each layer's share of the time",
        )
    return _ProcessorClock()


class _Watch:
    """Marks where the calls of a model's layers begin and end."""

    def __init__(
        self, clock: Clock, *, layers: Collection[nn.Module], attention: Collection[nn.Module]
    ) -> None:
        self._clock = clock
        self._layers = {each: Call(each) for each in layers}
        self._attention = {each: Call(each, is_attention=True) for each in attention}
        self._callers: list[nn.Module] = []
        """The modules that are running now, of those that call attention."""
        self._marks: list[tuple[Call | None, bool, object]] = []

    def run(self, model: nn.Module, example: Example) -> dict[Call | None, float]:
        """The own time of each call in one run; of None, what no call accounts for."""
        self._marks.clear()
        self._callers.clear()
        hooks = []
        for each in {**self._layers, **self._attention}:
            hooks.append(each.register_forward_pre_hook(self._begin))
            # Before the user's own hooks, whose time isn't the layer's.
            hooks.append(each.register_forward_hook(self._end, prepend=True))
        try:
            with (
                _AttentionMarks(self._mark_attention)
                if self._attention
                else contextlib.nullcontext()
            ):
                self._mark(None, True)
                model(*example.args, **example.kwargs)
                self._mark(None, False)
        finally:
            for hook in hooks:
                hook.remove()
        moments_s = self._clock.read([moment for *_, moment in self._marks])
        return find_own_times(
            [
                (call, begins, at_s)
                for (call, begins, _), at_s in zip(self._marks, moments_s, strict=True)
            ]
        )

    def _mark(self, call: Call | None, begins: bool) -> None:
        self._marks.append((call, begins, self._clock.mark()))

    def _begin(self, module: nn.Module, _: object) -> None:
        if module in self._attention:
            self._callers.append(module)
        if module in self._layers:
            self._mark(self._layers[module], True)

    def _end(self, module: nn.Module, *_: object) -> None:
        if module in self._layers:
            self._mark(self._layers[module], False)
        if module in self._attention:
            self._callers.pop()

    def _mark_attention(self, begins: bool) -> None:
        if self._callers:
            self._mark(self._attention[self._callers[-1]], begins)


class _AttentionMarks(TorchFunctionMode):
    """Marks where each call of scaled_dot_product_attention begins and ends."""

    def __init__(self, mark: Callable[[bool], None]) -> None:
        super().__init__()
        self._mark = mark

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The function's own result."""
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self._mark(True)
        result = func(*args, **(kwargs or {}))
        self._mark(False)
        return result
