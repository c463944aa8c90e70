"""Examples that fail, and models that don't fit: what is known stays, and the rest is said."""

from __future__ import annotations

import dataclasses
from collections import UserDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from profiler_service.advice.example import Example, arrange_example
from profiler_service.advice.layers import Inspection, inspect_model
from profiler_service.advice.loading import importing_from_here, load_example, load_model
from profiler_service.advice.memory import bounded_memory, find_free_bytes, is_memory_error
from profiler_service.advice.meta import take_to_meta
from profiler_service.errors import ModelError
from tests.advice.test_layers import params_of


def inspect(model: nn.Module, example: Example | ModelError) -> Inspection:
    return inspect_model(model, batch=16, steps=70, example=example)


# Examples that fail


def test_layers_that_a_failing_example_reached_keep_its_shapes() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(7, 8), nn.LSTM(8, 8), nn.Conv2d(3, 4, 1))
    found = inspect(model, Example(args=(torch.zeros(4, 5),)))
    reached, wrong, later, convolution = found.layers
    # The second layer was called with the 4 rows of the first, which don't fit it.
    assert [params_of(each)["batch"] for each in (reached, wrong, later)] == [4, 4, 16]
    assert not reached.notes and not wrong.notes
    assert later.notes == ("the example failed without reaching it: batch=16 steps=70 is assumed",)
    assert "give an --example that reaches it" in convolution.problem
    assert found.problem is not None
    assert "input, raised RuntimeError: mat1 and mat2" in str(found.problem)
    assert "shapes" in found.problem.hint


def test_an_example_that_couldnt_be_made_shows_nothing() -> None:
    problem = ModelError("make_input raised ValueError")
    found = inspect(nn.Linear(5, 6), problem)
    assert found.problem is problem
    assert found.layers[0].notes == ("the example failed without reaching it: batch=16 is assumed",)


def test_an_example_that_works_is_no_problem() -> None:
    assert inspect(nn.Linear(5, 6), Example(args=(torch.zeros(4, 5),))).problem is None
    assert inspect_model(nn.Linear(5, 6), batch=16, steps=70).problem is None


@pytest.mark.parametrize(
    ("layer", "given"),
    [
        (nn.Conv2d(3, 4, 1), torch.zeros(5)),
        (nn.Conv2d(3, 4, 1), torch.zeros(1, 1, 3, 5, 5)),
        (nn.GRU(3, 4), torch.zeros(5)),
        (nn.GRU(3, 4), torch.zeros(5, 5, 5, 3)),
        (nn.Linear(3, 4), torch.tensor(1.0)),
        (nn.Embedding(3, 4), "words"),
        (nn.MultiheadAttention(4, 2), torch.zeros(5, 4)),
    ],
)
def test_inputs_of_wrong_shapes_are_judged_by_torch(layer: nn.Module, given: object) -> None:
    found = inspect(layer, Example(args=(given,)))
    assert str(found.problem).startswith("the model, run on the example input, raised ")
    assert "unpack" not in str(found.problem) and found.layers


