"""Workload descriptions: keys, parameters, dims, and what they refuse."""

from __future__ import annotations

import pytest

from profiler_service.errors import InvalidDimsError, InvalidWorkloadError, UnknownWorkloadError
from profiler_service.kinds import LINEAR, MATMUL, get_workload_kind, workload_kinds
from profiler_service.workload import parse_dims


def test_keys_are_stable() -> None:
    # Keys are in every database: a changed key orphans its curves.
    assert LINEAR.describe().key == "linear[backend=dense,batch=16,dtype=float32]"
    assert MATMUL.describe({"batch": "8"}).key == "matmul[backend=dense,batch=8,dtype=float32]"
    assert LINEAR.describe({"dtype": "bfloat16", "batch": 1}) == LINEAR.describe(
        {"batch": "1", "dtype": "bfloat16"}
    )


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"batch": 0}, "outside"),
        ({"batch": 1_048_577}, "outside"),
        ({"batch": "1e9"}, "whole number"),
        ({"batch": 16.5}, "whole number"),
        ({"batch": True}, "whole number"),
        ({"batch": "١٦"}, "whole number"),
        ({"batch": "1_6"}, "whole number"),
        ({"dtype": "float64"}, "float32, bfloat16, float16"),
        ({"backend": "cudnn"}, "dense"),
        ({"colour": "red"}, "no parameter 'colour'"),
    ],
)
def test_parameters_not_allowed(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidWorkloadError, match=complaint) as caught:
        LINEAR.describe(given)
    assert caught.value.hint


def test_unknown_kind() -> None:
    with pytest.raises(UnknownWorkloadError, match="'rnn'") as caught:
        get_workload_kind("rnn")
    assert "linear" in caught.value.hint
    assert {"linear", "matmul"} <= set(workload_kinds())


def test_operands_and_flops_by_hand() -> None:
    params = dict(LINEAR.describe({"dtype": "bfloat16", "batch": 4}).params)
    # weight 3 × 5, input 4 × 5, result 4 × 3: 47 elements of 2 bytes.
    assert LINEAR.operand_bytes((3, 5), params) == 94
    # 4 · 3 · 5 multiply-adds, two operations each.
    assert LINEAR.flops((3, 5), params) == 120
    # Square: weight 3 × 3, input and result 4 × 3.
    assert MATMUL.operand_bytes((3,), params) == 2 * (9 + 12 + 12)


@pytest.mark.parametrize(
    "text",
    ["", ",", "a", "1,", "-1", "1.5", "1;2", "1e3", "0x10", "١", "1" * 10, ",".join("1" * 17)],
)
def test_malformed_dims(text: str) -> None:
    with pytest.raises(InvalidDimsError):
        parse_dims(text)


@pytest.mark.parametrize("dim", ["2147483647", "99999999999", "9" * 5000])
def test_dims_too_large_to_be_meant_are_called_too_large(dim: str) -> None:
    with pytest.raises(
        InvalidDimsError, match=r"^dimension [0-9]+ is larger than 999999999"
    ) as caught:
        parse_dims(f"{dim},5")
    assert "999999999" in caught.value.hint
    assert len(str(caught.value)) < 200


def test_a_parameter_too_large_to_be_meant_is_called_outside() -> None:
    with pytest.raises(InvalidWorkloadError, match=r"batch=9+ is outside 1 to 1048576"):
        LINEAR.describe({"batch": "9" * 23})


def test_complaints_count_in_singular_and_plural() -> None:
    with pytest.raises(InvalidDimsError, match=r"1 axis \(size\), but 2 dims were given"):
        MATMUL.describe().check_dims([5, 6])
    with pytest.raises(InvalidDimsError, match=r"2 axes \(.*\), but 1 dim was given"):
        LINEAR.describe().check_dims([5])


def test_dims() -> None:
    assert parse_dims("1197, 317") == (1197, 317)
    assert LINEAR.describe().check_dims([1197, 317]) == (1197, 317)


@pytest.mark.parametrize("dims", [[1], [1, 2, 3], [0, 5], [5, 1_000_000_000], []])
def test_dims_that_do_not_fit_the_workload(dims: list[int]) -> None:
    with pytest.raises(InvalidDimsError):
        LINEAR.describe().check_dims(dims)
