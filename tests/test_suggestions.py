from __future__ import annotations

import pytest

from profiler_service.kinds import workload_kinds
from profiler_service.suggestions import ALSO_CALLED, did_you_mean

DTYPES = ("float32", "bfloat16", "float16")


@pytest.mark.parametrize(
    ("given", "names", "meant"),
    [
        ("liner", ["linear", "matmul", "lstm"], "linear"),
        ("Linear", ["linear", "matmul"], "linear"),
        ("hlstm-lm", ["hlstm", "hlstm_lm"], "hlstm_lm"),
        ("bf16", DTYPES, "bfloat16"),
        ("fp16", DTYPES, "float16"),
        ("half", DTYPES, "float16"),
        ("float", DTYPES, "float32"),
        ("torch.bfloat16", DTYPES, "bfloat16"),
        ("bachend", ["batch", "dtype", "backend"], "backend"),
    ],
)
def test_a_slip_or_another_name_is_understood(given: str, names: list[str], meant: str) -> None:
    assert did_you_mean(given, names) == f"did you mean {meant!r}? "


@pytest.mark.parametrize("given", ["", "quicksort", "x" * 10_000, None, 7])
def test_what_is_like_nothing_gets_no_suggestion(given: object) -> None:
    assert did_you_mean(given, ["linear", "matmul"]) == ""


def test_another_name_stands_only_for_what_there_is() -> None:
    assert did_you_mean("dense", ["linear", "matmul"]) == "did you mean 'linear'? "
    assert did_you_mean("dense", ["packed", "csr"]) == ""


def test_other_names_are_those_of_things_that_exist() -> None:
    kinds = workload_kinds()
    known = set(kinds)
    for kind in kinds.values():
        for parameter in kind.parameters:
            known |= {parameter.name, *parameter.choices}
    assert set(ALSO_CALLED.values()) <= known
