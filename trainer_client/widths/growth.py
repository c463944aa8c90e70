"""A trained module at its latency hysteresis points: the same function in less time.

The oracle says of each layer which larger sizes it thinks faster. The module is padded to them, and
both are raced end to end. Only what the race shows is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from profiler_service.advice.example import Example
from profiler_service.widths.end_to_end import race_modules
from profiler_service.widths.race import Outcome
from trainer_client.groups.layout import LayoutError
from trainer_client.groups.padding import Padded, Padder, UnequalOutputsError
from trainer_client.oracle.protocol import LatencyOracle
from trainer_client.widths.questions import (
    AskedLayer,
    Followed,
    ask_each,
    choose_widths,
    find_followers,
)

M = TypeVar("M", bound=nn.Module)

FINAL_SHARE = 0.5
"""Share of the race's time for the grown module against the original one. The rest is for the
question which axes pay."""
WORTH = 0.005
"""What is grown must surely save more than this share of the time. Another process may differ by
some tenths of a percent, which a race in one process doesn't show."""
NOW, GROWN = "now", "grown"


class RaceModules(Protocol):
    """As `race_modules` of the service's `widths.end_to_end`."""

    def __call__(
        self, models: Mapping[str, nn.Module], example: Example, *, reference: str, time_s: float
    ) -> Outcome:
        """How the other models compare with the reference."""


@dataclass(frozen=True, kw_only=True)
class AxisGrowth:
    """What became of an axis."""

    axis: str
    before: int
    now: int
    proposed: int
    """The width at which its layers alone are fastest together with what they read."""
    layers: tuple[str, ...]
    """Those whose sizes follow it, and that the oracle was asked about."""
    reason: str
    """Why it wasn't grown; empty if it was."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grown(Generic[M]):
    """A module at its latency hysteresis points, as far as they pay."""

    module: M
    """The padded module; the original one itself if nothing pays."""
    axes: tuple[AxisGrowth, ...]
    refused: Mapping[str, str]
    """Layers whose units can't be padded, and why."""
    asked: tuple[AskedLayer, ...]
    """What the oracle said of the layers."""
    outcome: Outcome | None
    """The race of the padded module against the original one, in samples that had no part in any
    choice; its comparison has the interval. None if there was nothing to race."""
    padded: Padded[M] | None
    """The padded module with its largest difference and its undo; None if nothing pays."""

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """For each axis, its units before and now."""
        return {each.axis: (each.before, each.now) for each in self.axes}

    def undo(self) -> M:
        """The module with the units that it had, as they are now."""
        return self.module if self.padded is None else self.padded.undo()


def grow_to_lhp(
    module: M,
    *example: Any,
    oracle: LatencyOracle,
    time_s: float = 60.0,
    max_growth: float = 0.125,
    logits: Collection[str] = (),
    race: RaceModules = race_modules,
    say: Callable[[str], None] = lambda line: None,
    **keywords: Any,
) -> Grown[M]:
    """The module, padded along each axis whose growth pays, end to end.

    The example is what the module is called with in use: latencies depend on its batch and its
    lengths. The oracle is asked about every layer that an axis changes, and a workload kind
    measures. Axes grow by the share `max_growth` or by 32 at most. Then the module races in this
    process for about `time_s` seconds: first with and without each axis, beginning with that which
    promises least, then against the original one. What isn't surely faster by more than WORTH is
    left out. The module is in evaluation mode meanwhile. `race` is for tests.

    Raises LayoutError if the module has no units or can't be padded at all, ModelError if it can't
    be run, and what the oracle raises.
    """
    padder = Padder(module, *example, logits=logits, **keywords)
    called_with = Example(args=example, kwargs=keywords)
    return grow(
        padder,
        called_with,
        find_followers(padder, called_with),
        oracle=oracle,
        time_s=time_s,
        max_growth=max_growth,
        race=race,
        say=say,
    )


