from __future__ import annotations

import pytest

from profiler_service.errors import InvalidDimsError
from profiler_service.kinds import (
    DEEPSPEECH2,
    HLSTM,
    HLSTM_KERNELS,
    HLSTM_LM,
    HLSTM_LM_KERNELS,
    LINEAR,
    LINEAR_KERNELS,
    LSTM,
    MATMUL,
    get_workload_kind,
)
from profiler_service.kinds.kernels import (
    ALL_KERNELS,
    DENSE_KERNELS,
    NUM_KERNELS,
    csr_kernel,
    find_kernels,
    kernel_params,
    kernel_workload,
)
from profiler_service.workload import WorkloadKind


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


@pytest.mark.parametrize(
    ("kind", "kernels"), [(HLSTM, HLSTM_KERNELS), (HLSTM_LM, HLSTM_LM_KERNELS)]
)
def test_a_network_has_kernels_too(kind: WorkloadKind, kernels: WorkloadKind) -> None:
    assert get_workload_kind(f"{kind.name}_kernels") is kernels
    given = {"batch": 4, "steps": 3, "dtype": "bfloat16"}
    workload = find_kernels(kind.describe({**given, "backend": "packed"}), (30, 20))
    assert workload is not None
    # Whichever kernel is asked about, they are the same ones.
    assert workload == find_kernels(kind.describe(given), (30, 20))
    params = dict(workload.params)
    assert (workload.kind, params["gate_width"], params["state_width"]) == (kernels.name, 30, 20)
    assert (params["batch"], params["steps"], params["dtype"]) == (4, 3, "bfloat16")
    assert "backend" not in params and "sparsity" not in params
    for number in (1, 2, csr_kernel(90)):
        same = dict(kind.describe({**given, **kernel_params(number)}).params)
        assert kernels.operand_bytes((number,), params) == kind.operand_bytes((30, 20), same)
        assert kernels.flops((number,), params) == kind.flops((30, 20), same)
    # The vocabulary is the language model's alone.
    assert ("vocabulary" in params) == (kind is HLSTM_LM)


def test_kernels_of_products() -> None:
    expected = kernel_workload((30, 20), batch=16, dtype="float32")
    assert find_kernels(LINEAR.describe({"backend": "compiled"}), (30, 20)) == expected
    square = kernel_workload((30, 30), batch=16, dtype="float32")
    assert find_kernels(MATMUL.describe(), (30,)) == square


def test_what_has_one_kernel_or_is_sparse_has_none_to_compare() -> None:
    assert find_kernels(LSTM.describe(), (30, 20)) is None
    assert find_kernels(DEEPSPEECH2.describe(), (30,)) is None
    assert find_kernels(LINEAR.describe({"backend": "csr"}), (30, 20)) is None
    assert find_kernels(HLSTM.describe({"backend": "csr"}), (30, 20)) is None
    assert find_kernels(kernel_workload((30, 20), batch=16, dtype="float32"), (1,)) is None
