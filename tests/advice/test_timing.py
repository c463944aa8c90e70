"""Shares of time: own times from marks, medians of runs, and what they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from profiler_service.advice.example import Example
from profiler_service.advice.layers import inspect_model
from profiler_service.advice.timing import Call, divide, find_own_times, measure_shares
from profiler_service.errors import ModelError


class FakeClock:
    """A clock that only the model's layers move on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def mark(self) -> object:
        return self.now_s

    def read(self, moments: Sequence[Any]) -> list[float]:
        return [each - moments[0] for each in moments]


class Takes(nn.Linear):
    """A layer that takes so long, and then calls another one."""

    def __init__(self, clock: FakeClock, seconds: float, inner: nn.Module | None = None) -> None:
        super().__init__(4, 4)
        self.clock, self.seconds, self.inner = clock, seconds, inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock.now_s += self.seconds
        return x if self.inner is None else self.inner(x)


class Glue(nn.Module):
    """Calls its layers one after the other, and takes long between them."""

    def __init__(self, clock: FakeClock, *layers: nn.Module) -> None:
        super().__init__()
        self.clock = clock
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
            self.clock.now_s += 0.001
        return x


FIRST, SECOND = Call(nn.Identity()), Call(nn.Identity())
X = Example(args=(torch.zeros(2, 4),))


def test_the_time_of_a_layer_within_another_one_is_only_its_own() -> None:
    marks = [
        (None, True, 0.0),
        (FIRST, True, 1.0),
        (SECOND, True, 3.0),
        (SECOND, False, 7.0),
        (FIRST, False, 8.0),
        (SECOND, True, 8.0),
        (SECOND, False, 9.0),
        (None, False, 12.0),
    ]
    # Before, and after: 1 + 3. First: 2 before the second and 1 after it. Second: 4 + 1.
    assert find_own_times(marks) == {None: 4.0, FIRST: 3.0, SECOND: 5.0}
    assert find_own_times([(None, True, 0.0), (None, False, 2.0)]) == {None: 2.0}


def test_shares_are_those_of_medians() -> None:
    runs = [{None: 1.0, FIRST: 3.0}, {None: 1.0, FIRST: 99.0}, {None: 1.0, FIRST: 2.0}]
    shares = divide(runs)
    # Medians 1 and 3; of whole runs 4, 100 and 3.
    assert (shares.rest, shares.of_calls) == (0.25, {FIRST: 0.75})
    assert (shares.run_s, shares.num_runs) == (4.0, 3)


def test_each_layer_has_its_own_time_and_the_rest_is_between_them() -> None:
    clock = FakeClock()
    inner = Takes(clock, 0.004)
    outer, twice, unlisted = Takes(clock, 0.010, inner), Takes(clock, 0.020), Takes(clock, 0.030)
    model = Glue(clock, outer, twice, twice, unlisted)
    shares = measure_shares(model, X, {inner, outer, twice}, (), clock)
    # In milliseconds: 10, 4, 20 twice; the rest 30 and 4 · 1. Of 88.
    assert shares.run_s == pytest.approx(0.088) and shares.num_runs == 15
    assert shares.of_calls == pytest.approx(
        {Call(outer): 10 / 88, Call(inner): 4 / 88, Call(twice): 40 / 88}
    )
    assert shares.rest == pytest.approx(34 / 88)


@pytest.mark.parametrize(
    ("seconds", "runs"),
    [
        (0.4, 5),  # that many fit into 2 s
        (1.5, 3),
        (2.5, 1),
    ],
)
def test_long_runs_are_few(seconds: float, runs: int) -> None:
    clock = FakeClock()
    layer = Takes(clock, seconds)
    assert measure_shares(layer, X, {layer}, (), clock).num_runs == runs


def test_attention_that_a_module_calls_has_a_time_of_its_own() -> None:
    clock = FakeClock()

    class Slow(torch.Tensor):
        """Moves the clock on in attention."""

        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is scaled_dot_product_attention:
                clock.now_s += 0.003
            plain: Any = super().__torch_function__
            return plain(func, types, args, kwargs or {})

    class Attends(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            slow = torch.zeros(1, 2, 3, 4).as_subclass(Slow)
            scaled_dot_product_attention(slow, slow, slow)
            return x

    attends, layer = Attends(), Takes(clock, 0.006)
    shares = measure_shares(Glue(clock, attends, layer), X, {layer}, {attends}, clock)
    # 3, 6 and 2 · 1 ms.
    assert shares.of_calls == pytest.approx(
        {Call(attends, is_attention=True): 3 / 11, Call(layer): 6 / 11}
    )


def test_a_model_is_as_before_afterwards() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    measure_shares(model, X, {model[0]}, ())
    assert model.training
    assert not any(each._forward_pre_hooks or each._forward_hooks for each in model.modules())


def test_models_that_have_no_times() -> None:
    model = nn.Linear(4, 4, device="meta")
    with pytest.raises(ModelError, match="on the device 'meta' has no times"):
        measure_shares(model, X, {model}, ())
    found = inspect_model(model, batch=1, steps=1, example=X, timed=True)
    assert found.shares is None and found.shares_problem is not None
    failing = Example(args=(torch.zeros(2, 5),))
    found = inspect_model(nn.Linear(4, 4), batch=1, steps=1, example=failing, timed=True)
    assert found.shares is None and found.shares_problem is None and found.problem is not None


def test_real_layers_have_shares_that_are_one_together() -> None:
    model = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 4), nn.Linear(4, 4))
    example = Example(args=(torch.zeros(64, 2048),))
    found = inspect_model(model, batch=1, steps=1, example=example, timed=True)
    assert found.shares is not None
    large, small, least = (each.time_share or 0 for each in found.layers)
    # 512 times as many products as in the second layer: milliseconds, not microseconds.
    assert large > small > 0 and large > least > 0
    assert large + small + least + found.shares.rest == pytest.approx(1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_shares_on_a_gpu() -> None:
    model = nn.Sequential(nn.Linear(8192, 8192), nn.ReLU(), nn.Linear(8192, 4)).cuda()
    example = Example(args=(torch.zeros(4096, 8192, device="cuda"),))
    found = inspect_model(model, batch=1, steps=1, example=example, timed=True)
    large, small = (each.time_share or 0 for each in found.layers)
    assert large > 0.5 > small > 0
