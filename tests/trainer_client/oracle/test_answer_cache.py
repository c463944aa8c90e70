"""Answers kept on disk: while the service is away, and replayed without any service."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.stub import ANSWER, Reply
from tests.client.conftest import Stub
from tests.trainer_client.conftest import AWAY, MakeOracle
from trainer_client.oracle.http import (
    ContractError,
    LatencyOracle,
    NoRecordedAnswerError,
    RecordedLatencyOracle,
    RecordingError,
    ServiceAwayError,
    ServiceFailedError,
)

# The cache


def test_the_cache_answers_only_while_the_service_is_away_and_says_so(
    make: MakeOracle, stub: Stub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = make(cache=tmp_path)
    first = oracle.query((1197, 317))
    second = ANSWER.model_copy(update={"curve": "c8"})
    stub.reply("GET /lhp", second, AWAY)
    assert oracle.query((1197, 317)).curve == "c8"  # the service's, not the cache's c7
    with caplog.at_level(logging.WARNING):
        cached = oracle.query((1197, 317))
    assert (cached.source, cached.curve, cached.lhp) == ("cache", "c8", first.lhp)
    assert "host 'anvil' isn't there; using its earlier answer of" in caplog.text
    with pytest.raises(ServiceAwayError):
        oracle.query((1197, 318))


def test_a_failure_of_the_service_isnt_papered_over(
    make: MakeOracle, stub: Stub, tmp_path: Path
) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    stub.reply("GET /lhp", Reply.problem(500, "the measurement failed", "see the log"))
    with pytest.raises(ServiceFailedError):
        oracle.query((1197, 317))


def test_a_cached_answer_of_another_platform_never_stands_in(
    make: MakeOracle, stub: Stub, tmp_path: Path, closed_url: str
) -> None:
    make(cache=tmp_path).query((1197, 317))
    stub.reply("GET /lhp", AWAY)
    with pytest.raises(ServiceAwayError):
        make(cache=tmp_path, platform="beef").query((1197, 317))
    # The platform pinned, it doesn't matter which service said it.
    pinned = make(closed_url, cache=tmp_path, platform="f00d").query((1197, 317))
    assert pinned.source == "cache"
    # Not pinned, another service may well be on another platform.
    with pytest.raises(ServiceAwayError):
        make(closed_url, cache=tmp_path).query((1197, 317))
    with pytest.raises(ServiceAwayError):
        make(cache=tmp_path, host="anvil").query((1197, 317))


def test_platforms_and_workloads_are_kept_apart(
    make: MakeOracle, stub: Stub, tmp_path: Path
) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    other = "linear[backend=dense,batch=32,dtype=float32]"
    stub.reply(
        "GET /lhp",
        ANSWER.model_copy(update={"platform": "../beef"}),
        ANSWER.model_copy(update={"workload": other, "curve": "c9"}),
    )
    oracle.query((1197, 317))
    oracle.query((1197, 317), params={"batch": 32})
    files = {str(p.parent.relative_to(tmp_path)) for p in tmp_path.glob("**/*.json")}
    assert files == {"f00d", "%2E%2E%2Fbeef"}
    stub.reply("GET /lhp", AWAY)
    assert make(cache=tmp_path, platform="f00d").query((1197, 317)).curve == "c7"
    assert make(cache=tmp_path).query((1197, 317), params={"batch": 32}).curve == "c9"
    # Unpinned, what the service said last.
    assert make(cache=tmp_path).query((1197, 317)).platform == "../beef"


def test_a_cache_that_cant_be_written_costs_no_answer(
    make: MakeOracle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert make(cache=tmp_path / "file").query((1197, 317)).source == "service"
    assert "isn't cached" in caplog.text


@pytest.mark.parametrize("spoil", [lambda text: text[:100], lambda text: text.replace("1200", "9")])
def test_a_spoilt_cache_is_named_not_used(
    make: MakeOracle, stub: Stub, tmp_path: Path, spoil: Callable[[str], str]
) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    (file,) = tmp_path.glob("*/*.json")
    file.write_text(spoil(file.read_text()))
    stub.reply("GET /lhp", AWAY)
    with pytest.raises((RecordingError, ContractError)):
        oracle.query((1197, 317))


# Recordings


def test_a_cache_is_a_recording(make: MakeOracle, stub: Stub, tmp_path: Path) -> None:
    given = make(cache=tmp_path).query((1197, 317))
    (file,) = tmp_path.glob("*/*.json")
    for path in (tmp_path, file):
        oracle: LatencyOracle = RecordedLatencyOracle(path)
        replayed = oracle.query((1197, 317))
        assert replayed.source == "recording"
        assert (replayed.lhp, replayed.curve) == (given.lhp, given.curve)
        assert replayed.received_at == given.received_at


def test_a_recording_answers_nothing_else(make: MakeOracle, tmp_path: Path) -> None:
    make(cache=tmp_path).query((1197, 317))
    oracle = RecordedLatencyOracle(tmp_path)
    for options in (
        {"max_growth": 0.5},
        {"multiple_of": 8},
        {"prefer": "nearest"},
        {"prefer": "nearest", "slack": 0.01},
        {"params": {"batch": 8}},
    ):
        with pytest.raises(NoRecordedAnswerError) as raised:
            oracle.query((1197, 317), **options)
        assert "it answers 1 questions: linear[backend=dense" in raised.value.hint
    with pytest.raises(NoRecordedAnswerError, match="platform 'beef'"):
        RecordedLatencyOracle(tmp_path, platform="beef").query((1197, 317))


def test_a_recording_of_two_platforms_is_ambiguous(
    make: MakeOracle, stub: Stub, tmp_path: Path
) -> None:
    oracle = make(cache=tmp_path)
    oracle.query((1197, 317))
    stub.reply("GET /lhp", ANSWER.model_copy(update={"platform": "beef", "curve": "c8"}))
    oracle.query((1197, 317))
    with pytest.raises(RecordingError, match="beef, f00d"):
        RecordedLatencyOracle(tmp_path).query((1197, 317))
    assert RecordedLatencyOracle(tmp_path, platform="beef").query((1197, 317)).curve == "c8"


def test_a_recording_that_breaks_the_contract_is_refused(make: MakeOracle, tmp_path: Path) -> None:
    make(cache=tmp_path).query((1197, 317))
    (file,) = tmp_path.glob("*/*.json")
    content = json.loads(file.read_text())
    content["answer"]["lhp"] = [9, 9]
    file.write_text(json.dumps(content))
    with pytest.raises(ContractError, match="smaller than the dims"):
        RecordedLatencyOracle(file).query((1197, 317))


def test_nothing_to_replay_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nonesuch.json"):
        with pytest.raises(RecordingError, match=str(path)):
            RecordedLatencyOracle(path)
