"""What a run finds: queries, their replies and the referee's measurements, and their file.

The file is written after each query, so that a run that was ended goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.answers.dims import Dims
from benchmarks.answers.machine import RefereeError
from benchmarks.answers.processes import Measurement
from benchmarks.answers.service import Failure, Reply


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One query, the replies to it, and the referee's measurement if there was any answer."""

    dims: Dims
    prefer: str
    """`fastest` is asked of two services, `nearest` and `largest` of one."""
    replies: tuple[Reply | Failure, ...]
    measurement: Measurement | None

    @property
    def answers(self) -> list[Reply]:
        """The replies that are answers."""
        return [reply for reply in self.replies if isinstance(reply, Reply)]

    @property
    def refereed(self) -> Measurement:
        """The measurement. There is one if there is an answer."""
        assert self.measurement is not None
        return self.measurement

    def to_json(self) -> dict[str, Any]:
        """The raw figures, JSON-ready."""
        return {
            "dims": self.dims,
            "prefer": self.prefer,
            "replies": [asdict(reply) for reply in self.replies],
            "measurement": None if self.measurement is None else self.measurement.to_json(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        found = raw["measurement"]
        return cls(
            dims=_pair(raw["dims"]),
            prefer=raw["prefer"],
            replies=tuple(_read_reply(reply) for reply in raw["replies"]),
            measurement=None if found is None else Measurement.from_json(found),
        )


def _pair(raw: Any) -> Any:
    first, second = raw
    return first, second


def _read_reply(raw: dict[str, Any]) -> Reply | Failure:
    if "reason" in raw:
        return Failure(**raw | {"dims": _pair(raw["dims"])})
    pairs = {name: _pair(raw[name]) for name in ("dims", "answer", "claimed_interval")}
    return Reply(**raw | pairs)


@dataclass(kw_only=True)
class Findings:
    """All that a run has found so far."""

    settings: dict[str, Any]
    """What must be the same when the run is resumed."""
    heading: list[str]
    """Markdown lines of the first part of the run: command, date, commit, machine."""
    notes: list[str] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    noise: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By scenario, the outcomes of the simulated races: see `benchmarks.synthetic_settling`."""

    def of(self, *prefer: str) -> list[Trial]:
        """The trials with one of these preferences, in their order."""
        return [trial for trial in self.trials if trial.prefer in prefer]

    def note(self, text: str) -> None:
        """Adds a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def write(self, path: Path) -> None:
        """Writes everything, one trial a line. The file is complete at any time."""
        head = {"settings": self.settings, "heading": self.heading, "notes": self.notes}
        lines = [json.dumps(head, indent=1)[:-2] + ',\n "trials": [']
        lines.append(",\n".join(json.dumps(trial.to_json()) for trial in self.trials))
        lines.append('],\n "noise": {')
        lines.append(",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in self.noise.items()))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text("\n".join(lines) + "}\n}\n")
        partial.replace(path)

    @classmethod
    def read(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """The findings of an earlier run. Raises RefereeError if its settings were others."""
        try:
            raw = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise RefereeError(f"nothing to resume: no {path.name}") from error
        if raw["settings"] != dict(settings):
            raise RefereeError(
                f"{path.name} was measured with {raw['settings']}, not {dict(settings)}"
            )
        return cls(
            settings=raw["settings"],
            heading=raw["heading"],
            notes=raw["notes"],
            trials=[Trial.from_json(trial) for trial in raw["trials"]],
            noise=raw["noise"],
        )
