"""`lhp query --file`: reads questions from a file, asks them together, and prints what each got.

    dims,batch                          {"dims": "1197,317", "batch": 16}
    "1197,317",16                       {"dims": [512, 768], "dtype": "bfloat16"}

Uses HTTP only through the client.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from profiler_service.cli.text import describe_answer
from profiler_service.errors import InvalidRequestError
from profiler_service.printable import printable
from profiler_service.processes.exit_codes import DONE, FAILED, PARTLY
from profiler_service.wire import LhpBatchItem

FileQuestion = dict[str, str | int | float]


def read_questions(file: str, given: Mapping[str, str | int | float]) -> list[FileQuestion]:
    """The questions in a CSV or JSON-lines file, `-` for standard input; `given` fills gaps.

    Raises InvalidRequestError.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise InvalidRequestError(
            f"{file} can't be read: {error}", hint="give a CSV or JSON-lines file, or - for stdin"
        ) from error
    is_json = text.lstrip().startswith("{")
    rows = _read_json_lines(text) if is_json else _read_csv(text)
    if not rows:
        raise InvalidRequestError(
            f"{file} has no questions",
            hint='write a line for each: {"dims": "1197,317"}; or CSV whose first line is: dims',
        )
    return [{**given, **row} for row in rows]


def _read_csv(text: str) -> list[FileQuestion]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    hint = 'name the columns in the first line (dims,batch), and quote dims: "1197,317"'
    questions: list[FileQuestion] = []
    try:
        for row in reader:
            # More cells than names stand under None, and missing cells are None.
            if None in row or "dims" not in row:
                raise InvalidRequestError(f"line {reader.line_num} is no question", hint=hint)
            questions.append({name: value for name, value in row.items() if value})
    except csv.Error as error:
        raise InvalidRequestError(
            f"line {reader.line_num} is no CSV: {error}", hint=hint
        ) from error
    return questions


def _read_json_lines(text: str) -> list[FileQuestion]:
    questions: list[FileQuestion] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            question = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(
                f"line {number} is no JSON: {error}", hint="write one object a line"
            ) from error
        if not isinstance(question, dict):
            raise InvalidRequestError(
                f"line {number} is no object", hint='write {"dims": "1197,317"}'
            )
        questions.append(question)
    return questions


def describe_item(question: Mapping[str, object], item: LhpBatchItem, now: dt.datetime) -> str:
    """What a question got, in one line."""
    if item.answer is not None:
        return describe_answer(item.answer, now).splitlines()[0]
    dims = question.get("dims", "?")
    asked = ",".join(map(str, dims)) if isinstance(dims, list) else str(dims)
    if item.sweep is not None:
        return printable(f"{asked}  not measured yet: sweep {item.sweep.id} is {item.sweep.state}")
    assert item.problem is not None
    hint = f" ({item.problem.hint})" if item.problem.hint else ""
    return printable(f"{asked}  error: {item.problem.detail}{hint}")


def item_to_json(question: Mapping[str, object], item: LhpBatchItem) -> str:
    """What a question got, and the question, as one line of JSON."""
    return json.dumps({"question": dict(question), **item.model_dump(mode="json")})


def choose_exit_code(items: Sequence[LhpBatchItem]) -> int:
    """Done if every question has an answer, partly if some have."""
    num_answers = sum(item.answer is not None for item in items)
    if num_answers == len(items):
        return DONE
    return PARTLY if num_answers else FAILED
