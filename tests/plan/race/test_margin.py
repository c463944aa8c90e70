"""How much faster than the answer anything may be that isn't a finalist."""

from __future__ import annotations

import math

import numpy as np
import pytest

from profiler_service.plan.race.margin import UnseenLead, bound_leads, find_unseen_lead
from profiler_service.plan.race.standing import Standing


def standing_of(*level: float, error: float) -> Standing:
    """Points 1, 2, … with these log latencies, whose errors have nothing in common."""
    count = len(level)
    return Standing(
        points=np.arange(1, count + 1, dtype=np.int32),
        level=np.array(level),
        covariance=error**2 * np.eye(count),
        visits=np.full(count, 10),
        noise=error,
    )


def test_leads_are_bounded_by_errors_and_by_what_processes_share() -> None:
    """Points 3 and 4 are left: z = 2.24 for 0.025 / 2. Two errors of 1 % are one of 1.414 %.

    z of these are 3.170 %, and with 2 % that processes share √(3.170² + 2²) = 3.748 %.
    """
    standing = standing_of(0.0, -0.01, 0.03, 0.2, error=0.01)
    points, leads = bound_leads(standing, 1, [2], error=0.025, between=np.full(4, 0.02))
    assert points.tolist() == [3, 4]
    # Point 3 is 3 % slower by its visits: 0.748 % may be left of that. Point 4 surely is slower.
    assert leads.tolist() == pytest.approx([1 - math.exp(-0.00748), 0.0], abs=2e-5)


def test_without_others_nothing_is_bounded() -> None:
    standing = standing_of(0.0, 0.1, error=0.01)
    points, leads = bound_leads(standing, 1, [2], error=0.025, between=np.zeros(2))
    assert (points.tolist(), leads.tolist()) == ([], [])


def test_more_points_left_make_wider_bounds() -> None:
    """Bonferroni: z = 1.96 for one point, 3.02 for twenty. Equal points of error 1 %."""
    for count, z in ((1, 1.960), (20, 3.023)):
        standing = standing_of(*[0.0] * (count + 1), error=0.01)
        _, leads = bound_leads(standing, 1, [], error=0.025, between=np.zeros(count + 1))
        expected = 1 - math.exp(-z * 0.01 * math.sqrt(2))
        assert leads.tolist() == pytest.approx([expected] * count, abs=2e-5)


def test_a_lead_is_exceeded_in_no_more_draws_than_the_risk_allows() -> None:
    lead = UnseenLead(leads=np.linspace(0.0199, 0.0, 200))  # 1.99 %, 1.98 %, …
    # 5 % of 200 draws are ten: 1.99 to 1.90 % exceed 1.89 %.
    assert lead.exceeded_with(0.05) == pytest.approx(0.0189)
    assert lead.find_risk(lead.exceeded_with(0.05)) == 0.05
    assert lead.find_risk(0.02) == 0.0
    assert lead.find_risk(0.00995) == 0.5


def test_drift_since_the_model_is_no_lead() -> None:
    """The model's log latencies are 0.1 lower than those of the contest, for all points alike.

    The answer then is at -0.1 by the model, and draws of -0.12, -0.11 and 0 lead by 2, 1 and 0 %.
    """
    standing = standing_of(0.0, 0.02, 0.03, error=0.0)
    expected = np.array([-0.1, -0.08, -0.07])
    drawn = np.array([-0.12, -0.11, 0.0])
    lead = find_unseen_lead(standing, 1, expected, drawn, np.random.default_rng(0))
    by = [1 - math.exp(-0.02), 1 - math.exp(-0.01), 0.0]
    assert lead.leads.tolist() == pytest.approx(by, abs=1e-6)


def test_the_error_of_the_answers_level_is_in_the_draws() -> None:
    """Three levels with errors of 1 %: one less their mean errs by √(4/9 + 1/9 + 1/9) = 0.82 %.

    No draw of an unseen point differs from the answer. So half of them lead, and a lead is exceeded
    in 2.5 % of them at 1.96 of these errors.
    """
    standing = standing_of(0.0, 0.02, 0.03, error=0.01)
    lead = find_unseen_lead(
        standing, 1, np.array([0.0, 0.02, 0.03]), np.zeros(20_000), np.random.default_rng(0)
    )
    assert lead.find_risk(0.0) == pytest.approx(0.5, abs=0.01)
    assert lead.exceeded_with(0.025) == pytest.approx(1.96 * 0.01 * math.sqrt(6) / 3, rel=0.03)
