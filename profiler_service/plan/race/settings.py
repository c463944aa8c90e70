"""Every number that a race uses, in one table: `RACE`.

Pure, and cheap to import. Each stage takes the settings of its own group, so that tests can run
it alone with others. `describe_settings` renders the table for the documentation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final


def _setting(default: object, unit: str, sentence: str) -> Any:
    return dataclasses.field(default=default, metadata={"unit": unit, "sentence": sentence})


@dataclass(frozen=True, kw_only=True)
class PriorSettings:
    """The prior: what is expected of latency before anything is measured. See `structure`."""

    growth: float = _setting(0.7, "power", "Latency grows like the dimension to this power.")
    growth_spread: float = _setting(0.35, "power", "Standard deviation of that power.")
    classes: tuple[int, ...] = _setting(
        (2, 4, 8, 16, 32, 64), "", "Positions that are equal modulo one of these behave alike."
    )
    class_spread: float = _setting(
        0.015, "log latency", "Standard deviation of the common effect of such positions."
    )
    blocks: tuple[int, ...] = _setting(
        (4, 8, 16, 32, 64),
        "positions",
        "Positions of one block of such a size behave alike: tiles are filled one after the other.",
    )
    block_spread: float = _setting(
        0.04, "log latency", "Standard deviation of the common effect of the positions of a block."
    )
    own_spread: float = _setting(
        0.007, "log latency", "Standard deviation of the effect of a single position."
    )
    interaction: float = _setting(
        0.003,
        "log latency",
        "Standard deviation of the effect of a single point, beyond those of its positions.",
    )
    first_visit_spread: float = _setting(
        0.3,
        "log latency",
        "Standard deviation of the extra time of first visits without a warm-up.",
    )
    drift_spread: float = _setting(
        0.03,
        "log latency",
        "Standard deviation of each of drift's two parts, a straight line and a parabola.",
    )
    known_weight: float = _setting(
        10.0, "samples", "The noise that calibration found counts like this many samples."
    )
    guide_share: float = _setting(
        0.5, "share", "The share of a guide's effects that the window is expected to show."
    )
    guide_spread: float = _setting(0.5, "share", "Standard deviation of that share.")


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """How long a race may take."""

    cheap_share: float = _setting(
        0.85,
        "share",
        "The longest time of a race, as a share of the time of calling each point once.",
    )
    cheap_s: float = _setting(1.15, "s", "The longest time of a race with short calls.")
    small_window: int = _setting(
        1000,
        "points",
        "Windows of up to this many points are small: `small_calls` replaces `cheap_share`.",
    )
    small_calls: int = _setting(
        6000,
        "calls",
        "The longest time of a race over a small window, in calls of the queried point.",
    )
    reference_noise: float = _setting(
        0.025,
        "share",
        "All numbers of visits and rounds are stated for this noise of one call.",
    )
    most_noise_factor: float = _setting(
        1.5, "", "On a noisier host, visits and time grow with the variance, up to this factor."
    )
    noisy_share: float = _setting(
        0.97,
        "share",
        "The longest time on a noisier host, as a share of the time of calling each point once.",
    )
    unnoticed_s: float = _setting(
        0.35,
        "s",
        "On a noisy host, a race may take this long in any window. Nobody notices it.",
    )
    dear_share: float = _setting(
        0.046,
        "share",
        "The least budget, as a share of the time of calling each point once (for long calls).",
    )
    least_calls: int = _setting(100, "calls", "The least budget, in calls of the queried point.")
    narrow_until: float = _setting(
        0.5,
        "share",
        "Narrowing ends at this share of the budget, a survey at this share of the caller's.",
    )
    contest_until: float = _setting(
        0.75,
        "share",
        "The contest ends when this share of the budget is spent. The confirmation has the rest.",
    )


@dataclass(frozen=True, kw_only=True)
class WarmupSettings:
    """Which visits begin with an untimed call."""

    tiny_s: float = _setting(
        5e-5,
        "s",
        "Shorter calls are always warmed up: the rest of a visit takes longer than the call.",
    )
    warm_below_s: float = _setting(
        2.5e-4,
        "s",
        "Shorter calls are warmed up in the contest and the confirmation. Longer calls use "
        "more memory than the inner caches hold.",
    )
    dear_visit_s: float = _setting(
        2e-3,
        "s",
        "Longer calls are not probed. Of longer visits, a quiet host makes fewer.",
    )
    probe_points: int = _setting(
        12, "points", "The probe visits this many random points twice, without a warm-up."
    )
    cold_penalty: float = _setting(
        0.08,
        "share",
        "Calls are warmed up if the first call of a shape is slower than the second by more.",
    )
    cold_noise: float = _setting(
        2.0,
        "",
        "Calls are also warmed up if they are this many times noisier without a warm-up.",
    )


@dataclass(frozen=True, kw_only=True)
class SurveySettings:
    """The first part of a survey, which looks at every point."""

    shares: tuple[float, ...] = _setting(
        (1.0, 0.25, 0.02),
        "share",
        "The share of the window's points that each part of a survey visits.",
    )
    looks: tuple[int, ...] = _setting((2, 2, 4), "visits", "Visits of each point in each part.")
    places: int = _setting(16, "points", "The fastest points of a survey that join the contest.")


@dataclass(frozen=True, kw_only=True)
class NarrowSettings:
    """The search for the fast positions of each axis."""

    design_visits: int = _setting(
        6, "visits", "Visits of each position of the longest axis before any position is preferred."
    )
    design_share: float = _setting(
        0.45, "share", "The largest share of narrowing's visits before any position is preferred."
    )
    visits: int = _setting(14, "visits", "Visits of each position of the longest axis in total.")
    batches: int = _setting(
        6, "batches", "Batches in which the other visits are drawn from the posterior."
    )
    least_draws: int = _setting(4, "visits", "The fewest visits of such a batch.")


@dataclass(frozen=True, kw_only=True)
class ContestSettings:
    """The contest of the points that may be the fastest."""

    places: int = _setting(
        24, "points", "The most points in the contest, besides those of a survey."
    )
    rounds_affordable: int = _setting(
        5,
        "rounds",
        "The contest has no more points than can be visited this many times in its time.",
    )
    one_seen_in: int = _setting(
        4,
        "places",
        "One place in this many is for the fastest points seen, whatever the fit says about them.",
    )
    rounds: tuple[int, ...] = _setting(
        (6, 12, 48, 120), "rounds", "Rounds of each part of the contest."
    )
    shares: tuple[float, ...] = _setting(
        (0.25, 0.2, 0.25, 0.3), "share", "The largest share of the contest's time for each part."
    )
    kept: tuple[int, ...] = _setting(
        (8, 5, 4),
        "points",
        "The most points kept after each part. After later parts it is `confirm.attempts`.",
    )
    behind: float = _setting(
        3.0, "standard errors", "A point that is this far behind the leader is dropped."
    )
    play_off_rounds: int = _setting(
        60, "rounds", "Rounds of each further part, while more than one point is left."
    )
    play_off_behind: float = _setting(
        2.0,
        "standard errors",
        "In a further part, a point that is this far behind the leader is dropped.",
    )


@dataclass(frozen=True, kw_only=True)
class ConfirmSettings:
    """The confirmation of the contest's leader against the queried point."""

    attempts: int = _setting(
        3, "points", "The most rivals that are compared with the queried point, the fastest first."
    )
    looks: tuple[int, ...] = _setting(
        (50, 100, 200, 400, 800),
        "pairs",
        "Numbers of pairs of visits after which there may be a verdict.",
    )
    least_look_s: float = _setting(
        0.015,
        "s",
        "The shortest time that the pairs of a look span. States of a host (clocks, neighbours) "
        "last for milliseconds, and pairs within one state are not independent.",
    )
    fewest_pairs: int = _setting(
        12, "pairs", "The fewest pairs for a verdict, if the budget has no time for a look."
    )
    batch_pairs: int = _setting(6, "pairs", "The fewest pairs of a batch.")
    worthwhile: float = _setting(
        0.005, "share", "The confirmation ends when the rival can't be faster by more than this."
    )
    disturbed_noise: float = _setting(
        0.05,
        "share",
        "A host with more noise is disturbed. A gain there must surely be more than `worthwhile`.",
    )
    most_unstable: float = _setting(
        0.1,
        "share",
        "A host is also disturbed if a larger share of the confirming samples is unstable.",
    )
    compiled_margin: float = _setting(
        0.03,
        "share",
        "With the backend `compiled`, a gain must surely be more than this. Compiled weights "
        "keep their place, and copies of one product, compiled again, differed by up to 2.5 "
        "%.",
    )


