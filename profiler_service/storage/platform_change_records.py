"""What the store returns about changes of platforms. Knows no database."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from profiler_service.analysis.platform_change import Agreement, Contrast, Outcome, Pattern
from profiler_service.storage.records import Fact


class ChangeState(StrEnum):
    """How far the replay after a change of platform is."""

    OPEN = "open"
    """Facts of the platform before are being measured again, or will be."""
    DONE = "done"
    """All that could be measured again was."""
    INTERRUPTED = "interrupted"
    """The platform changed once more before that. What was measured until then stays."""
    RETURNED = "returned"
    """The host is back on a platform that it was on before: nothing need be measured again."""


@dataclass(frozen=True, kw_only=True)
class PlatformChange:
    """A change of one host's platform, and what was found of it."""

    id: str
    host: str
    old_platform_key: str
    new_platform_key: str
    protocol_key: str
    """How the host takes time since the change. Facts of the same protocol are compared."""
    changed_at: dt.datetime
    """When it happened last."""
    state: ChangeState
    num_contrasts: int | None
    """How many facts are measured again; None as long as they aren't chosen."""
    agreement: Agreement
    """Of those that are decided so far."""
    patterns: tuple[Pattern, ...]
    finished_at: dt.datetime | None
    """When the last of them was; None if not all are."""

    @property
    def is_inherited(self) -> bool:
        """Whether what was learned on the platform before counts on the new one, half trusted.

        It does once all facts are measured again, and the platforms agree.
        """
        return self.state is ChangeState.DONE and self.agreement.verdict == "agree"


@dataclass(frozen=True, kw_only=True)
class ReplayedFact:
    """A fact of the platform before, and what became of it."""

    number: int
    before: Fact
    sweep_id: str | None
    """The race that measures it again; None if there is none yet, or if none is needed."""
    outcome: Outcome | None
    """None as long as it isn't decided."""
    after: Fact | None
    """The fact about the same pair on the new platform."""
    reason: str
    """Why it couldn't be measured; empty otherwise."""

    @property
    def contrast(self) -> Contrast:
        """Both sides, as far as they are known."""
        after = None if self.after is None else self.after.pair
        return Contrast(before=self.before.pair, after=after)
