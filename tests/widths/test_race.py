"""The race of whole models, with a clock that only the calls advance."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import pytest

from profiler_service.errors import InvalidRequestError
from profiler_service.widths.race import (
    BLOCK_ROUNDS,
    MIN_BLOCKS,
    WARMUP_CALLS,
    Outcome,
    Prepare,
    race,
)


class Machine:
    """Calls that take a given time, with noise of 1 % and drift that doubles all times."""

    def __init__(self, seed: int = 0, drift: float = 0.0) -> None:
        self.now_ns = 0
        self.calls: dict[str, int] = {}
        self.prepared: dict[str, int] = {}
        self._rng = random.Random(seed)
        self._drift = drift

    def model(self, name: str, latency_s: float) -> Prepare:
        def prepare() -> Callable[[], object]:
            self.prepared[name] = self.prepared.get(name, 0) + 1
            return call

        def call() -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            drift = 1 + self._drift * self.now_ns * 1e-9
            self.now_ns += round(latency_s * 1e9 * drift * self._rng.lognormvariate(0, 0.01))

        return prepare


def race_on(machine: Machine, latencies_s: dict[str, float], *, time_s: float = 10.0) -> Outcome:
    models = {name: machine.model(name, latency_s) for name, latency_s in latencies_s.items()}
    return race(
        models,
        reference="now",
        time_s=time_s,
        rng=random.Random(1),
        clock_ns=lambda: machine.now_ns,
    )


@pytest.mark.parametrize("drift", [0.0, 0.1])
def test_finds_the_fastest_and_by_how_much(drift: float) -> None:
    latencies_s = {"now": 0.010, "a": 0.009, "b": 0.008, "c": 0.012, "d": 0.0085}
    outcome = race_on(Machine(drift=drift), latencies_s)
    assert outcome.chosen == "b"
    assert outcome.comparison.verdict == "faster"
    assert outcome.comparison.low < 0.8 < outcome.comparison.high
    assert outcome.comparison.high - outcome.comparison.low < 0.01
    assert outcome.medians["c"] == pytest.approx(1.2, abs=0.02)


def test_the_judgement_is_about_new_samples_of_the_last_two() -> None:
    machine = Machine()
    outcome = race_on(machine, {"now": 0.010, "a": 0.009, "b": 0.008})
    calls_a_block = WARMUP_CALLS + BLOCK_ROUNDS
    assert machine.calls["now"] == machine.prepared["now"] * calls_a_block  # new memory a block
    # The final has as many blocks as there are pairs; the contest had others.
    assert machine.prepared["b"] > outcome.comparison.num_pairs >= MIN_BLOCKS
    assert machine.prepared["a"] == machine.prepared["b"] - outcome.comparison.num_pairs


def test_what_is_slower_is_called_slower() -> None:
    outcome = race_on(Machine(), {"now": 0.010, "a": 0.0102})
    assert outcome.chosen == "a"
    assert outcome.comparison.verdict == "slower"


def test_equal_models_are_rarely_told_apart() -> None:
    """At 95 %, one of twenty; P(more than 5 of 40 | 5 %) is 1.4 %, and the seeds are fixed."""
    verdicts = [
        race_on(Machine(seed), {"now": 0.01, "a": 0.01}, time_s=3.0).comparison.verdict
        for seed in range(40)
    ]
    assert verdicts.count("ambiguous") >= 35


def test_choosing_among_equals_does_not_flatter() -> None:
    """The best of nine equal models seems faster in the contest; the judgement doesn't say so."""
    verdicts = [
        race_on(
            Machine(seed), {"now": 0.01, **{str(n): 0.01 for n in range(9)}}, time_s=6.0
        ).comparison.verdict
        for seed in range(40)
    ]
    assert verdicts.count("ambiguous") >= 35


def test_others_are_kept_from_measuring_while_a_block_is_measured() -> None:
    machine = Machine()
    during: list[int] = []

    @contextlib.contextmanager
    def take_turn() -> Iterator[None]:
        before = sum(machine.calls.values())
        yield
        during.append(sum(machine.calls.values()) - before)

    models = {name: machine.model(name, 0.01) for name in ("now", "a")}
    clock = lambda: machine.now_ns  # noqa: E731
    race(models, reference="now", time_s=1.0, clock_ns=clock, take_turn=take_turn)
    assert sum(during) == sum(machine.calls.values())
    assert len(during) == machine.prepared["now"]  # a turn a block


def test_even_without_time_there_is_an_interval() -> None:
    outcome = race_on(Machine(), {"now": 0.010, "a": 0.005, "b": 0.02}, time_s=0.001)
    assert outcome.chosen == "a"
    assert outcome.comparison.num_pairs == MIN_BLOCKS
    assert outcome.comparison.is_bounded


def test_needs_a_reference_and_a_rival() -> None:
    with pytest.raises(InvalidRequestError, match="reference"):
        race_on(Machine(), {"now": 0.01})
    with pytest.raises(InvalidRequestError, match="reference"):
        race_on(Machine(), {"a": 0.01, "b": 0.01})
