"""Log lines: their form as JSON, and what they have in common within a piece of work."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from profiler_service.telemetry.log_context import (
    choose_request_id,
    current_log_context,
    current_request_id,
    log_context,
)
from profiler_service.telemetry.logs import create_json_formatter


def format_json(
    message: str, *arguments: object, error: Exception | None = None
) -> dict[str, object]:
    """What a program reads of one line."""
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.getLogger("profiler_service.here").makeRecord(
        "profiler_service.here", logging.WARNING, "f.py", 1, message, arguments, exc_info
    )
    (line,) = create_json_formatter().format(record).splitlines()
    described: dict[str, object] = json.loads(line)
    return described


def test_a_json_line_says_when_what_and_who_logged_it() -> None:
    described = format_json("sweep %s failed:\nno \u00e4nswer", "5")
    assert str(described.pop("timestamp")).endswith("Z")
    assert described == {
        "level": "warning",
        "logger": "profiler_service.here",
        "event": "sweep 5 failed:\nno \u00e4nswer",
    }


def test_a_json_line_has_the_context_that_it_was_logged_in() -> None:
    with log_context(request_id="r1"), log_context(sweep="s1"):
        described = format_json("inner")
    assert (described["request_id"], described["sweep"]) == ("r1", "s1")
    assert "request_id" not in format_json("outer")


def test_a_traceback_stays_in_one_json_line() -> None:
    try:
        raise ValueError("wrong")
    except ValueError as error:
        described = format_json("failed", error=error)
    assert "ValueError: wrong" in str(described["exception"])


def test_a_context_ends_where_it_began_and_none_takes_a_value_away() -> None:
    with log_context(request_id="r1"):
        with log_context(request_id=None, sweep="s1"):
            assert current_log_context() == {"sweep": "s1"}
            assert current_request_id() is None
        assert current_request_id() == "r1"
    assert current_log_context() == {}


def test_threads_and_tasks_of_a_request_have_its_context() -> None:
    async def ask(name: str) -> tuple[str | None, str | None]:
        with log_context(request_id=name):
            task = asyncio.create_task(asyncio.to_thread(current_request_id))
            await asyncio.sleep(0)  # the other request is served meanwhile
            return await task, current_request_id()

    async def ask_both() -> list[tuple[str | None, str | None]]:
        return [*await asyncio.gather(ask("r1"), ask("r2"))]

    assert asyncio.run(ask_both()) == [("r1", "r1"), ("r2", "r2")]


@pytest.mark.parametrize("given", ["7", "a-b_c.d:e+f/g=h@i", "0" * 128])
def test_a_sane_request_id_is_kept(given: str) -> None:
    assert choose_request_id(given) == given


@pytest.mark.parametrize(
    "given", [None, "", "0" * 129, "-x", "a b", "a\nb", "a\tb", "\u00e4", 'a"']
)
def test_any_other_request_id_is_replaced_by_a_new_one(given: str | None) -> None:
    first, second = choose_request_id(given), choose_request_id(given)
    assert first != second
    assert choose_request_id(first) == first
