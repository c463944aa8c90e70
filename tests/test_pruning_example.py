"""The example of pruning, installed by pip and run with a real service."""

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
    return install("prune_to_fastest", tmp_path)


def test_it_prunes_its_network_to_what_is_fastest(
    installed: Path, real_service: str, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "lhp_prune_to_fastest"]
    options = ["--width", "16", "--time", "4", "--at-least", "--out", "pruned.pt"]
    done = subprocess.run(
        [*program, *options],
        env={**os.environ, "PYTHONPATH": str(installed), "LHP_URL": real_service},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^racing \d sets? of widths", done.stderr, re.MULTILINE)
    # 16, 32 and 64 channels become int(0.63 n) = 10, 20 and 40. The stem has a group of its own,
    # and each block has one inside and one outside.
    found = re.findall(r"^(\S+): (\d+) -> (\d+)$", done.stdout, re.MULTILINE)
    widths = {name: (int(now), int(then)) for name, now, then in found}
    widths.pop("parameters")
    assert sorted(now for now, _ in widths.values()) == [10, 10, 10, 20, 20, 40, 40]
    assert all(now <= then for now, then in widths.values())
    assert re.search(r"[\d.]+ to [\d.]+ times as fast \(95 %\)$", done.stdout, re.MULTILINE)
    # Loaded as a user would: the class is the example's.
    sys.path.insert(0, str(installed))
    try:
        pruned = torch.load(tmp_path / "pruned.pt", weights_only=False)
    finally:
        sys.path.remove(str(installed))
    assert pruned(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
