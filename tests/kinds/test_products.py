from __future__ import annotations

import pytest

from profiler_service.errors import InvalidWorkloadError
from profiler_service.kinds import LINEAR, MATMUL


@pytest.mark.parametrize(
    ("given", "key"),
    [
        # Keys from before there was a sparsity stay.
        ({}, "linear[backend=dense,batch=16,dtype=float32]"),
        ({"sparsity": "0.0"}, "linear[backend=dense,batch=16,dtype=float32]"),
        ({"backend": "packed"}, "linear[backend=packed,batch=16,dtype=float32]"),
        ({"backend": "csr"}, "linear[backend=csr,batch=16,dtype=float32]"),
        # Equal numbers are equal workloads.
        *(
            (
                {"backend": "csr", "sparsity": written},
                "linear[backend=csr,batch=16,dtype=float32,sparsity=0.9]",
            )
            for written in ("0.9", "0.90", "00.9000", "0.90000", 0.9)
        ),
    ],
)
def test_a_sparsity_is_part_of_the_key_where_there_is_one(
    given: dict[str, object], key: str
) -> None:
    assert LINEAR.describe(given).key == key


@pytest.mark.parametrize(
    "sparsity",
    ["1", "1.0", "-0.1", 1, True, "nan", "inf", "1e-1", "0.12345", ".5", "0,5", "٠", "", "9" * 99],
)
def test_a_sparsity_outside_0_to_1_is_refused(sparsity: object) -> None:
    with pytest.raises(InvalidWorkloadError, match="sparsity") as caught:
        LINEAR.describe({"backend": "csr", "sparsity": sparsity})
    assert "from 0 to below 1" in caught.value.hint


@pytest.mark.parametrize("backend", ["dense", "packed", "compiled"])
def test_a_sparsity_that_the_backend_ignores_is_refused(backend: str) -> None:
    with pytest.raises(InvalidWorkloadError, match=f"no difference to backend={backend}") as caught:
        LINEAR.describe({"backend": backend, "sparsity": "0.5"})
    assert "csr" in caught.value.hint


def test_operands_and_flops_of_every_backend_by_hand() -> None:
    def bytes_and_flops(**given: object) -> tuple[int, int]:
        params = dict(MATMUL.describe({"batch": 2, **given}).params)
        return MATMUL.operand_bytes((10,), params), MATMUL.flops((10,), params)

    # Input and result: 2 · 2 · 10 floats of 4 bytes = 160. Weight: 100 floats = 400 bytes,
    # twice if it is rearranged. 2 · 100 multiply-adds.
    assert bytes_and_flops(backend="dense") == (560, 400)
    assert bytes_and_flops(backend="packed") == (960, 400)
    assert bytes_and_flops(backend="compiled") == (960, 400)
    # 10 nonzeros: 4 bytes of value, 4 of column, 20 while they are drawn; 11 row starts of 4.
    assert bytes_and_flops(backend="csr", sparsity="0.9") == (160 + 10 * 28 + 44, 40)
    # Never none at all.
    assert bytes_and_flops(backend="csr", sparsity="0.9999") == (160 + 28 + 44, 4)


@pytest.mark.parametrize(("dtype", "size_bytes"), [("float32", 4), ("bfloat16", 2)])
def test_a_weight_of_8_bits_is_held_beside_the_plain_one(dtype: str, size_bytes: int) -> None:
    for backend in ("int8_dynamic", "int8_weight_only"):
        params = dict(LINEAR.describe({"batch": 2, "dtype": dtype, "backend": backend}).params)
        # Two float32 copies and two int8 ones of 5 · 16 weights, 16 bytes a row; input and result.
        weight_bytes = (size_bytes + 2 * 4 + 2 * 1) * 80 + 16 * 5
        assert LINEAR.operand_bytes((5, 16), params) == weight_bytes + size_bytes * 2 * (5 + 16)
        assert LINEAR.flops((5, 16), params) == 2 * 2 * 80


def test_only_multiples_of_16_inputs_have_a_kernel_for_a_weight_of_8_bits() -> None:
    weight_only = LINEAR.describe({"backend": "int8_weight_only", "dtype": "bfloat16"})
    assert LINEAR.find_multiples(weight_only) == (1, 16)
    LINEAR.check_point(weight_only, (317, 1200))
    with pytest.raises(InvalidWorkloadError, match="in_features must be a multiple of 16") as it:
        LINEAR.check_point(weight_only, (317, 1197))
    assert "in_features=1200" in it.value.hint
    for backend in ("dense", "int8_dynamic"):
        plain = LINEAR.describe({"backend": backend})
        assert LINEAR.find_multiples(plain) == (1, 1)
        LINEAR.check_point(plain, (317, 1197))


def test_products_of_other_kinds_are_not_quantised() -> None:
    with pytest.raises(InvalidWorkloadError, match="dense, packed, compiled, csr") as caught:
        MATMUL.describe({"backend": "int8_dynamic"})
    assert "int8" not in caught.value.hint
    with pytest.raises(InvalidWorkloadError, match="no difference to backend=int8_dynamic"):
        LINEAR.describe({"backend": "int8_dynamic", "sparsity": "0.5"})


def test_a_bias_is_part_of_the_key_where_there_is_one() -> None:
    # Keys from before there was a bias stay.
    assert LINEAR.describe({"bias": "no"}).key == "linear[backend=dense,batch=16,dtype=float32]"
    assert LINEAR.describe({"bias": "no"}) == LINEAR.describe()
    with_bias = LINEAR.describe({"bias": "yes"})
    assert with_bias.key == "linear[backend=dense,batch=16,bias=yes,dtype=float32]"
    for refused in ("true", True, 1, "YES"):
        with pytest.raises(InvalidWorkloadError, match="is not one of no, yes"):
            LINEAR.describe({"bias": refused})
    with pytest.raises(InvalidWorkloadError, match="no parameter 'bias'"):
        MATMUL.describe({"bias": "yes"})


@pytest.mark.parametrize("backend", ["dense", "packed", "compiled", "csr"])
def test_a_bias_is_one_number_for_each_row(backend: str) -> None:
    plain = dict(LINEAR.describe({"backend": backend, "dtype": "bfloat16"}).params)
    with_bias = {**plain, "bias": "yes"}
    more_bytes = LINEAR.operand_bytes((7, 3), with_bias) - LINEAR.operand_bytes((7, 3), plain)
    assert more_bytes == 2 * 7
    # Two for each of 21 weights and 16 rows of input; sums with a bias aren't counted.
    assert LINEAR.flops((7, 3), with_bias) == LINEAR.flops((7, 3), plain) == 2 * 16 * 21