@dataclass(frozen=True, kw_only=True)
class RaceSettings:
    """The settings of every part of a race."""

    prior: PriorSettings = PriorSettings()
    budget: BudgetSettings = BudgetSettings()
    warmup: WarmupSettings = WarmupSettings()
    survey: SurveySettings = SurveySettings()
    narrow: NarrowSettings = NarrowSettings()
    contest: ContestSettings = ContestSettings()
    confirm: ConfirmSettings = ConfirmSettings()


RACE: Final = RaceSettings()
"""The settings of all races. With other values, the same samples lead to other decisions."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row of the table."""

    group: str
    name: str
    value: object
    unit: str
    sentence: str


def list_settings(settings: RaceSettings = RACE) -> Iterator[Setting]:
    """Every setting of every group, in the order of the race."""
    for group in dataclasses.fields(settings):
        values = getattr(settings, group.name)
        for field in dataclasses.fields(values):
            yield Setting(
                group=group.name,
                name=field.name,
                value=getattr(values, field.name),
                unit=field.metadata["unit"],
                sentence=field.metadata["sentence"],
            )


def describe_settings(settings: RaceSettings = RACE) -> str:
    """All settings as a Markdown table."""
    rows = ["| setting | value | unit | meaning |", "|---|---|---|---|"]
    for each in list_settings(settings):
        values = each.value if isinstance(each.value, tuple) else (each.value,)
        value = ", ".join(f"{number:g}" for number in values)
        rows.append(f"| `{each.group}.{each.name}` | {value} | {each.unit} | {each.sentence} |")
    return "\n".join(rows) + "\n"
