"""The terms of a race, and whether a stored race knows its answer as closely. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from profiler_service.analysis.evidence import Evidence
from profiler_service.plan.spec import DEFAULT_MARGIN, DEFAULT_SETTLE_S, RaceTerms
from profiler_service.wire import parse_share


def read_terms(*, margin: str | None, settle_s: float | None, slack: str | None) -> RaceTerms:
    """The terms, from shares as people write them; None: the default.

    Raises InvalidRequestError for what is no share.
    """
    return RaceTerms(
        margin=None if margin is None else parse_share(margin, name="margin"),
        settle_s=DEFAULT_SETTLE_S if settle_s is None else settle_s,
        slack=0.0 if slack is None else parse_share(slack, name="slack"),
    )


def is_settled(evidence: Evidence, terms: RaceTerms) -> bool:
    """Whether nothing that the race compared is faster than its answer by the wanted margin.

    A race that was settled for a finer margin is settled for this one. So is one that wasn't
    settled for a finer margin, but came as close as this one.
    """
    if terms.margin is not None and evidence.margin is not None:
        return evidence.margin <= terms.margin
    wanted, asked = terms.margin, evidence.asked_margin
    is_as_fine = asked is None or asked <= (DEFAULT_MARGIN if wanted is None else wanted)
    return bool(evidence.settled) and is_as_fine


def find_margin(
    evidence: Evidence,
    terms: RaceTerms,
    *,
    carried: tuple[tuple[float, float], tuple[float, float]] | None,
) -> tuple[float | None, bool]:
    """The margin of an answer after a race, and whether it is settled.

    `carried` are the intervals on the speed-ups of the race's own answer and of the given one, if
    that is another.
    """
    margin = evidence.margin
    if margin is None or carried is None:
        return margin, is_settled(evidence, terms)
    margin = carry_margin(margin, *carried)
    # The race was satisfied with what it reached, or with more.
    is_kept = margin <= max(evidence.margin or 0.0, DEFAULT_MARGIN)
    return margin, is_kept and is_settled(replace(evidence, margin=margin), terms)


def is_enough(evidence: Evidence, terms: RaceTerms, budget_s: float | None) -> bool:
    """Whether the race answers a question with these terms.

    It does if it is settled for them, or if at least as much time wasn't enough for what it was
    asked for: a margin that can't be reached must not be measured for ever.
    """
    if is_settled(evidence, terms):
        return True
    if evidence.asked_settle_s is None:  # from before races had terms
        return terms == RaceTerms()
    if evidence.settled:
        return False  # it stopped when it was satisfied with less
    given_s = min(evidence.asked_settle_s, evidence.asked_budget_s or math.inf)
    return given_s >= min(terms.settle_s, budget_s or math.inf)


def find_margin_caveat(margin: float | None, terms: RaceTerms, *, settled: bool) -> list[str]:
    """Says which margin was reached instead of the one that was asked for, if there is one."""
    if settled or terms.margin is None or margin is None:
        return []
    return [
        f"not settled: a margin of {terms.margin:.2%} wasn't reached in {terms.settle_s:g} s of"
        f" measuring; this host resolved {margin:.2%}. A larger settle may reach less."
    ]


def carry_margin(
    margin: float, known_for: tuple[float, float], answer: tuple[float, float]
) -> float:
    """By how much anything may be faster than an answer, if the margin is known for another point.

    Both points are given by the intervals on their speed-ups over the queried one. Relative to the
    other point, the answer may be as slow as the lower end of its own and the upper end of the
    other one's say. The errors of the margin and of these two ends add.
    """
    return 1 - (1 - margin) * min(1.0, answer[0] / known_for[1])
