"""The protocol of questions: which sweep answers one, and how stored curves answer it.

`ask` knows questions only by the protocol `Question`. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from profiler_service.answering.curves import Conditions
from profiler_service.errors import InvalidRequestError
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.store import Host

if TYPE_CHECKING:
    from profiler_service.answering.known import Known

Label = tuple[str, str]
"""Name and value of a host's label."""
AnswerT = TypeVar("AnswerT", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Where:
    """The host or platform that a question is about; if all are None, the only platform there is.

    Raises InvalidRequestError for `platforms` together with one of the others, and for a host with
    a label.
    """

    host: str | None = None
    platform: str | None = None
    label: Label | None = None
    """Only hosts with this label measure, and the platform is theirs."""
    platforms: str | None = None
    """Several at once: `all`, or keys separated by commas."""

    def __post_init__(self) -> None:
        if self.platforms is not None and (self.host or self.platform or self.label):
            raise InvalidRequestError(
                "platforms= asks for one answer for several platforms",
                hint="leave out `platforms`, or `host`, `platform` and `label`",
            )
        if self.host is not None and self.label is not None:
            raise InvalidRequestError(
                "host= names one host already", hint="leave out `host` or `label`"
            )

    @property
    def is_named(self) -> bool:
        """Whether it names a host, a platform or a label."""
        return (self.host, self.platform, self.label) != (None, None, None)


class Question(Protocol[AnswerT]):
    """A question that stored curves may answer, and that one sweep will answer."""

    @property
    def meaning(self) -> Hashable | None:
        """Equal for questions that have the same answer from the same curves, however they were
        written. None if the answer also depends on when the question is asked."""

    @property
    def wanted(self) -> str:
        """The subject of the question, for messages: `1197,317`."""

    @property
    def sweep(self) -> SweepSpec:
        """The sweep that answers it with the least effort. Equal sweeps are measured once."""

    def find_companion(self, host: Host) -> SweepSpec | None:
        """A sweep to measure in the background: later answers say more then, or None."""

    def check_host(self, host: Host) -> None:
        """Returns if the host can answer at all. Raises UnsupportedOnHostError."""

    async def find(
        self, known: Known, conditions: Conditions, *, measured: str | None = None
    ) -> AnswerT | None:
        """The answer from stored curves, labelled; None if there is none. Raises StoreError.

        `measured` is the curve that was measured for this question, if any: it is never too old.
        """
