"""The file in which the fake measurer notes what it begins, and the command line as a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import settings, worker
from tests.cli.conftest import start_lhp

__all__ = ["log", "settings", "start_lhp", "worker"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "begun.txt"
