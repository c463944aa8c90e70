"""What both questions have in common: ready-made responses, and the parameters they take."""

from __future__ import annotations

import pytest

from profiler_service.api import questions
from profiler_service.api.questions import ReadyResponses


def test_ready_responses_are_of_one_generation() -> None:
    ready = ReadyResponses()
    assert ready.find(b"/lhp?a", 1) is None
    ready.keep(b"/lhp?a", b"answer", 1)
    assert ready.find(b"/lhp?a", 1) == b"answer"
    assert ready.find(b"/lhp?b", 1) is None
    assert ready.find(b"/lhp?a", 2) is None
    ready.keep(b"/lhp?b", b"newer", 2)
    assert ready.find(b"/lhp?a", 2) is None
    assert ready.find(b"/lhp?b", 2) == b"newer"


def test_ready_responses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MAX_READY_RESPONSES", 2)
    ready = ReadyResponses()
    for address in (b"a", b"b", b"c"):
        ready.keep(address, b"answer", 1)
    assert [ready.find(address, 1) for address in (b"a", b"b", b"c")] == [
        None,
        b"answer",
        b"answer",
    ]
    ready.keep(b"x" * 600, b"answer", 1)
    assert ready.find(b"x" * 600, 1) is None
    assert ready.find(b"b", 1) == b"answer"
