from __future__ import annotations

import pytest

from profiler_service.errors import InvalidDimsError, InvalidWorkloadError
from profiler_service.kinds import (
    ATTENTION,
    CONV2D,
    CONV2D_KERNELS,
    DEEPSPEECH2,
    DEPTHWISE_CONV2D,
    DEPTHWISE_CONV2D_KERNELS,
    EMBEDDING,
    HLSTM,
    HLSTM_KERNELS,
    HLSTM_LM,
    HLSTM_LM_KERNELS,
    LINEAR,
    LINEAR_KERNELS,
    LM_HEAD,
    LSTM,
    MATMUL,
    MLP,
    MLP_KERNELS,
    TRANSFORMER_BLOCK,
    TRANSFORMER_BLOCK_KERNELS,
    get_workload_kind,
    workload_kinds,
)
from profiler_service.kinds.kernels import (
    ALL_KERNELS,
    DENSE_BACKENDS,
    DENSE_KERNELS,
    NUM_KERNELS,
    Kernel,
    dense_points,
    find_kernels,
    kernel_workload,
)
from profiler_service.workload import Dims, WorkloadKind


def test_kernels_are_numbered_dense_first_then_ever_fuller() -> None:
    assert get_workload_kind("linear_kernels") is LINEAR_KERNELS
    # 3 dense ones, then 99 %, 98 % … 0 % zeros: 100 more.
    assert [str(Kernel.from_point(point)) for point in (0, 1, 2, 3, 12, 101, 102)] == [
        *("dense", "packed", "compiled", "csr at 0.99", "csr at 0.9", "csr at 0.01", "csr at 0"),
    ]
    assert DENSE_KERNELS.last == (2,) and ALL_KERNELS.last == (NUM_KERNELS,) == (103,)


@pytest.mark.parametrize("point", range(NUM_KERNELS))
def test_a_kernel_and_its_point_stand_for_each_other(point: int) -> None:
    kernel = Kernel.from_point(point)
    assert kernel.point == point
    # Dims start at 1, points at 0.
    assert kernel.dims == ALL_KERNELS.dims(point) == (point + 1,)
    assert Kernel.from_dims(kernel.dims) == kernel
    assert kernel.is_dense == (point < 3)


def test_a_kernels_parameters_are_those_of_the_product() -> None:
    assert Kernel("packed").params == {"backend": "packed"}
    assert Kernel("csr", 90).params == {"backend": "csr", "sparsity": "0.9"}
    assert Kernel("csr", 0).params == {"backend": "csr", "sparsity": "0"}
    assert [kernel.sparsity for kernel in (Kernel("csr", 7), Kernel("dense"))] == [0.07, 0.0]


def test_dense_points_of_grids_with_and_without_the_sparse_kernel() -> None:
    assert list(dense_points(NUM_KERNELS)) == [0, 1, 2]
    assert list(dense_points(DENSE_KERNELS.size)) == [0, 1]


@pytest.mark.parametrize("number", [0, 104])
def test_no_other_kernels(number: int) -> None:
    with pytest.raises(InvalidDimsError, match=f"no kernel {number}"):
        Kernel.from_dims((number,))


@pytest.mark.parametrize(
    ("backend", "percent"),
    [("csr", None), ("csr", 100), ("csr", -1), ("dense", 90), ("cuda", None)],
)
def test_a_kernel_that_isnt_measured_cant_be_named(backend: str, percent: int | None) -> None:
    with pytest.raises(InvalidDimsError, match=f"no kernel {backend}"):
        Kernel(backend, percent)


def test_a_kernel_costs_what_its_product_costs() -> None:
    workload = kernel_workload((30, 20), batch=4, dtype="float32")
    assert workload.key == ("linear_kernels[batch=4,dtype=float32,in_features=20,out_features=30]")
    params = dict(workload.params)
    for kernel in (*map(Kernel, DENSE_BACKENDS), Kernel("csr", 90), Kernel("csr", 0)):
        same = dict(LINEAR.describe({"batch": 4, **kernel.params}).params)
        assert LINEAR_KERNELS.operand_bytes(kernel.dims, params) == LINEAR.operand_bytes(
            (30, 20), same
        )
        assert LINEAR_KERNELS.flops(kernel.dims, params) == LINEAR.flops((30, 20), same)
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
    for kernel in (Kernel("dense"), Kernel("packed"), Kernel("csr", 90)):
        same = dict(kind.describe({**given, **kernel.params}).params)
        assert kernels.operand_bytes(kernel.dims, params) == kind.operand_bytes((30, 20), same)
        assert kernels.flops(kernel.dims, params) == kind.flops((30, 20), same)
    # The vocabulary is the language model's alone.
    assert ("vocabulary" in params) == (kind is HLSTM_LM)


