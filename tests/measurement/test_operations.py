from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch

from profiler_service.measurement import operations
from profiler_service.measurement.operations import (
    MAX_KEPT,
    MAX_KEPT_BYTES,
    MAX_USES,
    NUM_PLACES,
    Arena,
    Operands,
    build_linear,
    build_matmul,
    load_builder,
)
from profiler_service.networks.products import Product
from profiler_service.workload import ParamValue


def new_arena(dtype: torch.dtype = torch.float32) -> Arena:
    return Arena(dtype, torch.device("cpu"), random.Random(0))


def new_operands(dtype: str = "float32") -> Operands:
    return Operands(dtype, "cpu", random.Random(0))


def test_an_arena_moves_to_new_pages_of_the_same_size(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = new_arena()
    arena.take((100, 100))
    before = arena.memory
    arena.remap()  # the old memory is still in use here, so the new one can't be at its place
    assert len(arena.memory) == len(before)
    assert arena.memory.data_ptr() != before.data_ptr()
    # It is filled as before: no zeros, and nothing near zero.
    assert arena.memory.abs().min() >= 1e-3
    # 100 · 100 elements and room to move take more than 40 kB.
    monkeypatch.setattr(operations, "MAX_REMAPPED_BYTES", 40_000)
    there = arena.memory.data_ptr()
    arena.remap()
    assert arena.memory.data_ptr() == there


def test_new_memory_is_filled_without_drawing_again() -> None:
    new_arena().take((10,))  # whoever comes first draws
    drawn = torch.get_rng_state()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        arena = new_arena(dtype)
        arena.take((100, 100))
        arena.remap()
        assert arena.memory.abs().min() >= 1e-3 * (1 - 2**-8)  # bfloat16 keeps 8 bits
    # Each number drawn moves the generator on.
    assert torch.equal(torch.get_rng_state(), drawn)
    # One block of 2^20 values, 4 bytes each, is kept for all dtypes.
    assert operations._normals(torch.device("cpu")).nbytes == 4 << 20


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


def sparse_parts(
    operands: Operands, rows: int, columns: int, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    operands.start_visit()
    weight = operands.sparse_weight(rows, columns, count)
    return weight.crow_indices(), weight.col_indices()


@pytest.mark.parametrize("count", [1, 6, 11, 12])
def test_sparse_weights_have_exactly_the_nonzeros_asked_for(count: int) -> None:
    operands = new_operands()
    for _ in range(50):
        crow, column = sparse_parts(operands, 3, 4, count)
        assert crow[0] == 0 and crow[-1] == count and (crow.diff() >= 0).all()
        assert ((column >= 0) & (column < 4)).all()
        # Within a row the columns ascend: no place is taken twice.
        for first, last in pairwise(crow.tolist()):
            assert (column[first:last].diff() > 0).all()


def test_sparse_weights_are_unstructured_and_differ_from_visit_to_visit() -> None:
    operands = new_operands()
    per_row, per_column = torch.zeros(40), torch.zeros(50)
    different = set()
    for _ in range(100):
        crow, column = sparse_parts(operands, 40, 50, 200)
        per_row += crow.diff()
        per_column += torch.bincount(column, minlength=50)
        different.add(tuple(column.tolist()))
    assert len(different) == 100
    # 100 · 200 nonzeros: 500 a row and 400 a column, give or take five times √500 ≈ 22, √400.
    assert (per_row - 500).abs().max() < 112
    assert (per_column - 400).abs().max() < 100


def test_sparse_operands_change_place() -> None:
    operands = new_operands()
    places = set()
    for _ in range(30):
        operands.start_visit()
        weight = operands.sparse_weight(30, 30, 90)
        places.add((weight.col_indices().data_ptr(), weight.values().data_ptr()))
    # Two draws from 128 places each: hardly ever the same pair twice in 30.
    assert len(places) >= 28


@pytest.mark.parametrize("backend", ["dense", "packed", "compiled", "csr"])
def test_linear_by_every_backend(backend: str) -> None:
    params: dict[str, ParamValue] = {"batch": 2, "dtype": "float32", "backend": backend}
    if backend == "csr":
        params["sparsity"] = "0.5"
    y_bo = build_linear(new_operands(), (5, 3), params)()
    assert isinstance(y_bo, torch.Tensor)
    assert y_bo.shape == (2, 5) and y_bo.is_contiguous()
    assert y_bo.abs().max() > 0


@pytest.mark.parametrize("backend", ["dense", "packed", "compiled", "csr"])
def test_linear_with_a_bias_by_every_backend(backend: str) -> None:
    params: dict[str, ParamValue] = {"batch": 2, "dtype": "float32", "backend": backend}
    if backend == "csr":
        params["sparsity"] = "0.5"
    operands = new_operands()
    operands.input(10_000)  # large enough for what follows
    operands.inputs.memory.zero_()
    for bias in ("no", "yes", "no"):
        operands.start_visit()
        y_bo = build_linear(operands, (5, 3), {**params, "bias": bias})()
        assert isinstance(y_bo, torch.Tensor)
        # Of an input of zeros, only the bias is left, for both rows: no weight is zero.
        assert y_bo.shape == (2, 5)
        assert torch.equal(y_bo[0], y_bo[1])
        assert bool((y_bo != 0).all()) == bool((y_bo != 0).any()) == (bias == "yes")


@pytest.mark.parametrize(
    ("backend", "dtype"), [("int8_dynamic", "float32"), ("int8_weight_only", "bfloat16")]
)
def test_linear_by_every_quantised_backend(backend: str, dtype: str) -> None:
    params: dict[str, ParamValue] = {"batch": 2, "dtype": dtype}
    # The same generator, from the same seed, gives the same places, and so the same numbers.
    result = build_linear(new_operands(dtype), (5, 64), {**params, "backend": backend})()
    expected = build_linear(new_operands(dtype), (5, 64), params)()
    assert isinstance(result, torch.Tensor) and isinstance(expected, torch.Tensor)
    assert result.dtype == expected.dtype and result.is_contiguous()
    # Weights and inputs are normal. One is off by at most one step, 4 of 127: of 64 products, by
    # √64 · 2 · 4 / 127 = 0.5 together, were each as far off as can be.
    torch.testing.assert_close(result, expected, rtol=0, atol=0.5)
    assert not torch.equal(result, expected)


def test_what_is_kept_is_bounded_and_made_anew_after_a_while() -> None:
    operands = new_operands()
    made: list[int] = []

    def use(key: int, size_bytes: int = 1) -> None:
        def make() -> Product:
            made.append(key)
            return torch.neg

        operands.keep(key, make, size_bytes=size_bytes)

    for _ in range(MAX_USES + 1):
        use(0)
    assert made == [0, 0]
    # Two of more than half the bytes allowed don't fit: the one used last stays.
    use(1, MAX_KEPT_BYTES // 2 + 1)
    use(2, MAX_KEPT_BYTES // 2 + 1)
    use(2, MAX_KEPT_BYTES // 2 + 1)
    use(1, MAX_KEPT_BYTES // 2 + 1)
    assert made == [0, 0, 1, 2, 1]
    # Nor do more than MAX_KEPT: 1 is the oldest by then.
    for key in range(3, 3 + MAX_KEPT):
        use(key)
    use(3 + MAX_KEPT - 1)
    use(1)
    assert made[5:] == [*range(3, 3 + MAX_KEPT), 1]
