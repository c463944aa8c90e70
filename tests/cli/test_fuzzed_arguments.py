"""Command lines and question files that nobody would write: a clear error, never a traceback.

The commands and their options are those of the command line itself, so a new one is tried, too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from profiler_service.cli.app import app, run
from profiler_service.processes.exit_codes import CANNOT_RUN, DONE, FAILED, TRY_LATER, USAGE
from tests.cli.stub import StubService

NO_SERVICE = "http://127.0.0.1:1"
NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"
UNTIL_STOPPED = ("serve", "worker")
"""They run until somebody stops them, unless they have no database."""
NOT_OURS = {"--install-completion", "--show-completion"}
"""typer's own options, which change the user's shell."""


def find_commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command and each group of commands, with its name."""
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from find_commands(each, *path, name)


TREE = typer.main.get_command(app)
COMMANDS: dict[tuple[str, ...], Any] = dict(find_commands(TREE))

NUMBERS = st.sampled_from(
    ["0", "-0", "-1", "1", "0.5", "1e400", "1e-400", "nan", "inf", "-inf", "9" * 5000, "1_0", "٣"]
)
WORDS = st.sampled_from(
    [
        *("", "-", "--", "---", "--help", "-h", "--json", "--x=y", "=", "a=b", "pool=train", "a="),
        *("5,6", "1197,317", "5,,6", "0,0", "1,197", "5x6", "256:320", "320:256", "256:320:0", ":"),
        *("linear", "matmul", "fastest", "1%", "100%", "30d", "999999999d", "never", "read"),
        *("batch=16", "batch=16=", "vary=batch", "lhp_id_secret", "lhpjoin_a_b_c", "json:loads"),
        *(".", "questions", "curve.png", "curve.html", "missing.parquet", "lhp.sqlite"),
        *("/dev/null", "/dev/null/below", "a" * 300),
        *("\udcff", "\x1b[31m", "\u202e", "é", "−1", "[bold]", "a\nb", "%s", "{}", "\\"),
        *("http://127.0.0.1:1", "https://", "http://[::1", "http://127.0.0.1:99999", "ftp://a"),
        *(
            "http://a b",
            "http://\udcff",
            "http://u:p@127.0.0.1:1/x?y#z",
            "2026-05-01",
            "sqlite:///",
        ),
    ]
)
# No slash: nothing is written outside of the working directory.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), max_size=12)
VALUES = WORDS | NUMBERS | TEXTS | st.integers().map(str) | st.floats().map(str)
ADDRESSES = st.sampled_from(["127.0.0.1", "::1", "", "\udcff"])
"""Of `--listen`. Another name would be looked up in the network."""


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[tuple[str, ...], list[str]]:
    """A command, and words after it: some of its options, and about as many arguments as it has."""
    path = draw(st.sampled_from(sorted(COMMANDS)))
    kinds: dict[str, list[Any]] = {"option": [], "argument": []}
    for each in COMMANDS[path].params:
        if not (getattr(each, "hidden", False) or NOT_OURS & {*each.opts}):
            kinds[each.param_type_name].append(each)
    parts: list[list[str]] = []
    if kinds["option"]:
        for option in draw(st.lists(st.sampled_from(kinds["option"]), max_size=4)):
            name = draw(st.sampled_from([*option.opts, *option.secondary_opts]))
            values = ADDRESSES if name == "--listen" else VALUES
            parts.append([name] if option.is_flag else [name, draw(values)])
    as_many = len(kinds["argument"])
    count = draw(st.sampled_from([as_many, as_many, as_many, as_many + 1, max(0, as_many - 1)]))
    parts += [[draw(VALUES)] for _ in range(count)]
    return path, [word for part in draw(st.permutations(parts)) for word in part]


@pytest.fixture
def surroundings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, migrated_file: Path
) -> Iterator[pytest.MonkeyPatch]:
    """An empty directory with a database, and a machine on which nothing can be measured."""
    for name in os.environ:
        if name.startswith("LHP_"):
            monkeypatch.delenv(name)
    shutil.copyfile(migrated_file, tmp_path / "lhp.sqlite")
    monkeypatch.setenv("LHP_THREADS", "1000000")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # Otherwise typer makes all commands anew for each line, which takes most of the time.
    monkeypatch.setattr("typer.main.get_command", lambda _: TREE)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield monkeypatch


def check_end(words: Sequence[str], codes: set[int], capfd: pytest.CaptureFixture[str]) -> None:
    """Runs the command line, which ends with one of the codes, and says why if it isn't 0."""
    code = run(words)  # what it raises would be a traceback
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert code in codes, err
    if code == DONE or "Usage: " in out + err:
        return
    assert any(line.startswith("error: ") for line in err.splitlines()), err
    if "--json" in words:
        assert json.loads(out)["error"]["exit_code"] == code


FUZZED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check_line(
    line: tuple[tuple[str, ...], list[str]],
    surroundings: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path, words = line
    needs_none = path[:1] and path[0] in UNTIL_STOPPED
    surroundings.setenv("LHP_DATABASE_URL", NO_DATABASE if needs_none else "sqlite:///lhp.sqlite")
    codes = {DONE, FAILED, USAGE, *((TRY_LATER, CANNOT_RUN) if path == ("worker",) else ())}
    check_end([*path, *words], codes, capfd)


@FUZZED
@given(line=command_lines())
def test_any_command_line_ends_in_no_traceback_without_a_service(
    surroundings: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: tuple[tuple[str, ...], list[str]],
) -> None:
    surroundings.setenv("LHP_URL", NO_SERVICE)
    check_line(line, surroundings, capfd)


@FUZZED
@given(line=command_lines())
def test_any_command_line_ends_in_no_traceback_with_a_service(
    surroundings: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    service: StubService,
    line: tuple[tuple[str, ...], list[str]],
) -> None:
    surroundings.setenv("LHP_URL", service.url)
    check_line(line, surroundings, capfd)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
QUESTIONS = st.dictionaries(st.sampled_from(["dims", "batch", "workload"]) | st.text(), JSON)
CELLS = st.sampled_from(["dims", "batch", '"5,6"', '"', "", "\r", "\n", ",", "a" * 140_000])
CONTENTS = st.one_of(
    st.lists(QUESTIONS, min_size=1).map(lambda each: "\n".join(map(json.dumps, each)).encode()),
    st.lists(CELLS, max_size=12).map(lambda each: ",".join(each).encode()),
    st.sampled_from(
        [
            b'{"dims": "\\ud800"}',
            b'{"dims": NaN, "batch": 1e999}',
            b'{"dims": %s1%s}' % (b"[" * 500, b"]" * 500),
            b'{"dims": %s}' % (b"9" * 4000),
            b'dims\n"5,6"\n\xff',
            b"dims\0\n5\n",
        ]
    ),
    st.binary(max_size=80),
)


@FUZZED
@given(content=CONTENTS)
def test_any_file_of_questions_ends_in_no_traceback(
    surroundings: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    service: StubService,
    content: bytes,
) -> None:
    surroundings.setenv("LHP_URL", service.url)
    Path("questions").write_bytes(content)
    check_end(["query", "--file", "questions", "--json"], {FAILED, USAGE}, capfd)


def test_every_command_is_tried() -> None:
    # The group `lhp`, a command, and a command of a group of a group.
    assert {(), ("query",), ("hosts", "keys", "revoke")} <= COMMANDS.keys()
