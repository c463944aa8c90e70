"""`lhp query --basis` and `lhp predict`."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from profiler_service.cli.predicted import describe_basis, describe_prediction, point_row
from profiler_service.wire import (
    CalibrationFigures,
    LearnedFigures,
    LhpAnswer,
    PredictedAnswer,
    PredictedCurve,
)
from tests.cli.conftest import Lhp
from tests.cli.predicted import LANDSCAPE, PREDICTED
from tests.cli.stub import ANSWER, NOW, StubService

LATER = NOW + dt.timedelta(minutes=3)


def test_a_prediction_is_never_called_measured(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", PREDICTED)
    done = lhp("query", "1197,317", "--basis", "predicted")
    assert done.code == 0
    first, second = done.out.splitlines()
    assert first == (
        "predicted, not measured: 1200,320 — 3.1 % faster (1.9 to 4.2 %), no slower with 97 %"
        " probability, grow by 3,3"
    )
    assert "rests on 54 sweeps with 24,120 visits" in second
    assert "31 of 32 earlier predictions held" in second
    [(query, _)] = service.sent("GET /lhp")
    assert query["basis"] == "predicted"


def test_json_is_the_prediction_and_nothing_else(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", PREDICTED)
    done = lhp("query", "1197,317", "--basis", "predicted", "--unproven", "move", "--json")
    assert PredictedAnswer.model_validate(json.loads(done.out)) == PREDICTED
    [(query, _)] = service.sent("GET /lhp")
    assert query["unproven"] == "move"


def test_any_basis_tells_which_answer_it_is(lhp: Lhp, service: StubService) -> None:
    service.reply("GET /lhp", PREDICTED.model_copy(update={"sweep": "s9"}), ANSWER, ANSWER)
    done = lhp("query", "1197,317", "--basis", "any")
    assert "predicted, not measured" in done.out
    assert "sweep s9" in done.out.splitlines()[-1]
    done = lhp("query", "1197,317", "--basis", "any")
    assert done.out.startswith("1200,320  3.4 % faster than 1197,317")
    assert "predicted" not in done.out
    measured = lhp("query", "1197,317", "--basis", "any", "--json")
    assert LhpAnswer.model_validate(json.loads(measured.out)) == ANSWER


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("query", "1,2", "--basis", "guessed"), "measured, predicted or any"),
        (("query", "--file", "-", "--basis", "any"), "isn't for questions in a file"),
        (("query", "h=3", "--callable", "a:b", "--basis", "any"), "--basis says nothing"),
        (("query", "1,2", "--param", "basis=any"), "not a parameter of a workload"),
        (("predict", "1,2", "--param", "max_points=3"), "not a parameter of a workload"),
        (("predict", "1,2", "--plot", "x.gif"), ".png, .svg, .pdf or .html"),
        (("predict", "1,x"), "dims"),
        (("predict",), "DIMS"),
    ],
)
def test_what_makes_no_sense_is_refused(
    lhp: Lhp, service: StubService, words: tuple[str, ...], said: str
) -> None:
    done = lhp(*words)
    assert done.code == 2
    assert said.lower() in done.err.lower()
    assert service.sent("GET /lhp") == []


def test_predict_lists_the_best_points_and_what_they_rest_on(
    lhp: Lhp, service: StubService
) -> None:
    service.reply("GET /curves/predicted", LANDSCAPE)
    done = lhp("predict", "1197,317", "--batch", "8", "--max-growth", "0.5", "--host", "anvil")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "predicted, not measured: 6 points from 1197,317 to 1198,319"
    assert lines[2].split() == [
        "1198,318",
        "4.0",
        "%",
        "faster",
        "2.8",
        "to",
        "5.3",
        "%",
        "96",
        "%",
    ]
    assert lines[3].split() == ["1198,317", "1.0", "%", "faster", "–", "–"]
    assert "31 of 32 earlier predictions held" in lines[4]
    [(query, _)] = service.sent("GET /curves/predicted")
    assert query == {
        "dims": "1197,317",
        "workload": "linear",
        "batch": "8",
        "max_growth": "0.5",
        "host": "anvil",
        "max_points": "10",
        "format": "json",
    }


def test_predict_prints_json_and_draws(lhp: Lhp, service: StubService, tmp_path: Path) -> None:
    service.reply("GET /curves/predicted", LANDSCAPE)
    page = tmp_path / "landscape.html"
    done = lhp("predict", "1197,317", "--json", "--plot", str(page))
    assert PredictedCurve.model_validate(json.loads(done.out)) == LANDSCAPE
    assert "Predicted: 1198 × 318 is 4.0 % faster than 1197 × 317" in page.read_text()
    assert "drawn into" in lhp("predict", "1197,317", "--plot", str(page)).err
    [(query, _), _] = service.sent("GET /curves/predicted")
    assert query["max_points"] == "100000"


class TestText:
    def describe(self, **changes: object) -> str:
        return describe_prediction(PREDICTED.model_copy(update=changes), LATER)

    def test_what_isnt_believed_leads_and_is_kept(self) -> None:
        text = self.describe(
            lhp=[1197, 317],
            grow_by=[0, 0],
            standing="uncalibrated",
            speedup_interval=None,
            probability=None,
            caveats=["uncalibrated: 2 earlier predictions"],
        )
        assert text.startswith(
            "predicted, not measured: keep 1197,317; leading is 1200,320 — 3.1 % faster\n"
        )
        assert text.endswith("\nuncalibrated: 2 earlier predictions")
        assert "use" not in text

    def test_nothing_better_is_kept(self) -> None:
        text = self.describe(candidate=[1197, 317], lhp=[1197, 317], grow_by=[0, 0])
        assert "keep 1197,317, nothing larger promises to be faster" in text

    def test_nothing_known_is_said(self) -> None:
        text = self.describe(standing="unknown", candidate=[1197, 317], lhp=[1197, 317])
        assert text.startswith("predicted, not measured: nothing is known of 1197,317, so keep it")

    def test_large_gains_are_ratios(self) -> None:
        text = self.describe(speedup=1.5, speedup_interval=(1.4, 1.6))
        assert "1200,320 — 1.50 × as fast (1.40 to 1.60 ×)" in text

    def test_what_it_rests_on_says_only_what_is_known(self) -> None:
        known = PREDICTED.model_copy(
            update={
                "rests_on": LearnedFigures(num_sweeps=1, num_visits=0, learned_at=NOW),
                "calibration": CalibrationFigures(num_scores=1, num_published=0, num_misses=0),
            }
        )
        text = describe_basis(known, LATER)
        assert "1 sweep with 0 visits, the last one 3 min ago" in text
        assert "1 earlier prediction without an interval" in text
        nothing = PREDICTED.model_copy(
            update={
                "rests_on": LearnedFigures(num_sweeps=0, num_visits=0, learned_at=None),
                "calibration": CalibrationFigures(num_scores=0, num_published=0, num_misses=0),
            }
        )
        assert describe_basis(nothing, LATER) == f"{PREDICTED.workload} on platform f00d"

    def test_a_row_has_dashes_for_what_isnt_known(self) -> None:
        assert point_row(LANDSCAPE.best[1]) == ("1198,317", "1.0 % faster", "–", "–")

    def test_control_characters_dont_reach_the_terminal(self) -> None:
        assert "\x1b" not in self.describe(caveats=["\x1b[31m"], workload="\x1b]0;")
