"""Models and examples that come from the user's code, and what goes wrong with those."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from profiler_service.advice.loading import importing_from_here, load_example, load_model
from profiler_service.errors import InvalidRequestError, ModelError

MODELS = """
import sys
import torch
from torch import nn

def make(): print("noise"); return nn.Linear(3, 2)
ready = nn.Linear(5, 4)
class Holder:
    Net = nn.Identity
number = 5
def none(): return None
def needs(width): return nn.Linear(width, width)
def fails():
    raise ValueError("no weights\\nmore lines")
def deep(): return nn.Linear(-1, 2)
def leaves(): sys.exit(3)
def pair(): return torch.zeros(2, 3), 7
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module of models in the working directory, new for each test."""
    name = f"models_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    (tmp_path / f"{name}_broken.py").write_text("import no_such_package")
    (tmp_path / f"{name}_wrong.py").write_text("def f(:")
    monkeypatch.chdir(tmp_path)
    return name


def test_models_come_from_functions_classes_and_modules(
    models: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = list(sys.path)
    with importing_from_here():
        made = load_model(f"{models}:make")
        ready = load_model(f"{models}:ready")
        assert isinstance(load_model(f"{models}:Holder.Net"), nn.Identity)
        pair = load_example(f"{models}:pair")
    assert isinstance(made, nn.Linear) and made.out_features == 2
    assert isinstance(ready, nn.Linear) and ready.out_features == 4
    assert isinstance(pair, tuple) and pair[1] == 7
    # What a model prints must not spoil JSON.
    assert capsys.readouterr().out == ""
    assert sys.path == path


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("make", InvalidRequestError, "'make' doesn't say where a model comes from"),
        ("M:", InvalidRequestError, "doesn't say"),
        ("no_such_module:make", InvalidRequestError, "no module 'no_such_module' here"),
        ("no_such_package.part:make", InvalidRequestError, "no module 'no_such_package' here"),
        ("M:gone", InvalidRequestError, "has no 'gone'"),
        ("M:number", InvalidRequestError, "is of type int, and can't be called"),
        ("M:none", InvalidRequestError, r"gives an object of type NoneType, no torch\.nn\.Module"),
        ("M:needs", ModelError, "raised TypeError: needs.. missing 1 required"),
        ("M:fails", ModelError, r"raised ValueError: no weights \(models_of_.*\.py, line 14\)"),
        ("M:deep", ModelError, r"raised RuntimeError: .* \(models_of_.*\.py, line 15\)"),
        ("M:leaves", ModelError, "raised SystemExit: 3"),
        ("M_broken:make", ModelError, "raised ModuleNotFoundError: No module .*line 1"),
        ("M_wrong:make", ModelError, "raised SyntaxError"),
    ],
)
def test_models_that_cant_be_had(
    models: str, where: str, error: type[Exception], message: str
) -> None:
    with importing_from_here(), pytest.raises(error, match=message) as caught:
        load_model(where.replace("M", models))
    assert getattr(caught.value, "hint", "")
