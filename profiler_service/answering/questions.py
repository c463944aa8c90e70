"""Questions: what would answer one, and how its answer is read from stored curves.

`ask` knows questions only by the protocol `Question`. Knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from profiler_service.answering.curves import Conditions
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.store import Host

if TYPE_CHECKING:
    from profiler_service.answering.known import Known

AnswerT = TypeVar("AnswerT", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which host or platform a question is about; the service's own host where both are None."""

    host: str | None = None
    platform: str | None = None


class Question(Protocol[AnswerT]):
    """Something that stored curves may answer, and a sweep will."""

    @property
    def wanted(self) -> str:
        """What is asked about, for messages: `1197,317`."""

    @property
    def sweep(self) -> SweepSpec:
        """The sweep that answers it with the least effort; questions of equal sweeps share one."""

    def find_companion(self, host: Host) -> SweepSpec | None:
        """A sweep to be measured before it: the answer is better with it, and good without."""

    def check_host(self, host: Host) -> None:
        """Returns where the host can answer at all. Raises UnsupportedOnHostError."""

    async def find(self, known: Known, conditions: Conditions) -> AnswerT | None:
        """The answer that stored curves hold, labelled; None where none does. Raises StoreError."""
