"""What a look at this host found, for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from profiler_service.analysis.resolution import QUIET_EFFECT

Verdict = Literal["good", "fair", "poor"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check of the host."""

    name: str
    found: str
    """What was found, for people."""
    value: float | str | None
    """What the verdict goes by, for programs; None if it isn't visible."""
    unit: str = ""
    """What `value` counts; empty for a text."""
    verdict: Verdict
    advice: str = ""
    """What to change; empty if nothing has to be changed."""
    details: Mapping[str, object] = field(default_factory=dict)
    """Further figures, JSON-ready. A unit ends the name."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """How well the host can measure."""

    findings: tuple[Finding, ...]
    smallest_effect: float
    """Smallest relative difference of two latencies that 400 rounds resolve (0.01 is 1 %)."""
    num_samples: int

    @property
    def quiet_enough(self) -> bool:
        """Whether differences of half a percent can be told from noise here."""
        return self.smallest_effect <= QUIET_EFFECT

    def to_json(self) -> dict[str, object]:
        """The fields and the overall verdict as JSON-ready values."""
        return {
            "quiet_enough": self.quiet_enough,
            "smallest_effect": self.smallest_effect,
            "num_samples": self.num_samples,
            "findings": [asdict(finding) for finding in self.findings],
        }
