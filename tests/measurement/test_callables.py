"""A user's own functions: called with the arguments of a point, and told apart when they fail."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from profiler_service.errors import ModelError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import CALLABLE
from profiler_service.measurement import callables
from profiler_service.measurement.callables import KeptCalls, make_call
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.operations import MAX_KEPT_BYTES, MAX_USES
from profiler_service.plan.base import Batch
from profiler_service.workload import Workload

MODELS = """
import os
import sys
import time
from pathlib import Path

import torch

BUILT = Path(__file__).with_name("built.txt")


def add(hidden, layers=2):
    print("this would break the protocol if anybody read it")
    with BUILT.open("a") as file:
        file.write(f"{hidden} {layers}\\n")
    return lambda: sum(range(100 * hidden * layers))


def train(hidden):
    layer = torch.nn.Linear(8, hidden)
    x = torch.randn(4, 8)

    def step():
        layer.zero_grad()
        layer(x).square().sum().backward()
        assert layer.weight.grad is not None

    return step


def some(hidden):
    if hidden == 10:
        raise ValueError("10 is too much\\nsecond line")
    if hidden == 11:
        sys.exit(3)
    if hidden == 12:
        os.kill(os.getpid(), 9)

    def call():
        if hidden == 13:
            raise RuntimeError("not on a Monday")

    return call if hidden != 14 else 3


def heavy(hidden):
    time.sleep(0.3)
    return lambda: sum(range(hidden))


def nothing():
    return None


async def built_later(hidden):
    return lambda: None


def yields(hidden):
    def call():
        yield hidden

    return call


def runs_later(hidden):
    async def call():
        pass

    return call


class Later:
    def __init__(self, hidden):
        pass

    async def __call__(self):
        pass


NUMBER = 3


