"""Many questions at once: each its own outcome, and asked again while they are open."""

from __future__ import annotations

import json

import pytest

from profiler_service.client import ContractError
from profiler_service.client.following import POLL_S
from profiler_service.wire import MAX_BATCH, LhpBatchAnswer, LhpBatchItem, Problem
from tests.cli.stub import ANSWER, make_sweep
from tests.client.conftest import Make, Stub, Time

ANSWERED = LhpBatchItem(status=200, answer=ANSWER)
OPEN = LhpBatchItem(status=202, sweep=make_sweep(state="queued", progress=None))


def problem(status: int) -> LhpBatchItem:
    return LhpBatchItem(
        status=status, problem=Problem(title="No", status=status, detail="no", hint="ask")
    )


BAD, FULL = problem(422), problem(429)


def items(*given: LhpBatchItem) -> LhpBatchAnswer:
    return LhpBatchAnswer(items=list(given))


def bodies(stub: Stub) -> list[list[dict[str, object]]]:
    return [json.loads(body) for _, body in stub.sent("POST /lhp/batch")]


def test_each_question_gets_its_own(make: Make, stub: Stub) -> None:
    stub.reply("POST /lhp/batch", items(ANSWERED, BAD))
    found = make(host="anvil").ask_lhp_batch([{"dims": "1197,317"}, {"dims": "x"}], wait_s=60)
    assert found == [ANSWERED, BAD]
    assert bodies(stub) == [[{"host": "anvil", "dims": d} for d in ("1197,317", "x")]]


def test_open_questions_are_asked_again_and_no_others(make: Make, stub: Stub, time: Time) -> None:
    stub.reply(
        "POST /lhp/batch", items(OPEN, ANSWERED, FULL), items(ANSWERED, OPEN), items(ANSWERED)
    )
    found = make().ask_lhp_batch([{"dims": "1"}, {"dims": "2"}, {"dims": "3"}], wait_s=60)
    assert found == [ANSWERED] * 3
    assert bodies(stub)[1:] == [[{"dims": "1"}, {"dims": "3"}], [{"dims": "3"}]]
    # The service holds what is being measured; a full queue is asked again after a pause.
    assert time.pauses_s == [POLL_S]


def test_when_the_time_is_over_they_are_given_as_they_are(
    make: Make, stub: Stub, time: Time
) -> None:
    stub.reply("POST /lhp/batch", items(OPEN))

    def hold(_route: str) -> None:
        time.now_s += 5.0

    stub.at_request = hold
    assert make().ask_lhp_batch([{"dims": "1"}], wait_s=12) == [OPEN]
    assert len(bodies(stub)) == 3


def test_more_than_one_request_takes_are_asked_in_several(make: Make, stub: Stub) -> None:
    stub.reply("POST /lhp/batch", items(*[ANSWERED] * MAX_BATCH), items(ANSWERED))
    found = make().ask_lhp_batch([{"dims": "1"}] * (MAX_BATCH + 1), wait_s=60)
    assert found == [ANSWERED] * (MAX_BATCH + 1)
    assert [len(body) for body in bodies(stub)] == [MAX_BATCH, 1]


def test_no_questions_ask_nothing(make: Make, stub: Stub) -> None:
    assert make().ask_lhp_batch([], wait_s=60) == []
    assert stub.requests == []


def test_an_answer_that_lacks_some_is_refused(make: Make, stub: Stub) -> None:
    stub.reply("POST /lhp/batch", items(ANSWERED))
    with pytest.raises(ContractError, match="of 2 questions the service answered 1"):
        make().ask_lhp_batch([{"dims": "1"}, {"dims": "2"}], wait_s=60)


@pytest.mark.parametrize("fields", [{}, {"answer": ANSWER, "problem": BAD.problem}])
def test_an_item_is_exactly_one_thing(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        LhpBatchItem.model_validate({"status": 200, **fields})
