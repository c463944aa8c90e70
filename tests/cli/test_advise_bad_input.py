"""`lhp advise` with models and examples that can't be had, or that fail: the rest goes on."""

from __future__ import annotations

import json

import pytest

from profiler_service.errors import WindowTooLargeError
from profiler_service.processes.exit_codes import PARTLY
from tests.cli.conftest import Lhp
from tests.cli.stub import ANSWER, KEPT, Reply, StubService


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ("misfit", "warning: the model, run on the example input, raised RuntimeError: mat1 and"),
        ("fails", "raised ValueError: no weights"),
    ],
)
def test_an_example_that_fails_is_said_and_the_rest_goes_on(
    lhp: Lhp, service: StubService, models: str, example: str, said: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:run", "--example", f"{models}:{example}")
    assert done.code == PARTLY
    assert said in done.err and "hint: " in done.err
    assert "1200,320" in done.out
    [(query, _)] = service.sent("GET /lhp")
    # The layer was called with 4 · 8 rows of the wrong width. Without an example, 16 are assumed.
    assert query["batch"] == ("32" if example == "misfit" else "16")
    assert ("failed without reaching it: batch=16" in done.err) == (example == "fails")
    done = lhp("advise", f"{models}:run", "--example", f"{models}:{example}", "--json")
    assert done.code == PARTLY
    assert "raised" in json.loads(done.out)["example_problem"]


def test_what_a_factory_prints_isnt_among_the_advice(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", KEPT)
    done = lhp("advise", f"{models}:chatty", "--json")
    assert json.loads(done.out)["example_problem"] is None
    assert "building" in done.err and "from a process of its own" in done.err


def test_a_layer_that_is_too_large_to_measure_is_a_row(
    lhp: Lhp, service: StubService, models: str
) -> None:
    refused = WindowTooLargeError("operands take 2,740 MiB", hint="ask for a narrower dtype")
    service.reply("GET /lhp", Reply.of_error(refused), ANSWER)
    done = lhp("advise", f"{models}:large")
    assert done.code == PARTLY
    _, first, second, *_ = done.out.splitlines()
    assert "151936,4096" in first and "operands take 2,740 MiB (ask for a narrower" in first
    assert "1200,320" in second
    # The same if there is no other layer.
    service.reply("GET /lhp", Reply.of_error(refused))
    done = lhp("advise", f"{models}:large")
    assert done.code == PARTLY and done.out.count("operands take 2,740 MiB") == 2


def test_a_model_that_doesnt_fit_into_memory_is_advised_without_data(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:huge")  # 16 TiB
    assert done.code == 1
    assert "(more memory than is free)" in done.err and "hint: with --meta" in done.err
    done = lhp("advise", f"{models}:huge", "--meta", "--example", f"{models}:rows")
    assert done.code == 0, done.err
    [(query, _)] = service.sent("GET /lhp")
    assert (query["dims"], query["batch"]) == ("2097152,2097152", "3")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["advise", "make"], 2, "'make' doesn't say where a model comes from"),
        (["advise", "no_such_module:make"], 2, "there is no module 'no_such_module' here"),
        (["advise", "M:nothing"], 2, "gives an object of type int, no torch.nn.Module"),
        (["advise", "M:fails"], 1, "raised ValueError: no weights"),
        (["advise", "M:plain"], 1, "ReLU has no layer with weights"),
        (["advise", "M:run", "--example", "M:gone"], 2, "has no 'gone'"),
        (["advise", "M:needs"], 1, "raised TypeError: needs() missing 1 required"),
    ],
)
def test_models_that_cant_be_advised(
    lhp: Lhp, service: StubService, models: str, arguments: list[str], code: int, message: str
) -> None:
    done = lhp(*(each.replace("M:", f"{models}:") for each in arguments))
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert not list(service.sent("GET /lhp"))


def test_a_service_that_goes_away_leaves_what_it_has_answered(
    lhp: Lhp, service: StubService, models: str
) -> None:
    away = Reply.problem(503, "the host is away", "start its worker")
    service.reply("GET /lhp", ANSWER, away)
    done = lhp("advise", f"{models}:Attends", "--example", f"{models}:words")
    assert done.code == PARTLY
    _, answered, unanswered, unasked, *_ = done.out.splitlines()
    assert "1200,320" in answered
    assert "the host is away (start its worker)" in unanswered
    assert "not asked: the host is away" in unasked
    assert len(list(service.sent("GET /lhp"))) == 2
