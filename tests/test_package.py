"""The package as people install it: the thin base, its extras, and what messages say of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

# What no training job that only asks should have to install.
HEAVY = frozenset(
    {
        *("numpy", "torch", "sqlalchemy", "alembic", "psycopg", "fastapi", "uvicorn", "pyarrow"),
        *("matplotlib", "plotly", "dbos", "safetensors"),
    }
)


def run_without(
    modules: Collection[str], tmp_path: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python with `arguments` as on a machine where `modules` aren't installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name.partition('.')[0] in {sorted(modules)}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LHP_")}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment | {"PYTHONPATH": str(tmp_path), "LHP_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )


def test_what_is_refused_is_refused(tmp_path: Path) -> None:
    done = run_without(HEAVY, tmp_path, "-c", "import numpy")
    assert "No module named 'numpy'" in done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "profiler_service.kinds",
        "profiler_service.wire",
        "trainer_client.latency_client",
        "trainer_client.recordings",
    ],
)
def test_asking_from_python_needs_the_base_alone(module: str, tmp_path: Path) -> None:
    done = run_without(HEAVY, tmp_path, "-c", f"import {module}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    ["query 8,8", "crossover 8,8", "sweep matmul 8:16", "cancel SWEEP", "curves", "hosts"],
)
def test_commands_that_only_ask_need_the_base_alone(words: str, tmp_path: Path) -> None:
    """They run until they find that nobody listens on port 9; and show their help."""
    command, *arguments = words.split()
    lhp = ("-m", "profiler_service.cli", command)
    asked = run_without(HEAVY, tmp_path, *lhp, *arguments)
    assert asked.returncode == 1
    assert asked.stderr.startswith("error: no service at http://127.0.0.1:9")
    shown = run_without(HEAVY, tmp_path, *lhp, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
