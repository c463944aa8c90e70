"""`lhp query --file`: many questions from a file, a line for each."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from profiler_service.wire import LhpBatchAnswer
from tests.cli.conftest import Lhp
from tests.cli.stub import StubService
from tests.client.test_batch import ANSWERED, BAD, OPEN, items

CSV = 'dims,batch,dtype\n"1197,317",16,bfloat16\n"512,768",,\n'
JSON_LINES = '{"dims": [1197, 317], "batch": 16}\n\n{"dims": "512,768"}\n'


def sent(service: StubService) -> list[dict[str, object]]:
    [(_, body)] = service.sent("POST /lhp/batch")
    questions: list[dict[str, object]] = json.loads(body)
    return questions


def test_a_line_for_each_question_of_a_csv_file(
    lhp: Lhp, service: StubService, tmp_path: Path
) -> None:
    service.reply("POST /lhp/batch", items(ANSWERED, BAD))
    (tmp_path / "q.csv").write_text(CSV)
    done = lhp("query", "--file", "q.csv", "--prefer", "nearest", "--batch", "8")
    assert done.code == 3
    answered, refused = done.out.splitlines()
    assert answered.startswith("1200,320  3.4 % faster than 1197,317")
    assert refused == "512,768  error: no (ask)"
    given = {"workload": "linear", "prefer": "nearest", "effort": "quick"}
    assert sent(service) == [
        {**given, "dims": "1197,317", "batch": "16", "dtype": "bfloat16"},
        {**given, "dims": "512,768", "batch": 8},
    ]


def test_answers_from_memory_are_said_once(lhp: Lhp, service: StubService, tmp_path: Path) -> None:
    assert ANSWERED.answer is not None
    marked = ANSWERED.answer.model_copy(update={"database_away_s": 42})
    away = ANSWERED.model_copy(update={"answer": marked})
    service.reply("POST /lhp/batch", items(away, away))
    (tmp_path / "q.csv").write_text(CSV)
    done = lhp("query", "--file", "q.csv")
    assert (done.code, done.err.count("has been away for 42 s")) == (0, 1)


def test_json_lines_from_standard_input_and_back(
    lhp: Lhp, service: StubService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.reply("POST /lhp/batch", items(ANSWERED, ANSWERED))
    monkeypatch.setattr("sys.stdin", io.StringIO(JSON_LINES))
    done = lhp("query", "--file", "-", "--json")
    assert done.code == 0
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line.pop("question")["dims"] for line in lines] == [[1197, 317], "512,768"]
    assert LhpBatchAnswer.model_validate({"items": lines}) == items(ANSWERED, ANSWERED)
    assert [question["dims"] for question in sent(service)] == [[1197, 317], "512,768"]


def test_what_is_not_measured_in_time_is_named_with_its_sweep(
    lhp: Lhp, service: StubService, tmp_path: Path
) -> None:
    service.reply("POST /lhp/batch", items(OPEN))
    (tmp_path / "q.jsonl").write_text('{"dims": [512, 768]}')
    done = lhp("query", "--file", "q.jsonl", "--wait", "0")
    assert done.code == 1
    assert done.out == "512,768  not measured yet: sweep s1 is queued\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no questions"),
        ("dims\n", "has no questions"),
        ("1197,317\n512,768\n", "line 2 is no question"),
        ("dims,batch\n1197,317,16\n", "line 2 is no question"),
        ('{"dims": "1,2"}\n[1, 2]\n', "line 2 is no object"),
        ('{"dims": "1,2"}\n{"dims"\n', "line 2 is no JSON"),
    ],
)
def test_a_file_without_questions_is_refused(
    lhp: Lhp, service: StubService, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "q").write_text(text)
    done = lhp("query", "--file", "q")
    assert done.code == 2 and message in done.err and "hint:" in done.err
    assert service.sent("POST /lhp/batch") == []


def test_either_dims_or_a_file(lhp: Lhp) -> None:
    for arguments in ([], ["1197,317", "--file", "q.csv"]):
        done = lhp("query", *arguments)
        assert done.code == 2 and "either DIMS or --file" in done.err
    assert "can't be read" in lhp("query", "--file", "missing.csv").err
