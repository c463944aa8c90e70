from __future__ import annotations

import sys
from pathlib import Path

import pytest

from profiler_service.cli.command_name import as_typed_here, command_name


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The running program: `.venv/bin/lhp` of the working directory; not on the path."""
    path = tmp_path / ".venv" / "bin" / "lhp"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [".venv/bin/lhp", "serve"])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    return path


def test_off_the_path_it_is_called_by_its_own(script: Path) -> None:
    assert command_name() == ".venv/bin/lhp"
    assert as_typed_here("run `lhp db upgrade`, then `lhp serve`; lhp is") == (
        "run `.venv/bin/lhp db upgrade`, then `.venv/bin/lhp serve`; lhp is"
    )


def test_from_elsewhere_the_path_is_absolute(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b").mkdir()
    monkeypatch.chdir(tmp_path / "a b")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert command_name() == str(script)
    spaced = tmp_path / "a b" / "lhp"
    spaced.symlink_to(script)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "argv", [str(spaced)])
    assert command_name() == f"'{spaced}'"


def test_on_the_path_it_is_lhp(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"/usr/bin:{script.parent}")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert command_name() == "lhp"


def test_an_activated_environment_isnt_so_in_the_next_terminal(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin")
    monkeypatch.setenv("VIRTUAL_ENV", str(script.parent.parent))
    assert command_name() == ".venv/bin/lhp"


def test_another_program_of_that_name_is_not_it(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "lhp"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    assert command_name() == ".venv/bin/lhp"


def test_run_as_a_module_it_is_the_script_beside_the_interpreter(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/site-packages/profiler_service/cli/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    assert command_name() == ".venv/bin/lhp"
    script.unlink()
    assert command_name() == "lhp"
