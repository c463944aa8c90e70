"""How small a difference of two latencies a host resolves: its noise, as one number. Pure."""

from __future__ import annotations

import math
from typing import Final

QUIET_EFFECT: Final = 0.005
"""A host is quiet enough when it can resolve this relative effect."""
ROUNDS: Final = 400
"""The smallest resolvable effect is stated for this number of rounds."""
_STANDARD_ERRORS: Final = 1.96 + 0.84
"""An effect of so many standard errors shows at the 95 % level four times out of five."""


def find_resolvable_effect(
    standard_error: float, *, num_pairs: float, rounds: int = ROUNDS
) -> float:
    """The smallest relative difference that `rounds` paired ratios resolve.

    `standard_error` is that of a log ratio from `num_pairs` pairs. It falls with the root of their
    number. (Source: ours, from the normal approximation.)
    """
    return math.expm1(_STANDARD_ERRORS * standard_error * math.sqrt(num_pairs / rounds))
