"""The example of padding, installed by pip and run with a real service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import real_service, start_lhp
from tests.test_example_package import EXAMPLES, install
from trainer_client.cli import run
from trainer_client.widths.files import read_weights

__all__ = ["real_service", "start_lhp"]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The directory into which pip installed the example."""
    return install("pad_to_lhp", tmp_path)


def test_the_guide_shows_its_axes(
    installed: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LHP_URL", raising=False)
    guide = (EXAMPLES.parent / "docs" / "guides" / "pad.md").read_text()
    _, _, sample = guide.partition("--example lhp_pad_to_lhp.network:make_input\n")
    sys.path.insert(0, str(installed))
    try:
        # Before training: this changes no width.
        network = "lhp_pad_to_lhp.network"
        code = run(["pad", f"{network}:Classifier", "--example", f"{network}:make_input"])
    finally:
        sys.path.remove(str(installed))
    assert code == 0
    assert capfd.readouterr().out == sample.partition("```")[0]


def test_it_pads_its_network_with_equal_outputs(
    installed: Path, real_service: str, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "lhp_pad_to_lhp"]
    options = ["--units", "61", "--hidden", "45", "--batches", "20", "--time", "1"]
    done = subprocess.run(
        [*program, *options, "--out", "padded.safetensors"],
        env={**os.environ, "PYTHONPATH": str(installed), "LHP_URL": real_service},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "asking 3 questions about layers" in done.stderr
    found = re.findall(r"^(\S+)\.units +(\d+) +(\d+)", done.stdout, re.MULTILINE)
    widths = {name: (int(before), int(now)) for name, before, now in found}
    assert [widths[name][0] for name in ("rnn", "hidden")] == [61, 45]
    assert "fixed: classes: the model returns them" in done.stdout
    right = re.search(r"^classified right, of 1000: (\d+) before, (\d+) now$", done.stdout, re.M)
    # By chance it would be 200. Both networks say the same.
    assert right and right[1] == right[2] and int(right[1]) > 250
    # Whether padding pays is this machine's matter. If it does, it is shown by outputs and a race.
    path = tmp_path / "padded.safetensors"
    assert path.exists() == any(now > before for before, now in widths.values())
    if path.exists():
        assert re.search(r"^equal outputs: the largest difference is \d", done.stdout, re.M)
        assert re.search(r"^whole module: [\d.]+ times as fast, ", done.stdout, re.M)
        tensors, description = read_weights(path)
        assert tensors["hidden.weight"].shape == (widths["hidden"][1], widths["rnn"][1])
        assert description["undo"]
