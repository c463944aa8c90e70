"""`lhp advise` against a stub service: what is asked, what is shown, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from profiler_service.cli.terminal import print_records
from profiler_service.processes.exit_codes import PARTLY
from tests.cli.conftest import Lhp
from tests.cli.stub import ANSWER, KEPT, Reply, StubService, make_sweep


def test_every_layer_is_shown_and_equal_ones_asked_once(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", ANSWER, KEPT)
    done = lhp("advise", f"{models}:make", "--host", "anvil", "--max-growth", "0.25")
    assert done.code == 0, done.err
    (first, _), (second, _) = service.sent("GET /lhp")
    for query in (first, second):
        query.pop("wait")
        assert query.pop("budget") == "10.0"  # half of 60 % of 55 s, less half a second
    assert first == {
        "dims": "1197,317",
        "workload": "linear",
        "batch": "16",
        "bias": "yes",
        "dtype": "float32",
        "host": "anvil",
        "max_growth": "0.25",
    }
    assert second["workload"] == "gru" and second["dims"] == "6,5"
    assert second["steps"] == "70" and second["direction"] == "uni"
    headings, linear, gru = (line.split("  ") for line in done.out.splitlines())
    assert headings[0] == "LAYER"
    cells = [cell.strip() for cell in linear if cell.strip()]
    assert cells == [
        "up, middle.0",
        "linear batch=16 bias=yes dtype=float32",
        "1197,317",
        "1200,320",
        "3.4 % (2.9 to 3.9 %)",
        "120 µs → 116 µs",
        "out_features=1200, in_features=320*",
        "> 99.9 %",  # two layers of 317 · 1197 + 1197 numbers, and a GRU of 18 · (5 + 6 + 2)
    ]
    assert [cell.strip() for cell in gru if cell.strip()][1:] == [
        "gru batch=16 dtype=float32 steps=70",
        "6,5",
        "6,5",
        "keep: an LHP",
        "35.0 µs",
        "< 0.1 %",
    ]
    assert "* must fit the layer before: grow both together" in done.err


def test_latencies_that_are_in_doubt_are_marked(
    lhp: Lhp, service: StubService, models: str
) -> None:
    disturbed = ANSWER.model_copy(update={"disturbed": True, "noisy": True})
    service.reply("GET /lhp", disturbed, KEPT.model_copy(update={"noisy": True}))
    done = lhp("advise", f"{models}:make")
    _, linear, gru = done.out.splitlines()
    assert "120 µs → 116 µs, disturbed, noisy" in linear
    assert "35.0 µs, noisy" in gru


def test_json_has_every_layer_and_nothing_else(lhp: Lhp, service: StubService, models: str) -> None:
    service.reply("GET /lhp", ANSWER, KEPT)
    done = lhp("advise", f"{models}:make", "--json")
    up, equal, gru = json.loads(done.out)["layers"]
    assert (up["name"], equal["name"], gru["name"]) == ("up", "middle.0", "middle.1")
    assert up["sizes"] == equal["sizes"] == {"out_features": 1200, "in_features": 320}
    assert gru["sizes"] == {"hidden_size": 6, "input_size": 5}
    assert up["answer"]["curve"] == "c7" and up["problem"] == ""
    assert up["params"] == {"batch": 16, "bias": "yes", "dtype": "float32"}
    assert (up["class"], up["num_parameters"]) == ("nn.Linear", 317 * 1197 + 1197)


def test_json_has_the_layers_that_no_kind_measures(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:cubes", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["num_parameters"] == 5 * 4 + 4 * 20 + 20
    first = told["layers"][0]
    assert first == {
        "name": "0",
        "class": "nn.Conv3d",
        "num_parameters": 4,
        **dict.fromkeys(("kind", "dims", "params", "multiple_of", "sizes", "answer")),
        "problem": "no workload kind measures it",
        "notes": [],
        "time_share": None,
        "time_is_of": "0",
    }
    assert told["time"] == {"run_s": None, "num_runs": 0, "rest_share": None, "problem": None}
    assert len(told["layers"]) == 6 and told["layers"][-1]["answer"] is not None


def test_json_with_a_layer_that_has_no_answer_ends_with_the_code_for_that(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:wide", "--json")
    assert done.code == PARTLY
    unanswered, answered = json.loads(done.out)["layers"]
    assert "larger than 999999999" in unanswered["problem"] and unanswered["answer"] is None
    assert answered["answer"] is not None


def test_a_dtype_that_isnt_measured_is_told_which_there_are(lhp: Lhp, models: str) -> None:
    done = lhp("advise", f"{models}:make", "--dtype", "fp16")
    assert done.code == 2
    assert "did you mean 'float16'? " in done.err
    assert "--dtype float32, bfloat16 or float16" in done.err


def test_an_example_decides_the_batch(lhp: Lhp, service: StubService, models: str) -> None:
    service.reply("GET /lhp", ANSWER)
    lhp("advise", f"{models}:run", "--example", f"{models}:example", "--dtype", "bfloat16")
    [(query, _)] = service.sent("GET /lhp")
    assert (query["batch"], query["dtype"]) == ("32", "bfloat16")  # 4 · 8 rows


def test_one_layer_without_an_answer_doesnt_hide_the_others(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:wide")
    assert done.code == PARTLY
    assert "1200,320" in done.out.splitlines()[1]
    assert "larger than 999999999" in done.out.splitlines()[2]

    for status in (422, 500):  # 500: its sweep failed at once
        service.reply("GET /lhp", Reply.problem(status, "too much memory", "ask for less"), KEPT)
        done = lhp("advise", f"{models}:make")
        assert done.code == PARTLY
        assert "too much memory (ask for less)" in done.out.splitlines()[1]
        assert "keep: an LHP" in done.out.splitlines()[2]


def test_layers_that_arent_measured_are_named_with_their_share(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:cubes")
    assert done.code == 0, done.err
    # 5 · 4 of 5 · 4 + 20 · 4 + 20 numbers: 16.7 %.
    assert done.out.splitlines()[-1] == (
        "not measured: 5 × nn.Conv3d, 16.7 % of the parameters: no workload kind measures it"
        " (0, 1, 2 and 2 more)"
    )


@pytest.mark.parametrize(
    ("model", "name"), [("too_wide", "nn.Linear"), ("only_cubes", "nn.Conv3d")]
)
def test_a_model_none_of_whose_layers_is_measured_is_listed(
    lhp: Lhp, service: StubService, models: str, model: str, name: str
) -> None:
    done = lhp("advise", f"{models}:{model}")
    assert done.code == PARTLY
    [line] = done.out.splitlines()
    assert line.startswith(f"not measured: 1 × {name}, 100 % of the parameters: ")
    assert line.endswith("(the model itself)")
    assert not list(service.sent("GET /lhp"))


def test_products_of_attention_are_asked_in_steps_that_its_heads_allow(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:Attends", "--example", f"{models}:words")
    queries = [query for query, _ in service.sent("GET /lhp")]
    told = [
        (each["workload"], each["dims"], each["batch"], each.get("multiple_of")) for each in queries
    ]
    # 5 · 2 tokens; heads of 3.
    assert told == [
        ("embedding", "9", "10", None),
        ("linear", "18,6", "10", "9,3"),
        ("linear", "6,6", "10", "3,3"),
        ("linear", "9,6", "16", None),
    ]
    assert "words: copies rows of its table" in done.err
    assert "spare: the example doesn't reach it: batch=16 is assumed" in done.err


def test_a_narrow_terminal_shows_a_layer_below_the_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # taken for a terminal
    monkeypatch.setenv("TERM", "xterm")
    headings, rows = ("LAYER", "NOW", "SIZES"), [["up" * 20, "1197,317", ""], ["down", "8", "n=8"]]
    monkeypatch.setenv("COLUMNS", "50")
    print_records(headings, rows)
    assert capsys.readouterr().out.splitlines() == [
        "up" * 20,
        "  now    1197,317",
        "down",
        "  now    8",
        "  sizes  n=8",
    ]
    monkeypatch.setenv("COLUMNS", "80")
    print_records(headings, rows)
    assert len(capsys.readouterr().out.splitlines()) == 3  # a table


@pytest.mark.parametrize(
    ("reply", "code", "message"),
    [
        (Reply.problem(503, "the host is away", "start it"), 1, "the host is away"),
        (Reply.problem(422, "too much memory", "ask for less"), 2, "too much memory"),
        (Reply.problem(404, "there is no host 'x'", "see hosts"), 1, "there is no host 'x'"),
    ],
)
def test_no_answer_at_all_is_an_error(
    lhp: Lhp, service: StubService, models: str, reply: Reply, code: int, message: str
) -> None:
    service.reply("GET /lhp", reply)
    done = lhp("advise", f"{models}:make", "--time", "1")
    assert (done.code, done.out) == (code, "")
    assert f"error: {message}" in done.err and "hint: " in done.err


def test_a_layer_that_takes_too_long_leaves_its_sweep_to_go_on(
    lhp: Lhp, service: StubService, models: str
) -> None:
    sweep = make_sweep(mode="race", error="no CUDA device here")
    service.reply("GET /lhp", Reply.accepted(sweep), ANSWER)
    service.reply("GET /sweeps/s1", sweep)
    done = lhp("advise", f"{models}:make", "--time", "1")
    assert done.code == PARTLY
    assert "sweep s1 is running, 25% done, paused: no CUDA device here" in done.out
    assert "the sweep goes on: ask again later, or with a longer --time" in done.out
    assert "paused: no CUDA device here" in done.err  # while it was waited for


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    # As on a machine without torch: nothing of that name is found.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class WithoutTorch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': raise ModuleNotFoundError('No module', name=name)\n"
        "sys.meta_path.insert(0, WithoutTorch())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "profiler_service.cli", "advise", "m:make"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: lhp advise needs torch, which isn't installed\n"
        "hint: pip install 'lhp-profiler[measure]'\n"
    )


def test_shares_of_time_are_shown_beside_the_weights(
    lhp: Lhp, service: StubService, models: str
) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:Attends", "--example", f"{models}:words")
    headings, *rows = done.out.splitlines()
    assert headings.split()[-2:] == ["WEIGHTS", "TIME"]
    by_name = {row.split()[0]: row for row in rows}
    # The three products of attention are one layer, whose time each of them shows.
    projected, output = (by_name[f"attention.{each}_proj"].split()[-2:] for each in ("in", "out"))
    assert projected == output and projected[-1] == "%†"
    assert by_name["spare"].split()[-2:] == ["0", "%"]  # the example doesn't reach it
    assert by_name["not"].startswith("not measured: 1 × nn.MultiheadAttention, 0 % of the param")
    assert "%† of the time: its attention gives its weights" in by_name["not"]
    assert re.fullmatch(r"in no layer: [\d.]+ % of the time, .*", rows[-1])
    assert re.search(r"TIME: shares of 15 runs on the example here, [\d.]+ .?s each\n", done.err)
    assert "† the time of the whole layer" in done.err
    done = lhp("advise", f"{models}:Attends", "--example", f"{models}:words", "--json")
    told = json.loads(done.out)
    shares = {each["time_is_of"]: each["time_share"] for each in told["layers"]}
    assert sum(shares.values()) + told["time"]["rest_share"] == pytest.approx(1)
    assert shares["spare"] == 0 < shares["attention"] and told["time"]["num_runs"] == 15


def test_without_data_there_are_no_times(lhp: Lhp, service: StubService, models: str) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:Attends", "--example", f"{models}:words", "--meta")
    assert done.out.splitlines()[0].split()[-1] == "WEIGHTS"
    assert "TIME" not in done.err and "in no layer" not in done.out


def test_a_model_that_runs_once_has_no_times(lhp: Lhp, service: StubService, models: str) -> None:
    service.reply("GET /lhp", ANSWER)
    done = lhp("advise", f"{models}:Once", "--example", f"{models}:example")
    assert done.code == 0, done.err
    assert "shares of time aren't known: the model, run again on the example, raised" in done.err
    assert done.out.splitlines()[0].split()[-1] == "WEIGHTS"
