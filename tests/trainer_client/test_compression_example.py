"""The example of a module of one's own, installed by pip and run with a real service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import real_service, start_lhp
from tests.test_example_package import install

__all__ = ["real_service", "start_lhp"]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The directory into which pip installed the example."""
    return install("compress_your_own", tmp_path)


def test_it_makes_its_classifier_compact(
    installed: Path, real_service: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lhp_compress_your_own", "--out", "run"],
        env={
            **os.environ,
            "PYTHONPATH": str(installed),
            "LHP_URL": real_service,
            "OMP_NUM_THREADS": "1",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = re.findall(r"^(\w+): accuracy ([\d.]+)", done.stdout, re.MULTILINE)
    found = {step: float(accuracy) for step, accuracy in steps}
    assert list(found) == ["baseline", "growth", "units", "lhp", "weights"]
    # It learns: one of five groups is right by chance in a fifth of the cases. Pruning keeps what
    # the baseline, or growth if that is worse, reached, but for a hundredth.
    assert found["baseline"] > 0.4
    assert found["weights"] >= 0.99 * min(found["baseline"], found["growth"]) - 0.001
    widths = dict(re.findall(r"^(\S+\.units): (\d+)$", done.stdout, re.MULTILINE))
    assert set(widths) == {"table.units", "lstm.units", "hidden.units"}
    assert all(int(widths[axis]) <= n for axis, n in (("hidden.units", 37),))
    before, after = re.findall(r"^parameters: ([\d,]+) -> ([\d,]+)$", done.stdout, re.MULTILINE)[0]
    assert int(after.replace(",", "")) < int(before.replace(",", ""))
    # An ordinary module's parameters, of those sizes.
    saved = torch.load(tmp_path / "run" / "compact.pt", weights_only=True)
    assert len(saved["lstm.weight_hh_l0"]) == 4 * int(widths["lstm.units"])
    assert saved["hidden.weight"].shape == (int(widths["hidden.units"]), int(widths["lstm.units"]))
