"""What `lhp query --callable` and `lhp sweep --callable` read, before anything is measured."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler_service.answering.lhp import LhpQuestion
from profiler_service.answering.resources import read_sweep_request
from profiler_service.cli.own_code import read_question, read_sweep
from profiler_service.cli.posting import make_request
from profiler_service.errors import InvalidRequestError
from profiler_service.kinds.callables import NO_SOURCE
from profiler_service.plan.spec import SweepSpec
from profiler_service.processes.own_code import find_source
from profiler_service.wire import OwnSweepRequest
from tests.api.curves import PLATFORM, PROTOCOL
from tests.cli.conftest import Lhp
from tests.cli.stub import StubService

FUNCTION = "own_models:build"
DEFAULTS: dict[str, str | float] = {"prefer": "fastest", "effort": "quick"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a module that would raise if anybody imported it."""
    (tmp_path / "own_models.py").write_text("raise SystemExit('imported by the wrong process')")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "package/models.py").write_text("def build(hidden): ...")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_by_service(spec: SweepSpec) -> SweepSpec:
    """The spec as the service reads it from what is sent."""
    sent = make_request(spec, machine="desk", platform=PLATFORM, protocol=PROTOCOL)
    request = OwnSweepRequest.model_validate_json(sent.model_dump_json())
    return replace(read_sweep_request(request), seed=request.seed)


def test_ranges_vary_and_numbers_do_not() -> None:
    words = ["hidden=256:512:4", "layers=6", "heads=2:4"]
    spec = read_sweep(FUNCTION, words, {"depth": "0"}, budget_s=2.5)
    assert spec.workload.axes == ("hidden", "heads")
    assert (spec.mode, spec.budget_s) == ("grid", 2.5)
    assert (spec.grid.first, spec.grid.last, spec.grid.shape) == ((256, 2), (512, 4), (65, 3))
    params = dict(spec.workload.params)
    assert (params["function"], params["layers"], params["depth"]) == (FUNCTION, 6, 0)
    assert read_by_service(spec) == spec


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"effort": "thorough"},
        {"margin": "1.3%", "settle": 1.5},
        {"budget": 0.7, "max_growth": 0.5},
        {"multiple_of": "8"},
        {"multiple_of": "8,3"},
        {"prefer": "nearest", "slack": "1.7%"},
        {"prefer": "largest", "settle": 9.0},
    ],
)
def test_the_sweep_of_a_question_is_the_one_that_answers_it(options: Mapping[str, Any]) -> None:
    """The command and the service read the same question, and the same sweep for it."""
    words = ["hidden=300", "heads=4"]
    asked = read_question(FUNCTION, words, {"layers": "6"}, {**DEFAULTS, **options}, is_fresh=False)
    assert asked.dims == (300, 4)
    assert read_by_service(asked.spec) == asked.spec
    question = LhpQuestion.parse(
        dims="300,4",
        workload="callable",
        fixed_parameters={n: str(v) for n, v in asked.workload.params},
        prefer=options.get("prefer", "fastest"),
        effort=options.get("effort", "quick"),
        max_growth=options.get("max_growth", 0.125),
        budget_s=options.get("budget"),
        margin=options.get("margin"),
        settle_s=options.get("settle"),
        slack=options.get("slack"),
        multiple_of=options.get("multiple_of"),
    )
    wanted = question.sweep
    assert (asked.spec.mode, asked.spec.grid, asked.spec.budget_s) == (
        wanted.mode,
        wanted.grid,
        wanted.budget_s,
    )
    assert asked.spec.terms.settle_s == wanted.terms.settle_s
    assert asked.spec.terms.slack == pytest.approx(wanted.terms.slack, abs=1e-9)
    if wanted.terms.margin is None:
        assert asked.spec.terms.margin is None
    else:
        assert asked.spec.terms.margin == pytest.approx(wanted.terms.margin, abs=1e-9)


