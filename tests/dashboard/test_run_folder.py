"""The reader of training runs: what the trainer writes, and whatever else may lie in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from profiler_service.dashboard import run_folder
from profiler_service.dashboard.run_folder import EPOCHS, MOST_BYTES, REPORT, STEPS, RunFolder
from profiler_service.errors import UnknownAddressError
from tests.dashboard.run_files import LONG, SPARSE, copy_run, epoch_row, step_row, write_run
from tests.trainer_client.report.test_write import ROWS, Service
from tests.trainer_client.stand_ins import make_run
from tests.trainer_client.texts import tiny_config
from trainer_client.report.write import make_report


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "runs"
    path.mkdir()
    return path


def problems_of(root: Path, name: str = "one") -> str:
    return "; ".join(RunFolder(root).read(name).problems)


def test_what_the_trainer_writes_is_read(root: Path) -> None:
    """The trainer itself writes these files: its logs, and a report with latencies."""
    run = make_run(tiny_config(), root / "one")
    run.step = "baseline"
    run.begin_training(max_epochs=2, learning_rate=1e-3)
    run.train()
    run.rows, run.step = list(ROWS), "done"
    run.save()
    report = make_report(root / "one", Service())
    found = RunFolder(root).read("one")
    assert found.problems == []
    assert found.is_reported and found.is_finished
    assert [row.step for row in found.steps] == [row["step"] for row in ROWS]
    assert [row.epoch for row in found.epochs] == [1, 2]
    assert found.metric == "perplexity"
    for step, latency in report.latencies.items():
        assert found.latencies[step].latency_s == latency.latency_s
        assert found.latencies[step].ratio_low == latency.ratio_low
    [answer] = [row.answer for row in found.steps if row.answer is not None]
    assert (answer.dims, answer.lhp) == ([8, 4], [10, 4])


@pytest.mark.parametrize(("source", "steps", "epochs"), [(SPARSE, 3, 48), (LONG, 4, 112)])
def test_runs_of_earlier_versions_are_read(
    root: Path, source: Path, steps: int, epochs: int
) -> None:
    copy_run(source, root / "one")
    run = RunFolder(root).read("one")
    assert run.problems == []
    assert (len(run.steps), len(run.epochs)) == (steps, epochs)
    assert run.is_finished is (source == SPARSE)


def test_another_task_has_another_metric(root: Path) -> None:
    row = step_row()
    del row["valid_perplexity"], row["test_perplexity"]
    write_run(root / "one", steps=[row | {"valid_word_error_rate": 0.25}])
    run = RunFolder(root).read("one")
    assert run.metric == "word_error_rate"
    assert run.steps[0].measured("valid", run.metric) == 0.25
    assert run.steps[0].measured("test", run.metric) is None


def test_a_step_that_changed_since_the_report_has_no_latency(root: Path) -> None:
    run = copy_run(SPARSE, root / "one")
    rows = [json.loads(line) for line in (run / STEPS).read_text().splitlines()]
    rows[1]["dims"] = [376, 100]
    write_run(run, steps=rows)
    found = RunFolder(root).read("one")
    assert set(found.latencies) == {"baseline", "weights"}
    assert not found.is_reported and not found.is_finished


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"step": "baseline", "dims": [12', "line 1 of steps.jsonl is cut or damaged"),
        (b"\x89PNG\r\n\x1a\n\x00", "line 1 of steps.jsonl is cut or damaged"),
        (b"[" * 100_000, "line 1 of steps.jsonl is cut or damaged"),
        (b'{"loss": 1.5}\n', "line 1 of steps.jsonl isn't what the trainer writes"),
        (b"[1, 2]\n", "line 1 of steps.jsonl isn't what the trainer writes"),
    ],
)
def test_a_damaged_or_foreign_log_is_refused(root: Path, content: bytes, says: str) -> None:
    write_run(root / "one", epochs=[epoch_row()])
    (root / "one" / STEPS).write_bytes(content)
    run = RunFolder(root).read("one")
    assert says in "; ".join(run.problems)
    assert run.steps == [] and len(run.epochs) == 1  # the others are shown


@pytest.mark.parametrize(
    "changes",
    [
        {"dims": []},
        {"dims": [12.5, 8]},
        {"dims": ["12"]},
        {"dims": [-1]},
        {"dims": [1] * 17},
        {"dims": [2**60]},
        {"step": ""},
        {"step": "x" * 101},
        {"density": 1.5},
        {"recurrent_parameters": True},
        {"threshold": float("inf")},  # json writes Infinity
        {"answer": {"dims": "all"}},
    ],
)
def test_a_line_with_an_impossible_value_is_refused(root: Path, changes: dict[str, object]) -> None:
    write_run(root / "one", steps=[step_row(), step_row("growth") | changes])
    assert "line 2 of steps.jsonl isn't what the trainer writes" in problems_of(root)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "9.5", True, None, 10**400, [9.5]])
def test_a_metric_that_is_no_number_is_unknown(root: Path, value: object) -> None:
    write_run(root / "one", steps=[step_row(valid_perplexity=value)])
    run = RunFolder(root).read("one")
    assert run.problems == []
    assert run.steps[0].measured("valid", "perplexity") is None
    assert run.steps[0].measured("test", "perplexity") == 9.25


def test_a_foreign_report_hides_no_log(root: Path) -> None:
    write_run(root / "one", steps=[step_row()], report={"rows": "none"})
    run = RunFolder(root).read("one")
    assert "report.json isn't what the trainer writes" in run.problems[0]
    assert run.report is None and len(run.steps) == 1


@pytest.mark.parametrize("name", [STEPS, EPOCHS, REPORT])
def test_a_huge_file_is_refused(root: Path, name: str) -> None:
    write_run(root / "one")
    with (root / "one" / name).open("wb") as file:
        file.truncate(MOST_BYTES[name] + 1)
    assert f"{name} isn't read: it has more than {MOST_BYTES[name] // 1024:,} KiB" in problems_of(
        root
    )


def test_a_log_of_too_many_lines_or_steps_is_refused(root: Path) -> None:
    write_run(root / "one", epochs=[epoch_row(f"s{number}") for number in range(33)])
    assert "epochs.jsonl names more than 32 steps" in problems_of(root)
    (root / "one" / EPOCHS).write_text("{}\n" * 25_001)
    assert "epochs.jsonl has 25,001 lines" in problems_of(root)


def test_links_are_followed_within_the_folder_only(root: Path, tmp_path: Path) -> None:
    copy_run(SPARSE, tmp_path / "secret")
    write_run(root / "one", epochs=[epoch_row()])
    (root / "one" / STEPS).unlink()
    (root / "one" / STEPS).symlink_to(tmp_path / "secret" / STEPS)
    assert "steps.jsonl isn't read: a link leads out of the folder" in problems_of(root)
    (root / "outside").symlink_to(tmp_path / "secret")
    run = RunFolder(root).read("outside")
    assert len(run.problems) == 3 and "leads out of the folder" in run.problems[0]
    assert (run.steps, run.epochs) == ([], [])
    (root / "inside").symlink_to("one")
    assert len(RunFolder(root).read("inside").epochs) == 1
    # The folder itself may be a link: the operator has named it.
    (tmp_path / "alias").symlink_to(root)
    assert len(RunFolder(tmp_path / "alias").read("one").epochs) == 1


@pytest.mark.parametrize("target", ["nothing", STEPS])
def test_a_link_to_nothing_or_to_itself_is_told(root: Path, target: str) -> None:
    write_run(root / "one")
    (root / "one" / STEPS).unlink()
    (root / "one" / STEPS).symlink_to(target)
    assert "steps.jsonl" in problems_of(root)


def test_what_is_no_regular_file_is_not_read(root: Path) -> None:
    write_run(root / "one")
    for name, make in ((STEPS, os.mkfifo), (REPORT, os.mkdir)):
        (root / "one" / name).unlink(missing_ok=True)
        make(root / "one" / name)
    # A pipe without a writer would keep a reader waiting for ever.
    assert problems_of(root).count("it is no regular file") == 2


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../secret", "/etc", "none", "one/steps.jsonl", ".git", "a\0b", "x" * 999],
)
def test_only_directories_of_the_folder_are_runs(root: Path, tmp_path: Path, name: str) -> None:
    copy_run(SPARSE, tmp_path / "secret")
    copy_run(SPARSE, root / ".git")
    write_run(root / "one")
    with pytest.raises(UnknownAddressError, match="there is no run"):
        RunFolder(root).read(name)


def test_the_run_that_was_written_last_comes_first(root: Path) -> None:
    for number, name in enumerate(("b", "c", "a")):
        write_run(root / name)
        for file in (STEPS, EPOCHS):
            os.utime(root / name / file, (1000 + number, 1000 + number))
    (root / "models").mkdir()  # no run
    (root / "notes.txt").write_text("no run either")
    listed = RunFolder(root).list_names()
    assert [run.name for run in listed.names] == ["a", "c", "b"]
    assert listed.names[0].changed_at.timestamp() == 1002
    assert listed.problem == ""


def test_a_file_from_the_end_of_time_does_no_harm(root: Path) -> None:
    write_run(root / "one")
    os.utime(root / "one" / STEPS, (1e11, 1e11))
    assert RunFolder(root).list_names().names[0].changed_at.year == 2096


def test_a_folder_with_more_entries_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "MOST_ENTRIES", 2)
    for name in "abc":
        write_run(root / name)
    listed = RunFolder(root).list_names()
    assert len(listed.names) == 2
    assert "only 2 entries" in listed.problem


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    listed = RunFolder(tmp_path / "nowhere").list_names()
    assert listed.names == []
    assert listed.problem == (
        "the folder that LHP_RUNS names can't be read: No such file or directory"
    )
