"""Which backends kinds have, and what a host registers for them."""

from __future__ import annotations

import pytest

from profiler_service.kinds import (
    ATTENTION,
    CONV2D,
    DEPTHWISE_CONV2D,
    EMBEDDING,
    HLSTM_LM,
    LINEAR,
    LINEAR_KERNELS,
    LM_HEAD,
    LSTM,
    MATMUL,
    MLP,
    TRANSFORMER_BLOCK,
)
from profiler_service.kinds.backends import (
    HOST_BACKENDS,
    find_host_backends,
    find_missing_backend,
)
from profiler_service.kinds.products import BATCH, DTYPE
from profiler_service.workload import Parameter, ParamValue, WorkloadKind


def test_backends_that_a_host_may_lack() -> None:
    products = ["dense", "packed", "compiled", "csr"]
    for kind in (MATMUL, LM_HEAD):
        assert list(find_host_backends(kind)) == products
    assert list(find_host_backends(LINEAR)) == [*products, "int8_dynamic", "int8_weight_only"]
    assert list(find_host_backends(HLSTM_LM)) == ["dense", "packed", "csr"]
    assert list(find_host_backends(LSTM)) == ["dense"]
    for kind in (CONV2D, DEPTHWISE_CONV2D, MLP, TRANSFORMER_BLOCK):
        assert list(find_host_backends(kind)) == ["dense", "packed", "compiled"]
    assert list(find_host_backends(ATTENTION)) == ["dense", "math", "fused", "compiled"]
    assert find_host_backends(LINEAR_KERNELS) == find_host_backends(EMBEDDING) == {}  # have none


def test_a_layer_needs_another_kernel_than_a_product_of_the_same_name() -> None:
    assert find_host_backends(MATMUL)["compiled"] == "compiled"
    assert find_host_backends(MLP)["compiled"] == "compiled_layer"
    assert find_host_backends(MLP)["packed"] == find_host_backends(MATMUL)["packed"] == "packed"
    assert find_host_backends(CONV2D)["packed"] == "packed_conv2d"
    for kind in (LINEAR, CONV2D, MLP, TRANSFORMER_BLOCK, ATTENTION):
        assert set(find_host_backends(kind).values()) <= set(HOST_BACKENDS)


def test_what_a_host_lacks_is_named_with_what_it_has() -> None:
    both = ("float32", "bfloat16")
    on_host = {"dense": both, "packed": both, "packed_conv2d": ("float32",), "compiled": both}
    packed: dict[str, ParamValue] = {"backend": "packed", "dtype": "bfloat16"}
    assert find_missing_backend(MLP, packed, on_host) is None
    assert find_missing_backend(CONV2D, packed, on_host) == ("packed", ["dense"])
    assert find_missing_backend(CONV2D, {**packed, "dtype": "float32"}, on_host) is None
    compiled: dict[str, ParamValue] = {"backend": "compiled", "dtype": "float32"}
    assert find_missing_backend(MATMUL, compiled, on_host) is None
    assert find_missing_backend(MLP, compiled, on_host) == ("compiled", ["dense", "packed"])
    # The default backend is left out of a layer's parameters: every host has it.
    assert find_missing_backend(CONV2D, dict(CONV2D.describe().params), {}) is None


@pytest.mark.parametrize(
    ("choices", "others"),
    [(("dense", "magic"), (DTYPE,)), (("dense", "csr"), (BATCH,))],
    ids=["of-its-own", "without-a-dtype"],
)
def test_another_packages_backend_is_its_own_affair(
    choices: tuple[str, ...], others: tuple[Parameter, ...]
) -> None:
    backend = Parameter(name="backend", default="dense", choices=choices, description="")
    kind = WorkloadKind(
        name="theirs",
        axes=("size",),
        parameters=(backend, *others),
        builder="theirs:build",
        operand_bytes=lambda dims, params: 0,
        flops=lambda dims, params: 0,
    )
    assert find_host_backends(kind) == {}
    params: dict[str, ParamValue] = {"backend": choices[1], "dtype": "float32"}
    assert find_missing_backend(kind, params, {}) is None
