"""Every number that a race uses, in one table: `RACE`.

Pure, and cheap to import. Each stage takes the settings of its own group, so that tests can run
it alone with others. `describe_settings` renders the table for the documentation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from profiler_service.plan.race.prior_settings import PriorSettings, setting


@dataclass(frozen=True, kw_only=True)
class BudgetSettings:
    """How long a race may take. It ends earlier as soon as it is settled."""

    search_s: float = setting(
        1.0, "s", "The time for the search. The time to settle (`settle`) comes on top of it."
    )
    least_calls: int = setting(
        400,
        "calls",
        "A race may always take the time of this many calls of the queried point, if that is "
        "longer than both.",
    )
    longest_s: float = setting(
        14.0, "s", "But no race goes on for longer than this, unless its caller asks for it."
    )
    narrow_until: float = setting(
        0.35,
        "share",
        "Narrowing ends at this share of the time, a survey at this share of the caller's budget.",
    )
    contest_until: float = setting(
        0.6, "share", "The contest ends when this share of the time is spent."
    )
    reference_noise: float = setting(
        0.025,
        "share",
        "All numbers of visits and rounds are stated for this noise of one call. They grow with "
        "its variance.",
    )
    most_noise_factor: float = setting(4.0, "", "On a noisier host they grow up to this factor.")
    dear_visit_s: float = setting(
        2e-3, "s", "On a quieter host they are smaller, but only if a visit takes longer than this."
    )
    dear_call_s: float = setting(0.01, "s", "Longer calls are warmed up only once in a process.")


@dataclass(frozen=True, kw_only=True)
class SurveySettings:
    """The first part of a survey, which looks at every point."""

    shares: tuple[float, ...] = setting(
        (1.0, 0.25, 0.02),
        "share",
        "The share of the window's points that each part of a survey visits.",
    )
    looks: tuple[int, ...] = setting((2, 2, 4), "visits", "Visits of each point in each part.")
    places: int = setting(16, "points", "The fastest points of a survey that join the contest.")


@dataclass(frozen=True, kw_only=True)
class NarrowSettings:
    """The search for the fast positions of each axis."""

    design_visits: int = setting(
        4, "visits", "Visits of each position of the longest axis before any position is preferred."
    )
    design_share: float = setting(
        0.5, "share", "The largest share of narrowing's visits before any position is preferred."
    )
    visits: int = setting(8, "visits", "Visits of each position of the longest axis in total.")
    batches: int = setting(
        6, "batches", "Batches in which the other visits are drawn from the posterior."
    )
    least_draws: int = setting(4, "visits", "The fewest visits of such a batch.")
    again: float = setting(
        0.35,
        "share",
        "Of the time that is left, for more visits if unseen points keep a race from settling.",
    )
    parts_again: int = setting(2, "batches", "Batches of these visits.")


@dataclass(frozen=True, kw_only=True)
class ContestSettings:
    """The contest of the points that may be the fastest."""

    places: int = setting(
        24, "points", "The most points that join the contest at a time, besides those of a survey."
    )
    whole_window: int = setting(
        128,
        "points",
        "But all points of a smaller window join, if its time allows two parts for all of them. "
        "Then no point is left to the model alone.",
    )
    rounds_affordable: int = setting(
        5,
        "rounds",
        "The contest has no more points than can be visited this many times in its time.",
    )
    one_seen_in: int = setting(
        4,
        "places",
        "One place in this many is for the fastest points seen, whatever the fit says about them.",
    )
    least_visits: int = setting(
        4, "visits", "No point leaves the contest before so many visits of its own."
    )
    rounds: int = setting(6, "rounds", "Rounds of the first part of the contest.")
    growth: float = setting(1.5, "", "Each further part has this many times as many rounds.")
    parts: int = setting(12, "parts", "The most parts of the contest.")
    error: float = setting(
        0.01,
        "probability",
        "The share of the error that is spent on the points that left the contest, all together, "
        "in all passes.",
    )


@dataclass(frozen=True, kw_only=True)
class SettleSettings:
    """The last stage, which judges on fresh samples and says how sure the answer is."""

    finalists: int = setting(
        4, "points", "The most points that are compared with each other and the queried point."
    )
    rounds: int = setting(
        96, "rounds", "There are fewer finalists if a final hasn't time for so many rounds of all."
    )
    error: float = setting(
        0.03,
        "probability",
        "The error of all statements about the finalists, in all looks and all passes, together.",
    )
    looks: int = setting(
        7,
        "looks",
        "The most looks at the rounds of a final. Each comes after twice as many rounds as the one "
        "before.",
    )
    first_look: int = setting(12, "rounds", "No look comes after fewer rounds.")
    passes: int = setting(
        3,
        "passes",
        "If points that left may still be faster by more than the margin, they come back: so often "
        "is there a contest and a final.",
    )
    arena_s: float = setting(
        0.03,
        "s",
        "Length of a batch of the contest and the final. Each has newly mapped memory, and the "
        "measuring processes take turns.",
    )
    least_arenas: int = setting(
        8, "arenas", "The rounds of a final are divided into at least so many batches."
    )
    least_margin: float = setting(
        0.01,
        "share",
        "The margin that is aimed at unless the caller asks for another. Of a thousand points that "
        "were never compared, the model expects one to differ by as much (`prior.interaction`).",
    )
    resolved_at: float = setting(
        1.5,
        "",
        "The margin that is aimed at is at least this many times half the interval that "
        "differences between processes alone make.",
    )
    tau: float = setting(
        0.003,
        "log latency",
        "What is expected of the standard deviation of one ratio between processes, before the "
        "host has confirmed anything twice: a little more than of hosts that have.",
    )
    tau_of_arenas: float = setting(0.004, "log latency", "The same between arenas of one process.")
    tau_weight: float = setting(
        4.0,
        "differences",
        "Either expectation counts like so many differences without noise. The samples of the race "
        "say the rest.",
    )
    compiled_tau: float = setting(
        0.0125,
        "log latency",
        "The same for the backend `compiled`: its weights keep their place, and copies of one "
        "product, compiled again, differed by up to 2.5 %.",
    )
    unseen_risk: float = setting(
        0.025,
        "probability",
        "The margin is so large that a point that was never compared exceeds it with this "
        "probability at most, by the model, in all passes together.",
    )
    draws: int = setting(256, "draws", "Draws from the model that this probability is taken from.")
    unseen_points: int = setting(
        2000, "points", "The most points in such a draw: those that the fit ranks first."
    )


@dataclass(frozen=True, kw_only=True)
class LadderSettings:
    """The search for the nearest or the largest point that is no slower."""

    least_chance: float = setting(
        0.2,
        "probability",
        "A point that the fit gives less than this to be no slower is skipped.",
    )
    good_chance: float = setting(
        0.9,
        "probability",
        "The first point tried is the preferred one of those that the fit gives this, or the most "
        "probable one if there is none.",
    )
    worthwhile: float = setting(
        0.005,
        "share",
        "A point must promise to stay below the limit by this share. Otherwise it isn't tried, or "
        "is given up.",
    )
    false_share: float = setting(
        0.025,
        "probability",
        "The allowed probability that a point which is too slow is taken for one that isn't, over "
        "all points tried. The i-th one has 1/(i (i + 1)) of it, for all of its looks.",
    )
    trial_share: float = setting(
        0.5, "share", "One point takes at most this share of the time that is left."
    )
    look_arenas: int = setting(
        4, "arenas", "The rounds up to the next look are divided into so many batches at least."
    )
    give_up_error: float = setting(
        0.05,
        "probability",
        "A point is given up when the lower end of an interval with this error is above what it "
        "must promise.",
    )
    most_points: int = setting(
        16384, "points", "So many points, the preferred ones, are looked at in posterior draws."
    )
    draws: int = setting(
        256, "draws", "Posterior draws for the probability that a skipped point is no slower."
    )
    most_risk: float = setting(
        0.1,
        "probability",
        "The answer is settled when a skipped point that would be preferred to it is no slower "
        "with at most this probability.",
    )
    again_visits: int = setting(
        128,
        "visits",
        "Until it is settled, skipped points are visited again, drawn by probability: at least "
        "this often ...",
    )
    again_share: float = setting(
        0.2, "share", "... and this share as often as anything was visited before."
    )


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """The measurement of the pair that a learned model predicted, after the race has its answer."""

    rounds: int = setting(
        24,
        "rounds",
        "Rounds of the pair, if no final has compared it. There are fewer if it lasts"
        " longer than it may.",
    )
    arenas: int = setting(
        4, "arenas", "They are divided into so many batches, in the processes that judge."
    )
    longest_s: float = setting(0.1, "s", "It takes no longer than this ...")
    longest_share: float = setting(
        0.05, "share", "... or this share of the race's time, if that is longer."
    )


@dataclass(frozen=True, kw_only=True)
class RaceSettings:
    """The settings of every part of a race."""

    prior: PriorSettings = dataclasses.field(default_factory=PriorSettings)
    budget: BudgetSettings = BudgetSettings()
    survey: SurveySettings = SurveySettings()
    narrow: NarrowSettings = NarrowSettings()
    contest: ContestSettings = ContestSettings()
    settle: SettleSettings = SettleSettings()
    ladder: LadderSettings = LadderSettings()
    score: ScoreSettings = ScoreSettings()


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
