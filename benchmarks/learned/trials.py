"""What a run finds, and its file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from benchmarks.answers.dims import Dims, show
from benchmarks.answers.machine import RefereeError
from benchmarks.answers.processes import Measurement
from benchmarks.answers.service import Reply


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """The reply to `basis=predicted`."""

    candidate: Dims
    """What the model would choose."""
    answer: Dims
    """What it says to use by default: the queried point unless the prediction is believed."""
    speedup: float
    interval: tuple[float, float] | None
    probability: float | None
    standing: str
    distance: float | None
    wall_s: float

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        pairs = {name: _pair(raw[name]) for name in ("candidate", "answer", "interval")}
        return cls(**{**raw, **pairs})


@dataclass(frozen=True, kw_only=True)
class LearnedTrial:
    """One fresh query."""

    dims: Dims
    predicted: Predicted
    learned: Reply
    """Of the service that learns."""
    empty: Reply
    """Of the one that doesn't."""
    measurement: Measurement

    def to_json(self) -> dict[str, Any]:
        """The raw figures, JSON-ready."""
        return {
            "dims": self.dims,
            "predicted": asdict(self.predicted),
            "learned": asdict(self.learned),
            "empty": asdict(self.empty),
            "measurement": self.measurement.to_json(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            dims=_pair(raw["dims"]),
            predicted=Predicted.from_json(raw["predicted"]),
            learned=_read_reply(raw["learned"]),
            empty=_read_reply(raw["empty"]),
            measurement=Measurement.from_json(raw["measurement"]),
        )


@dataclass(kw_only=True)
class LearnedFindings:
    """All that a run has found."""

    heading: list[str]
    notes: list[str] = field(default_factory=list)
    first_byte_s: list[tuple[float, float]] = field(default_factory=list)
    """Of a prediction, and of a bare route (`/healthz`) just before it."""
    trials: list[LearnedTrial] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Writes everything, one trial a line. The file is complete at any time."""
        head = {name: getattr(self, name) for name in ("heading", "notes", "first_byte_s")}
        lines = [json.dumps(head)[:-1] + ',\n "trials": [']
        lines.append(",\n".join(json.dumps(trial.to_json()) for trial in self.trials))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text("\n".join(lines) + "]}\n")
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The findings of an earlier run."""
        raw = json.loads(path.read_text())
        return cls(
            heading=raw["heading"],
            notes=raw["notes"],
            first_byte_s=[_pair(pair) for pair in raw["first_byte_s"]],
            trials=[LearnedTrial.from_json(trial) for trial in raw["trials"]],
        )


def ask_predicted(client: httpx.Client, dims: Dims) -> Predicted:
    """The reply to one query. Raises RefereeError if it is none."""
    started = time.perf_counter()
    response = client.get("/lhp", params={"dims": show(dims), "basis": "predicted"})
    wall_s = time.perf_counter() - started
    if response.status_code != 200:
        raise RefereeError(f"basis=predicted: status {response.status_code}: {response.text[:300]}")
    body = response.json()
    interval = body["speedup_interval"]
    return Predicted(
        candidate=_pair(body["candidate"]),
        answer=_pair(body["lhp"]),
        speedup=body["speedup"],
        interval=None if interval is None else _pair(interval),
        probability=body["probability"],
        standing=body["standing"],
        distance=body["distance"],
        wall_s=wall_s,
    )


def _pair(raw: Any) -> Any:
    if raw is None:
        return None
    first, second = raw
    return first, second


def _read_reply(raw: Mapping[str, Any]) -> Reply:
    pairs = {name: _pair(raw[name]) for name in ("dims", "answer", "claimed_interval")}
    return Reply(**{**raw, **pairs})