def test_a_model_that_exits_is_a_failing_example() -> None:
    class Exits(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise SystemExit(3)

    model = Exits(5, 6).train()
    found = inspect(model, Example(args=(torch.zeros(4, 5),)))
    assert "raised SystemExit: 3" in str(found.problem)
    assert model.training and not model._forward_pre_hooks


def test_an_example_whose_fields_raise() -> None:
    class Broken(UserDict[str, object]):
        def items(self) -> Any:
            raise ValueError("no batch")

    with pytest.raises(ModelError, match="reading the example input raised ValueError: no batch"):
        arrange_example(Broken(), nn.Linear(5, 6))


# Examples for models without data


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    rest: tuple[object, ...] = ()


class Plain:
    def __init__(self, x: torch.Tensor) -> None:
        self.nested = {"x": [x, 3]}
        self.owner = self  # holds itself
        self.x = x


class Slotted:
    __slots__ = ("unset", "x")

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x


class Uncopied(Plain):
    def __copy__(self) -> Plain:
        raise TypeError("one of a kind")


class Words(dict[str, torch.Tensor]):
    pass


X = torch.zeros(4, 5)


@pytest.mark.parametrize("value", [Frozen(X), Plain(X), Slotted(X)])
def test_tensors_in_objects_are_taken_to_the_meta_device(value: Any) -> None:
    taken, left_behind = take_to_meta(value)
    assert not left_behind
    assert type(taken) is type(value) and taken.x.is_meta
    assert value.x is X  # the example itself stays as it is


def test_tensors_in_objects_in_containers_are_taken_to_the_meta_device() -> None:
    taken, _ = take_to_meta(([Frozen(X, (Frozen(X),))], {"p": Plain(X)}, UserDict(x=X), Words(x=X)))
    [frozen], plain, user, words = taken
    assert frozen.rest[0].x.is_meta and plain["p"].nested["x"][0].is_meta
    assert plain["p"].nested["x"][1] == 3
    assert user["x"].is_meta and words["x"].is_meta and type(words) is Words


def test_what_holds_no_tensor_isnt_copied() -> None:
    layer, empty = nn.Linear(2, 2), UserDict(a=1)
    for value in (3, "x", None, (1, "a"), {"b": 1}, empty, layer, torch, print):
        assert take_to_meta(value)[0] is value


def test_an_object_that_cant_be_copied_is_named_by_what_the_model_raises() -> None:
    class Reads(nn.Linear):
        def forward(self, batch: Plain) -> torch.Tensor:  # type: ignore[override]
            return super().forward(batch.x)

    model = Reads(5, 6, device="meta")
    assert inspect(model, Example(args=(Plain(X),))).problem is None
    found = inspect(model, Example(args=(Uncopied(X),)))
    assert "raised" in str(found.problem)
    assert "Uncopied of the example can't be copied to the meta device" in (
        found.problem.hint if found.problem else ""
    )


# Memory


def test_memory_that_isnt_there_is_refused() -> None:
    with pytest.raises(RuntimeError) as caught, bounded_memory(32 << 20):
        torch.empty(64 << 20, dtype=torch.int8)
    assert is_memory_error(caught.value)
    with pytest.raises(MemoryError) as python, bounded_memory(32 << 20):
        bytearray(64 << 20)
    assert is_memory_error(python.value)
    assert len(bytearray(64 << 20))  # afterwards all is as before
    with bounded_memory():
        torch.empty(64 << 20, dtype=torch.int8)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("cannot allocate memory for an opinion"), False),
    ],
)
def test_errors_that_say_so(error: Exception, is_one: bool) -> None:
    assert is_memory_error(error) == is_one


def test_free_memory_is_what_the_system_and_the_control_group_leave(tmp_path: Path) -> None:
    assert find_free_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal:  9000 kB\nMemAvailable:  4000 kB\nSwapFree:  500 kB\nHugePages_Free: 0\n"
    )
    assert find_free_bytes(tmp_path) == 4500 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("3000000\n")
    assert find_free_bytes(tmp_path) == 4500 * 1024
    (group / "memory.max").write_text("5000000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 400000\n")
    assert find_free_bytes(tmp_path) == 5_000_000 - 3_000_000 + 400_000


def test_models_that_are_too_large_are_told_of_the_meta_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"large_models_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make(): return nn.Linear(4096, 151936)\n"
        "def images(): return torch.zeros(2**14, 2**14)\n"
    )
    monkeypatch.chdir(tmp_path)
    with importing_from_here():
        for load, what in ((load_model, "make"), (load_example, "images")):
            with bounded_memory(64 << 20), pytest.raises(ModelError) as caught:
                load(f"{name}:{what}")
            assert "more memory than is free" in str(caught.value)
            assert "--meta" in caught.value.hint
        assert load_model(f"{name}:make", on_meta=True).weight.is_meta
