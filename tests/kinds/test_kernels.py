from __future__ import annotations

import pytest

from profiler_service.errors import InvalidDimsError
from profiler_service.kinds import LINEAR, LINEAR_KERNELS, get_workload_kind
from profiler_service.kinds.kernels import (
    ALL_KERNELS,
    DENSE_KERNELS,
    NUM_KERNELS,
    csr_kernel,
    kernel_params,
    kernel_workload,
)


def test_kernels_are_numbered_dense_first_then_ever_fuller() -> None:
    assert get_workload_kind("linear_kernels") is LINEAR_KERNELS
    assert [kernel_params(number)["backend"] for number in (1, 2, 3)] == [
        "dense",
        "packed",
        "compiled",
    ]
    assert DENSE_KERNELS.last == (2,) and ALL_KERNELS.last == (NUM_KERNELS,) == (103,)
    assert kernel_params(4) == {"backend": "csr", "sparsity": "0.99"}
    assert kernel_params(csr_kernel(90)) == {"backend": "csr", "sparsity": "0.9"}
    assert kernel_params(103) == {"backend": "csr", "sparsity": "0"}


@pytest.mark.parametrize("number", [0, 104])
def test_no_other_kernels(number: int) -> None:
    with pytest.raises(InvalidDimsError, match=f"no kernel {number}"):
        kernel_params(number)


def test_a_kernel_costs_what_its_product_costs() -> None:
    workload = kernel_workload((30, 20), batch=4, dtype="float32")
    assert workload.key == ("linear_kernels[batch=4,dtype=float32,in_features=20,out_features=30]")
    params = dict(workload.params)
    for number in (1, 2, 3, csr_kernel(90), 103):
        same = dict(LINEAR.describe({"batch": 4, **kernel_params(number)}).params)
        assert LINEAR_KERNELS.operand_bytes((number,), params) == LINEAR.operand_bytes(
            (30, 20), same
        )
        assert LINEAR_KERNELS.flops((number,), params) == LINEAR.flops((30, 20), same)
    # The last one needs the most memory, as with dimensions.
    sizes = [LINEAR_KERNELS.operand_bytes((n,), params) for n in range(1, NUM_KERNELS + 1)]
    assert max(sizes) == sizes[-1]
