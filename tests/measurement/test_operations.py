from __future__ import annotations

import random

import pytest
import torch

from profiler_service.measurement.operations import (
    NUM_PLACES,
    Arena,
    Operands,
    build_linear,
    build_matmul,
    load_builder,
)


def new_arena(dtype: torch.dtype = torch.float32) -> Arena:
    return Arena(dtype, torch.device("cpu"), random.Random(0))


def new_operands(dtype: str = "float32") -> Operands:
    return Operands(dtype, "cpu", random.Random(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_operands_lie_aligned_inside_the_arena_at_varying_places(dtype: torch.dtype) -> None:
    arena = new_arena(dtype)
    arena.take((37, 53))
    arena.start_visit()
    places = set()
    for _ in range(200):
        arena.start_visit()
        view = arena.take((37, 53))
        first = view.data_ptr()
        last = first + view.numel() * dtype.itemsize
        memory = arena.memory.data_ptr()
        assert memory <= first < last <= memory + arena.memory.numel() * dtype.itemsize
        assert first % 64 == 0
        assert view.shape == (37, 53) and view.is_contiguous()
        places.add(first - memory)
    # 200 draws from 128 places: 128 · (1 − (127/128)^200) ≈ 101 different ones expected.
    assert 80 <= len(places) <= NUM_PLACES
    assert max(places) < NUM_PLACES * 64  # two pages


def test_operands_of_one_visit_are_disjoint() -> None:
    arena = new_arena()
    arena.take((10_000,))  # large enough for what follows
    for _ in range(50):
        arena.start_visit()
        first, second = arena.take((101,)), arena.take((101,))
        assert first.data_ptr() + 101 * 4 <= second.data_ptr()
        assert second.data_ptr() % 64 == 0


def test_arena_is_bounded_and_allocates_only_when_a_larger_operand_comes() -> None:
    arena = new_arena()
    shapes = [(n, 100) for n in range(500, 1001)]
    random.Random(1).shuffle(shapes)
    memories = set()
    for shape in shapes + shapes:
        arena.start_visit()
        arena.take(shape)
        memories.add((arena.memory.data_ptr(), len(arena.memory)))
    # The largest operand has 1000 · 100 elements, and 128 places of 16 elements come on top;
    # a quarter is added in advance.
    assert max(size for _, size in memories) <= (100_000 + NUM_PLACES * 16) * 1.25
    # From 500 to 1,000 rows in steps of at least a quarter: 500, 625, 781, 977, 1,221.
    assert len(memories) <= 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_contents_are_normal_numbers_everywhere_also_beyond_one_block(dtype: torch.dtype) -> None:
    values = new_arena(dtype).take((2_500_000,)).float()
    assert values.abs().min() >= torch.finfo(dtype).smallest_normal
    # Normally distributed: a deviation of 1, and a mean of 0 ± 5/√(2^20), since a block of
    # 2^20 values repeats.
    assert abs(values.mean()) < 0.005
    assert values.std() == pytest.approx(1, abs=0.005)


def test_linear_is_the_product_with_the_transposed_weight() -> None:
    operands = new_operands()
    call = build_linear(operands, (5, 3), {"batch": 2, "dtype": "float32"})
    y_bo = call()
    assert isinstance(y_bo, torch.Tensor)
    assert y_bo.shape == (2, 5)
    # The same generator, from the same seed, gives the same places: weight first, then input.
    again = random.Random(0)
    w_start, x_start = again.randrange(NUM_PLACES) * 16, again.randrange(NUM_PLACES) * 16
    w_oi = operands.weights.memory[w_start : w_start + 15].view(5, 3)
    x_bi = operands.inputs.memory[x_start : x_start + 6].view(2, 3)
    torch.testing.assert_close(y_bo, x_bi @ w_oi.T)


def test_matmul_has_a_square_weight() -> None:
    y_bs = build_matmul(new_operands("bfloat16"), (7,), {"batch": 16, "dtype": "bfloat16"})()
    assert isinstance(y_bs, torch.Tensor)
    assert y_bs.shape == (16, 7) and y_bs.dtype == torch.bfloat16


def test_builders_are_named_as_module_and_function() -> None:
    name = "profiler_service.measurement.operations:build_linear"
    assert load_builder(name) is build_linear
    with pytest.raises(ValueError, match="module:function"):
        load_builder("profiler_service.measurement.operations.build_linear")
    with pytest.raises(AttributeError):
        load_builder("profiler_service.measurement.operations:build_nothing")
    with pytest.raises(ImportError):
        load_builder("profiler_service.measurement.no_such_module:build_linear")