def grow(
    padder: Padder[M],
    called_with: Example,
    followed: Followed,
    *,
    oracle: LatencyOracle,
    time_s: float,
    max_growth: float = 0.125,
    race: RaceModules = race_modules,
    say: Callable[[str], None] = lambda line: None,
) -> Grown[M]:
    """As `grow_to_lhp`, of a module whose units are found, and of which it is known what to ask."""
    module = padder.module
    number = len(followed.layers)
    say(f"asking {number} question{'' if number == 1 else 's'} about layers")
    asked = ask_each(oracle, followed.layers, max_growth=max_growth)
    proposed = choose_widths(asked, padder.widths)
    reasons = dict(followed.refused)
    padded = _pad_all(padder, proposed, reasons)
    outcome = None
    if padded is not None:
        racing = _Racing(padder, asked, called_with, race, say)
        padded = racing.drop_what_doesnt_pay(padded, reasons, time_s=(1 - FINAL_SHARE) * time_s)
        say("racing the padded module against the original one")
        models = {NOW: module, GROWN: padded.module}
        outcome = race(models, called_with, reference=NOW, time_s=FINAL_SHARE * time_s)
        if not _pays(outcome):
            for axis in padded.widths:
                reasons[axis] = f"the padded module isn't surely faster {_BY} than the original one"
            padded = None
    now = {} if padded is None else {axis: width for axis, (_, width) in padded.widths.items()}
    return Grown(
        module=module if padded is None else padded.module,
        axes=tuple(
            AxisGrowth(
                axis=axis,
                before=width,
                now=now.get(axis, width),
                proposed=proposed.get(axis, width),
                layers=_layers_of(asked, axis),
                reason="" if axis in now else reasons.get(axis, _why_not(asked, axis)),
            )
            for axis, width in padder.widths.items()
        ),
        refused=padder.found.fixed,
        asked=tuple(asked),
        outcome=outcome,
        padded=padded,
    )


def _pad_all(
    padder: Padder[M], proposed: Mapping[str, int], reasons: dict[str, str]
) -> Padded[M] | None:
    """The module with all of these widths that it can have; None if there are none."""
    padded: Padded[M] | None = None
    to: dict[str, int] = {}
    for axis, width in proposed.items():
        try:
            padded = padder.pad({**to, axis: width})
        except (LayoutError, UnequalOutputsError) as error:
            reasons[axis] = str(error)
        else:
            to[axis] = width
    return padded


class _Racing(Generic[M]):
    """Finds out which axes pay."""

    def __init__(
        self,
        padder: Padder[M],
        asked: Sequence[AskedLayer],
        example: Example,
        race: RaceModules,
        say: Callable[[str], None],
    ) -> None:
        self._padder, self._asked, self._example = padder, asked, example
        self._race, self._say = race, say

    def drop_what_doesnt_pay(
        self, padded: Padded[M], reasons: dict[str, str], *, time_s: float
    ) -> Padded[M]:
        """The module without each axis that doesn't make it surely faster; at least one stays."""
        left = {axis: width for axis, (_, width) in padded.widths.items()}
        num_axes = len(left)
        for axis in sorted(left, key=self._promise):
            if len(left) == 1:
                break
            self._say(f"racing with and without {axis}={left[axis]}")
            fewer = {other: width for other, width in left.items() if other != axis}
            without = self._padder.pad(fewer)
            outcome = self._race(
                {NOW: without.module, GROWN: padded.module},
                self._example,
                reference=NOW,
                time_s=time_s / num_axes,
            )
            if not _pays(outcome):
                reasons[axis] = f"the module isn't surely faster {_BY} with it than without"
                left, padded = fewer, without
        return padded

    def _promise(self, axis: str) -> float:
        """What the layers that follow the axis promise to save, seconds."""
        return sum(each.saves_s for each in self._asked if _follows(each, axis))


_BY = f"by {WORTH:.1%}"


def _pays(outcome: Outcome) -> bool:
    """Whether what was grown is surely faster, by more than a process may differ from another."""
    return outcome.comparison.high < 1 - WORTH


def _follows(layer: AskedLayer, axis: str) -> bool:
    return any(axis == name for name, _ in layer.follows.values())


def _layers_of(asked: Sequence[AskedLayer], axis: str) -> tuple[str, ...]:
    return tuple(name for layer in asked if _follows(layer, axis) for name in layer.names)


def _why_not(asked: Sequence[AskedLayer], axis: str) -> str:
    """Why nothing larger was proposed for the axis."""
    mine = [layer for layer in asked if _follows(layer, axis)]
    if not mine:
        return "no workload kind measures a layer that it changes"
    if all(layer.answer is None for layer in mine):
        return f"not answered: {mine[0].problem}"
    return "nothing larger is faster for its layers"
