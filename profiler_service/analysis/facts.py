"""Facts: pairs of points that were compared on samples which chose neither of them.

Pure. Knows neither how pairs are measured nor where facts are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from profiler_service.analysis.comparison import Verdict
from profiler_service.workload import Dims


@dataclass(frozen=True, kw_only=True)
class ConfirmedPair:
    """The comparison of a larger point with a queried one, on fresh samples."""

    dims: Dims
    """The queried point."""
    rival: Dims
    """The larger point."""
    verdict: Verdict
    """About the rival."""
    ratio: float
    """Latency of the rival divided by that of the queried point."""
    low: float
    """Lower end of the 95 % interval on `ratio`. The interval includes what differs from process to
    process."""
    high: float
    num_pairs: int
    num_children: int = 1
    """How many measuring processes took the pairs."""
    num_arenas: int = 1
    """In how many separately mapped arenas the operands lay."""
    between_arenas: float | None = None
    """Variance of the log ratio between arenas, beyond the noise; may be negative. None if there
    was only one arena."""

    def overrules(self, earlier: ConfirmedPair) -> bool:
        """Whether an earlier confirmation of the same pair can't be true any more.

        The intervals have nothing in common, and the verdicts differ. (With the same verdict, or
        with intervals that overlap, both count: see `evidence_of`.)
        """
        apart = self.low > earlier.high or self.high < earlier.low
        return apart and self.verdict != earlier.verdict
