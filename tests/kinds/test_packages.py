"""Workload kinds of installed packages: found, and named if they can't be used."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler_service import kinds
from profiler_service.errors import UnknownWorkloadError
from profiler_service.kinds import get_workload_kind, kinds_left_out, workload_kinds
from profiler_service.wire import FactsQuery, LhpQuery
from profiler_service.workload import QUESTION_OPTIONS
from tests.kind_packages import install_kind, loaded_anew

KIND = """
from dataclasses import replace
from profiler_service.kinds import MATMUL
OTHER = replace(MATMUL, name="other")
"""


SHADOWED = """
from dataclasses import replace
from profiler_service.kinds import MATMUL
from profiler_service.workload import Parameter
MINE = Parameter(name="{name}", default=1, description="")
OTHER = replace(MATMUL, name="other", parameters=(*MATMUL.parameters, MINE))
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of installed packages, in which kinds are looked for anew."""
    monkeypatch.syspath_prepend(tmp_path)
    with loaded_anew():
        yield tmp_path


def test_a_package_brings_its_kind(packages: Path) -> None:
    install_kind(packages, "good", KIND, attribute="OTHER")
    assert get_workload_kind("other").axes == ("size",)
    assert kinds_left_out() == ()


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("raising", "import no_such_package", "failed to import: ModuleNotFoundError"),
        ("leaving", "import sys; sys.exit(3)", "failed to import: SystemExit"),
        ("empty", "", "failed to import: AttributeError"),
        ("wrong", "OTHER = 5", "isn't a WorkloadKind"),
        ("taking", "from profiler_service.kinds import MATMUL as OTHER", "takes the name 'matmul'"),
        ("shadowed", SHADOWED.format(name="margin"), "a parameter or axis named 'margin', which"),
        ("varying", SHADOWED.format(name="vary"), "a parameter or axis named 'vary', which"),
        (
            "waiting",
            KIND.replace('name="other"', 'name="other", axes=("wait",)'),
            "a parameter or axis named 'wait', which is an option of every question",
        ),
    ],
)
def test_a_package_that_brings_none_is_named_and_left_out(
    packages: Path, caplog: pytest.LogCaptureFixture, name: str, source: str, reason: str
) -> None:
    install_kind(packages, name, source, attribute="OTHER")

    assert set(workload_kinds()) == {kind.name for kind in kinds._BUILT_IN}
    [left_out] = kinds_left_out()
    assert left_out.name == name
    assert f"{name}_kind:OTHER of {name} " in left_out.reason and reason in left_out.reason
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"workload kind {name} is left out: {left_out.reason}"
    # Whoever asks for it is told.
    with pytest.raises(UnknownWorkloadError, match=f"there is no workload '{name}'") as caught:
        get_workload_kind(name)
    assert "choose one of: attention, conv2d, conv2d_kernels, deepspeech2" in caught.value.hint
    assert f"{name} is left out: " in caught.value.hint and reason in caught.value.hint


def test_the_names_that_no_parameter_may_have_are_those_of_the_options() -> None:
    fields = LhpQuery.model_fields.keys() | FactsQuery.model_fields.keys()
    # These fields of a question are parameters of its workload.
    assert fields - {"batch", "dtype", "backend"} == QUESTION_OPTIONS
    assert not any(kind.find_taken_names() for kind in kinds._BUILT_IN)


def test_one_broken_package_does_not_hide_another(packages: Path) -> None:
    install_kind(packages, "broken", "import no_such_package", attribute="OTHER")
    install_kind(packages, "good", KIND, attribute="OTHER")
    assert "other" in workload_kinds()
    assert [each.name for each in kinds_left_out()] == ["broken"]
