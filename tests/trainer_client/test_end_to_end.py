"""All four steps on real text, against a real service that measures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer_client.test_cli import finish
from trainer_client.export import load_dense, load_sparse

pytestmark = pytest.mark.skipif(
    "LHP_DATA" not in os.environ, reason="LHP_DATA doesn't say where the texts are"
)


@pytest.fixture
def service_url(tmp_path: Path) -> Iterator[str]:
    """The address of `lhp serve` with a worker, on a database of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LHP_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "profiler_service.cli", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment | {"XDG_DATA_HOME": str(tmp_path / "data"), "LHP_CHILDREN": "1"},
    )
    with process:
        assert process.stdout is not None
        match = re.match(r"listening on (http://\S+:\d+),", process.stdout.readline())
        assert match
        yield match[1]
        process.terminate()


def test_smoke(service_url: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["ptb", "--preset", "smoke", "--data", os.environ["LHP_DATA"], "--out", str(out)]
    finish(["trainer_client.cli", *command, "--service", service_url])
    rows = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == ["baseline", "growth", "units", "lhp", "weights"]
    # 10,000 words, and it knows more than their number.
    assert all(1 < row["valid_perplexity"] < 2000 for row in rows)
    answer = rows[3]["answer"]
    assert answer["dims"] == rows[2]["dims"] == [77, 39]
    assert answer["lhp"] == rows[3]["dims"]
    assert answer["source"] == "service"
    assert answer["workload"].startswith("hlstm_lm[")
    assert len(list((out / "answers").rglob("*.json"))) == 1
    dense = load_dense(out / "models" / "weights.safetensors")
    assert [dense.layer.gate_width, dense.layer.state_width] == answer["lhp"]
    sparse = load_sparse(out / "models" / "weights.csr.safetensors")
    assert sparse.num_weights == rows[4]["recurrent_parameters"]
    finish(["trainer_client.cli", "report", str(out), "--service", service_url])
    report = json.loads((out / "report.json").read_text())
    assert set(report["latencies"]) == {row["step"] for row in rows}
    assert all(each["latency_s"] > 0 for each in report["latencies"].values())
