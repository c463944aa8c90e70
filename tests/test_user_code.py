"""What `module:name` names in the user's own code, and where that code has raised."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from profiler_service.errors import InvalidRequestError, ModelError
from profiler_service.user_code import describe_error, find_named

MODULE = """
import installed_library

class Models:
    class Small:
        width = 3

def build():
    installed_library.check()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a module, one that can't be imported, and an installed library."""
    installed = tmp_path / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "installed_library.py").write_text("def check():\n    raise ValueError('no')\n")
    (tmp_path / "user_module.py").write_text(MODULE)
    (tmp_path / "broken_module.py").write_text("\nimport module_of_nobody\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(installed)
    for name in ("user_module", "broken_module", "installed_library"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def describe(what: str, error: BaseException) -> ModelError:
    return ModelError(describe_error(what, error))


def test_a_name_may_be_within_another_one(here: Path) -> None:
    assert find_named("user_module:Models.Small.width", describe) == 3


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("module_of_nobody:build", "there is no module 'module_of_nobody' here"),
        ("user_module.more:build", "there is no module 'user_module.more' here"),
        ("user_module:Models.Large", "user_module has no 'Models.Large'"),
    ],
)
def test_what_is_not_there_is_named(here: Path, where: str, says: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        find_named(where, describe)
    assert str(refusal.value) == says and refusal.value.hint


def test_a_module_that_cannot_be_imported_is_not_called_missing(here: Path) -> None:
    with pytest.raises(ModelError) as raised:
        find_named("broken_module:build", describe)
    assert str(raised.value) == (
        "importing broken_module raised ModuleNotFoundError: No module named 'module_of_nobody'"
        " (broken_module.py, line 2)"
    )


def test_the_line_is_the_users_own_not_that_of_an_installed_library(here: Path) -> None:
    build = find_named("user_module:build", describe)
    assert callable(build)
    with pytest.raises(ValueError, match="no") as raised:
        build()
    told = describe_error("build()", raised.value, remark=" (again)")
    assert told == "build() raised ValueError: no (again) (user_module.py, line 9)"
    # Nothing of the working directory was involved: no line is named.
    assert describe_error("it", SystemExit()) == "it raised SystemExit"
