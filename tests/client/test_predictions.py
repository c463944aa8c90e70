"""Predictions through both clients."""

from __future__ import annotations

import pytest

from profiler_service.client import ContractError
from profiler_service.errors import InvalidRequestError, TooManyRequestsError
from tests.cli.predicted import LANDSCAPE, PREDICTED
from tests.cli.stub import ANSWER, Reply
from tests.client.conftest import Make, Stub

DIMS = {"dims": "1197,317"}


def test_a_prediction_is_asked_for_and_read(make: Make, stub: Stub) -> None:
    stub.reply("GET /lhp", PREDICTED)
    assert make(host="anvil").predict_lhp({**DIMS, "unproven": "move"}) == PREDICTED
    [(query, _)] = stub.sent("GET /lhp")
    assert query == {**DIMS, "unproven": "move", "host": "anvil", "basis": "predicted"}


def test_any_answer_has_its_own_class(make: Make, stub: Stub) -> None:
    stub.reply("GET /lhp", PREDICTED, ANSWER)
    client = make(host="anvil")
    assert client.find_lhp(DIMS) == PREDICTED
    assert client.find_lhp({**DIMS, "platform": "f00d"}) == ANSWER
    first, second = (query for query, _ in stub.sent("GET /lhp"))
    assert first == {**DIMS, "host": "anvil", "basis": "any"}
    assert second == {**DIMS, "platform": "f00d", "basis": "any"}


def test_a_landscape_is_read(make: Make, stub: Stub) -> None:
    stub.reply("GET /curves/predicted", LANDSCAPE)
    assert make().predict_curve({**DIMS, "max_points": 100}) == LANDSCAPE
    [(query, _)] = stub.sent("GET /curves/predicted")
    assert query == {**DIMS, "max_points": "100", "format": "json"}


def test_a_measured_question_has_no_basis(make: Make, stub: Stub) -> None:
    with pytest.raises(InvalidRequestError, match="measured") as caught:
        make().ask_lhp({**DIMS, "basis": "any"}, wait_s=1)
    assert "find_lhp" in caught.value.hint
    assert stub.sent("GET /lhp") == []
    assert make().ask_lhp({**DIMS, "basis": "measured"}, wait_s=1) == ANSWER


def test_what_is_no_answer_is_refused(make: Make, stub: Stub) -> None:
    stub.reply("GET /lhp", LANDSCAPE)
    with pytest.raises(ContractError):
        make().find_lhp(DIMS)
    stub.reply("GET /lhp", Reply.of_error(TooManyRequestsError("full", hint="later")))
    with pytest.raises(TooManyRequestsError):
        make(attempts=1).predict_lhp(DIMS)
