"""Runs on a tiny text, and oracles that answer as they are told."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from profiler_service.wire import CrossoverAnswer
from tests.cli.test_crossover import ANSWER as CROSSOVER
from tests.trainer_client.texts import tiny_config, tiny_corpus
from trainer_client import training
from trainer_client.oracle.answers import Effort, LatencyAnswer, Prefer
from trainer_client.oracle.http import ServiceAwayError
from trainer_client.presets import TrainingConfig
from trainer_client.run.descent import Observation
from trainer_client.run.logs import Row
from trainer_client.run.ranks import Ranks
from trainer_client.run.training_run import TrainingRun
from trainer_client.tasks.language_model.corpus import Corpus
from trainer_client.tasks.language_model.networks import MaskedHLSTM

HALF = tiny_config(route="measured", growth_epochs=0, when_away="fail")
"""Its route is to be measured. Without growth half of the weights live after (a)."""


class Oracle:
    """Says that dims a little larger are faster; notes what it was asked."""

    def __init__(self, *grow_by: int) -> None:
        self.grow_by = grow_by
        self.asked: list[tuple[tuple[int, ...], str, Mapping[str, int | str] | None]] = []
        self.checked: list[tuple[tuple[int, ...], str]] = []

    def check(
        self, dims: Sequence[int], *, workload: str, params: Mapping[str, int | str] | None = None
    ) -> None:
        self.checked.append((tuple(dims), workload))

    def query(
        self,
        dims: Sequence[int],
        *,
        workload: str = "linear",
        params: Mapping[str, int | str] | None = None,
        prefer: Prefer = "fastest",
        effort: Effort = "quick",
        max_growth: float = 0.125,
        multiple_of: int | Sequence[int] | None = None,
        slack: float = 0.0,
    ) -> LatencyAnswer:
        self.asked.append((tuple(dims), workload, params))
        now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        lhp = tuple(a + b for a, b in zip(dims, self.grow_by, strict=True))
        return LatencyAnswer(
            dims=tuple(dims),
            lhp=lhp,
            is_lhp=lhp == tuple(dims),
            latency_s=2e-3,
            lhp_latency_s=1e-3,
            speedup=2.0,
            speedup_interval=(1.9, 2.1),
            verdict="faster" if any(self.grow_by) else "slower",
            prefer=prefer,
            workload=workload,
            platform="p",
            host="anvil",
            curve="c1",
            measured_at=now,
            num_samples=300,
            stale=False,
            source="service",
            received_at=now,
        )


class LeavingOracle(Oracle):
    """Is there when a run begins, and away when it is asked."""

    def query(self, dims: Sequence[int], **_: object) -> LatencyAnswer:
        raise ServiceAwayError("no answer", hint="start it")


class AwayOracle(LeavingOracle):
    def check(self, dims: Sequence[int], **_: object) -> None:
        raise ServiceAwayError("no answer", hint="start it")


class Crossovers:
    """Says from which sparsity on sparse products surely win; notes what it was asked."""

    def __init__(self, *surely_from: float | None) -> None:
        self.left = list(surely_from)
        self.asked: list[tuple[tuple[int, ...], int]] = []
        self.checked: list[tuple[tuple[int, ...], str]] = []

    def check(
        self, dims: Sequence[int], *, workload: str, params: Mapping[str, int | str] | None = None
    ) -> None:
        self.checked.append((tuple(dims), workload))

    def get_crossover(
        self, dims: Sequence[int], *, batch: int = 16, dtype: str = "float32"
    ) -> CrossoverAnswer:
        self.asked.append((tuple(dims), batch))
        share = self.left.pop(0)
        changes = {"dims": list(dims), "batch": batch, "sparsity_interval": (0.1, share)}
        return CROSSOVER.model_copy(update=changes)


class LeavingCrossovers(Crossovers):
    """Are there when a run begins, and away when they are asked."""

    def get_crossover(self, dims: Sequence[int], **_: object) -> CrossoverAnswer:
        raise ServiceAwayError("no answer", hint="start it")


Run = TrainingRun[TrainingConfig]


def hlstm_of(run: Run) -> MaskedHLSTM:
    """Its compact network, which becomes its model."""
    assert isinstance(run.compact, MaskedHLSTM)
    return run.compact


def dims_of(run: Run) -> tuple[int, int]:
    """The live widths of its compact network: (gate_width, state_width)."""
    return hlstm_of(run).dims


class Ticks:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.now_s = 0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


def make_run(
    config: TrainingConfig,
    directory: Path,
    corpus: Corpus | None = None,
    *,
    observe: Callable[[Observation], None] = lambda _: None,
) -> Run:
    return training.make_run(
        config,
        corpus or tiny_corpus(),
        directory,
        ranks=Ranks(torch.device("cpu")),
        observe=observe,
        clock=Ticks(),
    )


class KilledError(Exception):
    """Stands for a `kill -9`."""


def kill_after(*steps: str) -> Callable[[Row], None]:
    def at_step_end(row: Row) -> None:
        if row["step"] in steps:
            raise KilledError

    return at_step_end


def rows_of(directory: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (directory / "steps.jsonl").read_text().splitlines()]