@pytest.mark.parametrize(
    ("kind", "kernels", "dims"),
    [
        (CONV2D, CONV2D_KERNELS, (8, 6)),
        (DEPTHWISE_CONV2D, DEPTHWISE_CONV2D_KERNELS, (7,)),
        (MLP, MLP_KERNELS, (30,)),
        (TRANSFORMER_BLOCK, TRANSFORMER_BLOCK_KERNELS, (24, 30)),
    ],
)
def test_a_layer_has_dense_kernels(kind: WorkloadKind, kernels: WorkloadKind, dims: Dims) -> None:
    assert get_workload_kind(f"{kind.name}_kernels") is kernels
    workload = find_kernels(kind.describe({"backend": "packed", "dtype": "bfloat16"}), dims)
    assert workload is not None and workload.kind == kernels.name
    # Whichever kernel is asked about, they are the same ones.
    for backend in DENSE_BACKENDS:
        asked = kind.describe({"backend": backend, "dtype": "bfloat16"})
        assert find_kernels(asked, dims) == workload
    params = dict(workload.params)
    assert tuple(params[axis] for axis in kind.axes) == dims
    assert "backend" not in params
    for kernel in map(Kernel, DENSE_BACKENDS):
        same = dict(kind.describe({"dtype": "bfloat16", **kernel.params}).params)
        assert kernels.operand_bytes(kernel.dims, params) == kind.operand_bytes(dims, same)
        assert kernels.flops(kernel.dims, params) == kind.flops(dims, same)
    with pytest.raises(InvalidDimsError, match=f"{kind.name} has no csr kernel") as caught:
        kernels.operand_bytes(Kernel("csr", 50).dims, params)
    assert "dense, packed, compiled" in caught.value.hint


def test_a_convolution_s_kernels_keep_the_size_of_its_kernel() -> None:
    workload = find_kernels(CONV2D.describe({"kernel": 1, "padding": 0}), (8, 6))
    assert workload is not None
    assert workload.axes == ("kernel_number",) and workload.param("kernel") == 1


def test_what_a_layer_refuses_its_kernels_refuse() -> None:
    with pytest.raises(InvalidWorkloadError, match="width must be a multiple of 12"):
        TRANSFORMER_BLOCK_KERNELS.describe({"width": 770})
    with pytest.raises(InvalidWorkloadError, match="in_channels must be a multiple of 4"):
        CONV2D_KERNELS.describe({"in_channels": 6, "out_channels": 8, "groups": 4})
    with pytest.raises(InvalidWorkloadError, match="doesn't fit into 2 x 32"):
        DEPTHWISE_CONV2D_KERNELS.describe({"height": 2, "padding": 0})
    TRANSFORMER_BLOCK_KERNELS.describe({"width": 780})


def test_kernels_of_products() -> None:
    expected = kernel_workload((30, 20), batch=16, dtype="float32")
    assert find_kernels(LINEAR.describe({"backend": "compiled"}), (30, 20)) == expected
    biased = kernel_workload((30, 20), batch=16, dtype="float32", bias="yes")
    assert biased.key == (
        "linear_kernels[batch=16,bias=yes,dtype=float32,in_features=20,out_features=30]"
    )
    assert find_kernels(LINEAR.describe({"bias": "yes"}), (30, 20)) == biased != expected
    square = kernel_workload((30, 30), batch=16, dtype="float32")
    assert find_kernels(MATMUL.describe(), (30,)) == square


def test_a_vocabulary_s_scores_are_a_product() -> None:
    scores = LM_HEAD.describe({"width": 20, "backend": "packed"})
    assert find_kernels(scores, (30,)) == kernel_workload((30, 20), batch=16, dtype="float32")


def test_what_has_one_kernel_or_is_sparse_has_none_to_compare() -> None:
    assert find_kernels(LSTM.describe(), (30, 20)) is None
    assert find_kernels(EMBEDDING.describe(), (30,)) is None
    assert find_kernels(ATTENTION.describe(), (12, 64)) is None  # has none of them but dense
    varied = {"vary": "groups", "out_channels": 8, "in_channels": 8}
    assert find_kernels(CONV2D.describe(varied), (4,)) is None
    assert find_kernels(DEEPSPEECH2.describe(), (30,)) is None
    assert find_kernels(LINEAR.describe({"backend": "csr"}), (30, 20)) is None
    # Its results differ: a plain kernel is no other way to the same.
    assert find_kernels(LINEAR.describe({"backend": "int8_dynamic"}), (30, 20)) is None
    assert find_kernels(HLSTM.describe({"backend": "csr"}), (30, 20)) is None
    assert find_kernels(kernel_workload((30, 20), batch=16, dtype="float32"), (1,)) is None


def test_layers_have_few_launches_and_networks_many() -> None:
    few = {kind.name for kind in workload_kinds().values() if kind.has_few_launches}
    layers = {"linear", "conv2d", "depthwise_conv2d", "mlp"}
    assert few == {*layers, *(f"{name}_kernels" for name in layers)} | {
        *("matmul", "attention", "embedding", "lm_head")
    }
