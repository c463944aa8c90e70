"""The paper's Table 1 for one run: what each step changed, and its latency from the service.

All latencies come from the service. It measures the steps' dims as `hlstm_lm`, together with those
of step (a): in one sweep if a small grid has them all, otherwise in one sweep for each step. On the
sparse route, the last step is measured as `csr`, at the sparsity reached, with zeros at random
places. The baseline is measured as `lstm_lm`. Both have their own sweep.

Doesn't know how a run was trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from profiler_service.errors import LhpError, NotFoundError
from trainer_client.files import explaining, write_whole
from trainer_client.report.document import Report
from trainer_client.report.figure import draw
from trainer_client.report.step_latencies import GridMeasurer, Latency, measure_steps
from trainer_client.report.text import to_markdown
from trainer_client.run.checkpoint import read_checkpoint
from trainer_client.run.logs import CHECKPOINT, EPOCHS_LOG, STEPS_LOG, Row, to_lines

LATENCIES = "latencies.json"


class UnreadableRunError(LhpError):
    """The logs of a run can't be read."""


def make_report(directory: Path, service: GridMeasurer | None) -> Report:
    """The report of the run in `directory`; also writes it there, as JSON, Markdown and a plot.

    With a service, all latencies are measured again. Without one, those of an earlier report are
    shown. Raises NotFoundError, UnreadableRunError, and the service's errors.
    """
    saved = read_checkpoint(directory / CHECKPOINT)
    config, rows = saved["config"], saved["rows"]
    if not rows:
        raise NotFoundError(
            f"no step of the run in {directory} has ended yet", hint="let it run for longer"
        )
    kept = directory / LATENCIES
    if service is not None:
        latencies = measure_steps(service, config, rows, vocabulary=saved["data"]["words"])
        told = {
            row["step"]: {"row": _digest_of(row), **asdict(latencies[row["step"]])} for row in rows
        }
        write_whole(kept, json.dumps(told, indent=1).encode())
    else:
        latencies = _read_latencies(kept, rows) if kept.exists() else {}
    logs = [directory / name for name in (STEPS_LOG, EPOCHS_LOG)]
    report = Report(
        config=config,
        is_finished=saved["step"] == "done",
        rows=rows,
        latencies=latencies,
        digests={log.name: _digest_of_file(log) for log in logs if log.exists()},
    )
    write_whole(directory / "report.json", json.dumps(asdict(report), indent=1).encode())
    write_whole(directory / "report.md", to_markdown(report).encode())
    write_whole(directory / "report.png", draw(report))
    return report


def _digest_of_file(path: Path) -> str:
    with explaining(path, doing="read"):
        return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_of(row: Row) -> str:
    return hashlib.sha256(to_lines([row])).hexdigest()


def _read_latencies(path: Path, rows: Sequence[Row]) -> dict[str, Latency]:
    """The latencies in the file that belong to exactly these rows. Raises UnreadableRunError."""
    found = {}
    with explaining(path, doing="read"):
        content = path.read_bytes()
    try:
        told = json.loads(content)
        for row in rows:
            each = dict(told.get(row["step"], {}))
            if each.pop("row", None) == _digest_of(row):
                found[row["step"]] = Latency(**each)
    except (ValueError, TypeError, AttributeError) as error:
        raise UnreadableRunError(
            f"{path} can't be read: {error}", hint="remove it, and name the service again"
        ) from error
    return found
