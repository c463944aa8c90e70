"""Reasons to doubt an answer's latencies, with what would help, as texts. Pure."""

from __future__ import annotations

from typing import Final

from profiler_service.analysis.evidence import Evidence
from profiler_service.plan.modes import Mode

NOISY_SHARE: Final = 0.3
"""An answer is noisy if more than this share of its sweep's samples was disturbed: each was taken
again, or kept although it was disturbed each time."""
NOISY_WIDTH: Final = 0.2
"""An answer is noisy, too, if the 95 % interval on the latency at its dims is wider than this
share of the latency."""

Interval = tuple[float | None, float | None]


def find_width(latency_s: float, interval_s: Interval) -> float | None:
    """The width of a latency's interval, relative to the latency; None without an interval."""
    low_s, high_s = interval_s
    return None if low_s is None or high_s is None else (high_s - low_s) / latency_s


def is_noisy(evidence: Evidence, width: float | None = None) -> bool:
    """Whether the samples were disturbed too often, or the interval is too wide."""
    return evidence.spoiled_share > NOISY_SHARE or (width is not None and width > NOISY_WIDTH)


def find_caveats(
    evidence: Evidence, *, host: str, mode: Mode, width: float | None = None
) -> list[str]:
    """One text for each reason to doubt the latencies; none if there is no reason.

    `mode` is that of the sweep, and `width` is that of `find_width`.
    """
    caveats = []
    if evidence.disturbed and evidence.others_share is not None:
        caveats.append(
            f"disturbed: others used {evidence.others_share:.0%} of the measured device's time"
            f" meanwhile, so latencies may be too long. Stop other programs on {host}, or wait."
        )
    if is_noisy(evidence, width):
        taken = (evidence.discarded or 0) + (evidence.samples or 0)
        found = (
            f"{evidence.spoiled_share:.0%} of {taken:,} samples were disturbed"
            f" ({evidence.discarded or 0:,} discarded, {evidence.unstable or 0:,} kept)"
        )
        if width is not None:
            found += f", and the 95 % interval on the latency is {width:.0%} wide"
        larger = "" if evidence.asked_budget_s is None else " or a larger budget"
        caveats.append(
            f"noisy: {found}. A quieter machine{larger} helps: `lhp doctor` on {host} says what to"
            " change."
        )
    if caveats:
        # The same question would be answered from the same curve again.
        caveats[-1] += (
            " Asking with effort=thorough starts a new, longer measurement."
            if mode == "race"
            else " A new sweep over the same dims (POST /sweeps) measures again."
        )
    return caveats