class Models:
    @staticmethod
    def build(hidden):
        return lambda: None
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of the module `own_models`, from which it can be imported here and in children.

    It is the working directory, as it is for users.
    """
    directory = tmp_path_factory.mktemp("own")
    (directory / "own_models.py").write_text(MODELS)
    (directory / "broken_models.py").write_text("import what_is_nowhere\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        patch.chdir(directory)
        yield directory
    sys.modules.pop("own_models", None)


@pytest.fixture(scope="module")
def own_measurer(models: Path) -> Iterator[Measurer]:
    with Measurer(device="cpu", kinds={CALLABLE.name: CALLABLE}, is_inference=False) as measurer:
        yield measurer


def workload(function: str, **fixed: int) -> Workload:
    own = {"function": f"own_models:{function}", "source": "none", "vary": "hidden"}
    return CALLABLE.describe({**own, **fixed})


def visit(measurer: Measurer, function: str, first: int, count: int, **fixed: int):  # type: ignore[no-untyped-def]
    """The samples of two visits of each point of a line of dims."""
    point = np.repeat(np.arange(count, dtype=np.int32), 2)
    batch = Batch(point=point, round=np.zeros_like(point))
    grid = Grid(axes=(GridAxis(first=first, count=count),))
    return measurer.measure(workload(function, **fixed), grid, batch)


def test_a_function_is_called_with_the_arguments_of_the_point(
    own_measurer: Measurer, models: Path
) -> None:
    samples = visit(own_measurer, "add", 8, 3, layers=4)
    assert samples.point.tolist() == [0, 0, 1, 1, 2, 2] and not samples.failures
    assert (samples.latency_s > 0).all()
    # Each is built once, for both visits.
    assert (models / "built.txt").read_text().splitlines() == ["8 4", "9 4", "10 4"]


def test_more_work_takes_longer(own_measurer: Measurer) -> None:
    small, large = visit(own_measurer, "add", 8, 1), visit(own_measurer, "add", 80, 1)
    assert large.latency_s.min() > 4 * small.latency_s.min()


def test_a_step_of_training_can_be_measured(own_measurer: Measurer) -> None:
    """Nothing is under torch.inference_mode, which refuses to compute gradients."""
    samples = visit(own_measurer, "train", 8, 2)
    assert not samples.failures and len(samples) == 4


def test_points_that_fail_cost_only_themselves(own_measurer: Measurer) -> None:
    samples = visit(own_measurer, "some", 9, 7)
    assert sorted({*samples.point.tolist()}) == [0, 6]
    reasons = {9 + point: reason for point, reason in samples.failures.items()}
    assert reasons == {
        10: "own_models:some(hidden=10) raised ValueError: 10 is too much (own_models.py, line 33)",
        11: "own_models:some(hidden=11) raised SystemExit: 3 (own_models.py, line 35)",
        12: "the measuring process died (signal 9: SIGKILL; out of memory?)",
        13: "what own_models:some(hidden=13) returned raised RuntimeError: not on a Monday"
        " (own_models.py, line 41)",
        14: "own_models:some(hidden=14) returned an object of type int, which can't be called",
    }


def test_making_a_model_for_the_first_time_is_no_time_of_measuring(
    own_measurer: Measurer,
) -> None:
    began = time.perf_counter()
    samples = visit(own_measurer, "heavy", 8, 3)
    # Three models, of 0.3 s each, and six visits of microseconds.
    assert time.perf_counter() - began > 0.9
    assert 0 < samples.seconds < 0.3
    assert (np.diff(samples.time_s) > 0).all() and 0 < samples.time_s[-1] < samples.seconds


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("nowhere_models:build", "there is no module 'nowhere_models' here"),
        ("broken_models:build", "importing broken_models raised ModuleNotFoundError: No module"),
        ("own_models:missing", "own_models has no 'missing'"),
        ("own_models:Models.missing", "own_models has no 'Models.missing'"),
        ("own_models:NUMBER", "own_models:NUMBER is of type int, and can't be called"),
        ("own_models:nothing", "raised TypeError: nothing() got an unexpected keyword argument"),
        ("own_models:train", "raised TypeError: train() got an unexpected keyword argument 'size'"),
    ],
)
def test_what_is_no_such_function_is_named(models: Path, where: str, says: str) -> None:
    with pytest.raises(ModelError) as refusal:
        make_call(where, {"size": 3})
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("built_later", "built_later is an asynchronous function: it builds nothing"),
        ("runs_later", "runs_later(hidden=3) returned an asynchronous function: it does nothing"),
        ("Later", "Later(hidden=3) returned an asynchronous function: it does nothing"),
        ("yields", "yields(hidden=3) returned a generator function: it does nothing"),
    ],
)
def test_what_does_nothing_when_it_is_called_is_not_timed(
    models: Path, name: str, says: str
) -> None:
    with pytest.raises(ModelError) as refusal:
        make_call(f"own_models:{name}", {"hidden": 3})
    assert says in str(refusal.value)


def test_a_method_of_a_class_is_a_function_too(models: Path) -> None:
    assert make_call("own_models:Models.build", {"hidden": 3})() is None


def test_calls_are_kept_as_long_as_there_is_room() -> None:
    used = 0
    made: list[int] = []

    def maker(key: int, size_bytes: int) -> Callable[[], Callable[[], object]]:
        def make() -> Callable[[], object]:
            nonlocal used
            used += size_bytes
            made.append(key)
            return lambda: key

        return make

    calls = KeptCalls(lambda: used)
    for number in range(MAX_USES):
        assert calls.get((1,), maker(1, 100))() == 1
        # Only the first time isn't counted as time of measuring.
        assert (calls.preparation_s > 0) == (number == 0)
    assert made == [1]
    calls.get((1,), maker(1, 100))  # now at another place in memory
    assert made == [1, 1] and calls.preparation_s == 0
    # Two that fill the room: the one that was used longest ago is dropped.
    calls.get((2,), maker(2, MAX_KEPT_BYTES - 100))
    calls.get((1,), maker(1, 100))
    calls.get((3,), maker(3, 200))
    calls.get((1,), maker(1, 100))
    assert made == [1, 1, 2, 3]
    calls.get((2,), maker(2, MAX_KEPT_BYTES - 100))
    assert made == [1, 1, 2, 3, 2]


def test_memory_in_use_is_read() -> None:
    before = callables._read_used_bytes()
    block = np.ones(64 << 20, dtype=np.uint8)
    assert callables._read_used_bytes() - before > block.nbytes // 2
