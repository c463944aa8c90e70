"""What a race expects of latency before anything is measured: the group `prior` of its settings.

Pure, and cheap to import. The table of all groups is in `settings`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


def setting(default: object, unit: str, sentence: str) -> Any:
    """A field of a group of settings, with what the table says of it."""
    return dataclasses.field(default=default, metadata={"unit": unit, "sentence": sentence})


@dataclass(frozen=True, kw_only=True)
class PriorSettings:
    """The prior: what is expected of latency before anything is measured. See `structure`."""

    growth: float = setting(0.7, "power", "Latency grows like the dimension to this power.")
    growth_spread: float = setting(0.35, "power", "Standard deviation of that power.")
    classes: tuple[int, ...] = setting(
        (2, 4, 8, 16, 32, 64), "", "Positions that are equal modulo one of these behave alike."
    )
    class_spread: float = setting(
        0.01, "log latency", "Standard deviation of the common effect of such positions."
    )
    alignment_spread: float = setting(
        0.03, "log latency", "Standard deviation of what all multiples of one have in common."
    )
    blocks: tuple[int, ...] = setting(
        (4, 8, 16, 32, 64),
        "positions",
        "Positions of one block of such a size behave alike: tiles are filled one after the other.",
    )
    block_spread: float = setting(
        0.02, "log latency", "Standard deviation of the common effect of the positions of a block."
    )
    own_spread: float = setting(
        0.007, "log latency", "Standard deviation of the effect of a single position."
    )
    interaction: float = setting(
        0.003,
        "log latency",
        "Standard deviation of the effect of a single point, beyond those of its positions.",
    )
    joint_scales: tuple[float, ...] = setting(
        (0.01, 0.02),
        "log latency",
        "One of these is the standard deviation by which an effect of an alignment changes along "
        "another axis, if there are such joint effects. The samples say which.",
    )
    joint_stretches: int = setting(
        12, "stretches", "An axis is divided into at most so many stretches for that."
    )
    joint_odds: float = setting(
        0.1,
        "",
        "Odds that there are joint effects in a window, before anything is measured there: one in "
        "ten of 100 stored races of `linear` surely had some.",
    )
    joint_least: float = setting(
        0.1, "probability", "If they are less probable by the samples, they are left out."
    )
    known_weight: float = setting(
        10.0, "samples", "The noise that calibration found counts like this many samples."
    )
    guide_share: float = setting(
        0.5, "share", "The share of a guide's effects that the window is expected to show."
    )
    guide_spread: float = setting(0.5, "share", "Standard deviation of that share.")
    learned_share: float = setting(
        1.0, "share", "The share of a learned model's effects that the window is expected to show."
    )
    learned_doubt: float = setting(0.5, "share", "Standard deviation of that share.")
    learned_spreads: tuple[float, ...] = setting(
        (0.4, 0.2),
        "share",
        "Where a learned model holds, one of these is left of what positions and blocks have of "
        "their own. The samples say which.",
    )
    learned_class: float = setting(0.4, "share", "So much is left of `class_spread` there.")
    learned_odds: float = setting(
        1.0, "", "Odds that a learned model holds in a window, before anything is measured there."
    )
    learned_visits: float = setting(
        0.5, "share", "So much of narrowing's visits are made where a learned model holds."
    )
    learned_random: float = setting(
        0.1, "share", "The share of the later visits that are random, where a learned model holds."
    )
