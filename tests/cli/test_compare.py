"""`lhp compare`: the finding, what differs, and a row for each curve."""

from __future__ import annotations

import json

from profiler_service.wire import (
    ComparedCurve,
    CurveComparison,
    CurveDifference,
    CurveRatioSummary,
)
from tests.cli.conftest import Lhp
from tests.cli.stub import HEADER, StubService

FINDING = "packed is 1.45 × as fast as dense at the median of 5 points: faster at 4."
PLAIN = ComparedCurve(
    curve=HEADER,
    label="dense",
    latency_s=[20e-6],
    low_s=[19e-6],
    high_s=[21e-6],
    status=["lhp"],
    ratios=None,
    summary=None,
)
FOUND = CurveComparison(
    finding=FINDING,
    workload="matmul",
    axis_names=["size"],
    differs=[
        CurveDifference(about="parameter", name="backend", values=["dense", "packed"]),
        CurveDifference(about="platform", name="blas", values=["3.14", None]),
    ],
    same=[],
    intervals="independent",
    num_points=5,
    num_left_out=4,
    dims=[[256]],
    curves=[
        PLAIN,
        PLAIN.model_copy(
            update={
                "curve": HEADER.model_copy(update={"id": "c8"}),
                "label": "packed",
                "summary": CurveRatioSummary(
                    num_points=5,
                    num_faster=4,
                    num_slower=0,
                    num_undecided=1,
                    verdict="faster",
                    ratio=0.69,
                    ratio_interval=(0.65, None),
                    spread=(0.6, 0.8),
                    num_lhps_of_both=None,
                    num_lhps_of_any=None,
                ),
            }
        ),
    ],
)


def test_curves_are_compared_in_words_and_in_a_table(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /curves/compare", FOUND)
    done = lhp("compare", "c7", "c8")
    assert done.code == 0
    finding, backend, blas, heading, first, second = done.out.splitlines()
    assert finding == FINDING
    assert (backend, blas) == ("backend: dense, packed", "blas: 3.14, –")
    assert heading.split()[:3] == ["CURVE", "LABEL", "RATIO"]
    assert first.split() == ["c7", "dense", "1", *"–––––"]
    assert second.split() == ["c8", "packed", "0.6900", "–", "5", "4", "0", "1"]
    assert "independent intervals" in done.err
    assert [query for query, _ in service.sent("GET /curves/compare")] == [{"ids": "c7,c8"}]


def test_json_is_the_comparison(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /curves/compare", FOUND)
    shown = json.loads(lhp("compare", "c7", "c8", "--json").out)
    assert CurveComparison.model_validate(shown) == FOUND