def test_the_source_is_the_text_of_the_module_which_nobody_imports(here: Path) -> None:
    text = (here / "own_models.py").read_bytes()
    spec = read_sweep(FUNCTION, ["hidden=1:2"], {}, budget_s=None)
    assert spec.workload.param("source") == hashlib.sha256(text).hexdigest()[:12]
    (here / "own_models.py").write_bytes(text + b"\n")
    changed = read_sweep(FUNCTION, ["hidden=1:2"], {}, budget_s=None)
    assert changed.workload.key != spec.workload.key
    # In a package, too, whose __init__ isn't run; and a module without a file has none.
    text = (here / "package/models.py").read_bytes()
    inside = read_sweep("package.models:build", ["hidden=1:2"], {}, budget_s=None)
    assert inside.workload.param("source") == hashlib.sha256(text).hexdigest()[:12]
    assert find_source("sys:getsizeof") == NO_SOURCE


@pytest.mark.parametrize(
    ("words", "params", "says"),
    [
        ([], {}, "no argument of the function is given"),
        (["256:512"], {}, "'256:512' names no argument"),
        (["hidden"], {}, "'hidden' names no argument"),
        (["hidden=256"], {}, "no argument of the function varies"),
        (["hidden=256:"], {}, "no range"),
        (["hidden=512:256"], {}, "empty"),
        (["hidden=0:9"], {}, "starts at 0"),
        (["hidden=1:9", "hidden=2:3"], {}, "given twice"),
        (["hidden=1:9"], {"hidden": "3"}, "given twice"),
        (["hidden=1:9"], {"source": "none"}, "no parameter to give"),
        (["hidden=1:9"], {"layers": "six"}, "not a whole number"),
        (["wait=1:9"], {}, "can't be an argument"),
    ],
)
def test_a_sweep_that_says_nothing_is_refused(
    words: list[str], params: dict[str, str], says: str
) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        read_sweep(FUNCTION, words, params, budget_s=None)
    assert says in str(refusal.value)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("words", "options", "says"),
    [
        ([], {}, "no argument of the function is given"),
        (["hidden=256:512"], {}, "is a range"),
        (["hidden=many"], {}, "hidden=many is no size"),
        (["hidden=-3"], {}, "hidden=-3 is no size"),
        (["hidden=0"], {}, "hidden=0 is outside 1 to"),
        (["hidden=1000000000"], {}, "is outside 1 to"),
        (["hidden=300"], {"prefer": "best"}, "prefer=best"),
        (["hidden=300"], {"effort": "some"}, "effort=some"),
        (["hidden=300"], {"slack": "1%"}, "slack is for the nearest"),
        (["hidden=300"], {"margin": "much"}, "margin='much' is no share"),
        (["hidden=300"], {"multiple_of": "0"}, "multiple_of"),
    ],
)
def test_a_question_that_says_nothing_is_refused(
    words: list[str], options: dict[str, str], says: str
) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        read_question(FUNCTION, words, {}, {**DEFAULTS, **options}, is_fresh=False)
    assert says in str(refusal.value)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sweep", "--callable", "nowhere:build", "hidden=1:9"), "there is no module 'nowhere'"),
        (("sweep", "--callable", "package.no:f", "hidden=1:9"), "no module 'package.no'"),
        (("sweep", "--callable", "own_models.no:f", "hidden=1:9"), "no module 'own_models.no'"),
        (("sweep", "--callable", "build", "hidden=1:9"), "'build' doesn't name a function"),
        (("sweep", "--callable", FUNCTION, "hidden=1:9", "--host", "x"), "--host says nothing"),
        (("sweep", "--callable", FUNCTION, "hidden=1:9", "--detach"), "--detach says nothing"),
        (("query", "--callable", FUNCTION, "hidden=9", "--workload", "mlp"), "--workload says"),
        (("query", "--callable", FUNCTION, "--file", "x.csv"), "--file says nothing"),
        (("query", "--callable", FUNCTION), "no argument of the function is given"),
        (("sweep",), "missing argument 'KIND'"),
        (("sweep", "matmul"), "missing argument 'RANGE...'"),
    ],
)
def test_commands_that_say_nothing_ask_no_service(
    lhp: Lhp, service: StubService, arguments: tuple[str, ...], says: str
) -> None:
    done = lhp(*arguments)
    assert done.code == 2
    assert says in done.err and "hint: " in done.err
    assert service.requests == []
