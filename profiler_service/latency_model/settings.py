"""Every number that the latency model uses, in one table: `MODEL`.

Pure, and cheap to import. What the prior has in common with the prior of a race comes from there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from profiler_service.analysis.setting_table import describe, setting
from profiler_service.plan.race.settings import RACE


@dataclass(frozen=True, kw_only=True)
class BasisSettings:
    """The features of dims, and how large their effects are before anything is learned."""

    knots_per_octave: int = setting(
        2, "knots", "The trend may bend so often while a dimension, or their product, doubles."
    )
    first_knot: int = setting(4, "log2 dimension", "The trend is straight below this.")
    last_knot: int = setting(14, "log2 dimension", "The trend is straight above this.")
    growth: float = setting(
        RACE.prior.growth, "power", "Latency grows like each dimension to this power."
    )
    growth_spread: float = setting(
        RACE.prior.growth_spread, "power", "Standard deviation of that power."
    )
    bend_spread: float = setting(0.1, "power", "Standard deviation of its change at a knot.")
    classes: tuple[int, ...] = setting(
        (2, 4, 8, 16, 32, 64, 128), "", "Dims that are equal modulo one of these behave alike."
    )
    class_spread: float = setting(
        0.015, "log latency", "Standard deviation of their common effect."
    )
    growing_classes: tuple[int, ...] = setting(
        (2, 4, 8, 16, 32), "", "The effects of these classes may grow or fade with the dimension."
    )
    growing_spread: float = setting(
        0.005, "log latency an octave", "Standard deviation of that growth."
    )
    tiles: tuple[int, ...] = setting(
        (8, 16, 32, 64, 128, 256), "", "Tiles of this size may be filled, the last one in part."
    )
    fill_spread: float = setting(
        0.2, "power", "Latency grows like the filled-up dimension to a power with this deviation."
    )
    pair_spread: float = setting(
        0.01,
        "log latency",
        "Standard deviation of the effect of a pair of alignments: of the largest powers of two "
        "that divide two dims.",
    )


@dataclass(frozen=True, kw_only=True)
class LearningSettings:
    """How the model learns from sweeps."""

    least_visits: int = setting(
        8, "visits", "A sweep with fewer first visits than this says nothing."
    )
    noise: float = setting(
        0.02, "log latency", "The noise of a visit, before anything is known of a sweep."
    )
    noise_visits: float = setting(
        8.0, "visits", "That counts like so many visits. With fewer, little of the noise is seen."
    )
    most_visits: int = setting(
        4096,
        "visits",
        "Of a sweep with more first visits, as of a large curve, the first so many count.",
    )
    half_life: float = setting(
        400.0, "sweeps", "What a sweep said counts half as much after so many further ones."
    )
    trust: float = setting(
        0.5,
        "share",
        "What was learned of relatives, or of an earlier platform, is half trusted: effects may "
        "differ from theirs by so much of their usual size.",
    )
    shrink: float = setting(
        0.5,
        "features",
        "The spread that the prior has counts like so many features when a spread is learned.",
    )
    start_sweeps: float = setting(
        8.0,
        "sweeps",
        "A race starts from a model that has learned from so many sweeps at least ...",
    )
    start_distance: float = setting(
        1.0, "octaves", "... of which one was no farther off than this."
    )
    windows: int = setting(
        512, "windows", "So many of the windows that were learned from last are remembered."
    )


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """When a prediction is believed."""

    coverage: float = setting(
        0.95, "probability", "The share of measured ratios that the interval holds."
    )
    least_scores: int = setting(
        30, "scores", "With fewer earlier predictions held against measurements: uncalibrated."
    )
    scores: int = setting(200, "scores", "The newest so many of them count.")
    strata: tuple[float, ...] = setting(
        (0.5, 2.0), "octaves", "Predictions nearer to what was learned than this are one stratum."
    )
    least_deviation: float = setting(
        RACE.prior.interaction * 2**0.5,
        "log latency",
        "Two single points differ by this, whatever the model knows of their classes.",
    )
    share_deviation: float = setting(
        0.2,
        "share",
        "A window shows a prediction only up to this share of it: effects differ from window to "
        "window in proportion to their size.",
    )
    least_probability: float = setting(
        0.9,
        "probability",
        "A prediction moves to a point that is no slower with this probability at least.",
    )
    withdrawn_at: tuple[tuple[int, int], ...] = setting(
        ((5, 30), (10, 100)),
        "misses, scores",
        "Predictions are withdrawn at so many misses among so many of the newest scores. A perfect "
        "predictor has as many in 2 to 3 % of cases.",
    )
    back_at: tuple[tuple[int, int], ...] = setting(
        ((2, 30), (7, 100)), "misses, scores", "They come back when there are no more than these."
    )


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The settings of every part of the model."""

    basis: BasisSettings = BasisSettings()
    learning: LearningSettings = LearningSettings()
    calibration: CalibrationSettings = CalibrationSettings()


MODEL: Final = ModelSettings()
"""The settings of all models. With others, the statistics of stored visits are other ones."""

VERSION: Final = f"2-{hashlib.sha256(repr(MODEL.basis).encode()).hexdigest()[:8]}"
"""Statistics of other features can't be used. They are made anew from the first visits."""


def describe_settings(settings: ModelSettings = MODEL) -> str:
    """All settings as Markdown tables, one for each part."""
    parts = {
        "The features": settings.basis,
        "Learning": settings.learning,
        "Calibration": settings.calibration,
    }
    return "\n".join(f"**{name}**\n\n{describe(part)}" for name, part in parts.items())
