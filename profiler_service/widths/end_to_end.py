"""Races whole torch modules on an example, each in new memory a block, in turn with the worker."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from torch import nn

from profiler_service.advice.example import Example
from profiler_service.measurement.identity import find_device_id
from profiler_service.measurement.turn import hold_turn
from profiler_service.widths.race import Outcome, Prepare, race


def race_modules(
    models: Mapping[str, nn.Module], example: Example, *, reference: str, time_s: float
) -> Outcome:
    """Which of the models is fastest on the example, and how it compares with the reference.

    They run in evaluation mode, in this process and with its threads. While a block is measured, no
    worker measures on the device. Raises InvalidRequestError if there is nothing to race.
    """
    device = next(models[reference].parameters()).device.type
    device_id = find_device_id(device)
    return race(
        {name: prepare(model, example) for name, model in models.items()},
        reference=reference,
        time_s=time_s,
        take_turn=lambda: hold_turn(device_id),
    )


def prepare(model: nn.Module, example: Example) -> Prepare:
    """Makes calls of copies of the model on the example, for a race."""

    def make_call() -> Callable[[], object]:
        own = copy.deepcopy(model).eval()
        return lambda: own(*example.args, **example.kwargs)

    return make_call
