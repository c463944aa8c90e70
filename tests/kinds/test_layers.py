"""The kinds of today's layers: keys, sizes counted by hand, and which dims they allow."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.errors import InvalidRequestError, InvalidWorkloadError
from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import (
    ATTENTION,
    CONV2D,
    DEPTHWISE_CONV2D,
    EMBEDDING,
    LINEAR,
    LM_HEAD,
    MLP,
    TRANSFORMER_BLOCK,
    workload_kinds,
)
from profiler_service.plan.window import build_window, find_refused
from profiler_service.workload import ParamValue, WorkloadKind

ALL = (CONV2D, DEPTHWISE_CONV2D, ATTENTION, MLP, TRANSFORMER_BLOCK, EMBEDDING, LM_HEAD)


def params_of(kind: WorkloadKind, **given: ParamValue) -> dict[str, ParamValue]:
    return dict(kind.describe(given).params)


def test_keys_are_stable() -> None:
    # Keys are in every database: a changed key orphans its curves.
    assert [kind.describe().key for kind in ALL] == [
        "conv2d[batch=16,dtype=float32,groups=1,height=32,kernel=3,layout=channels_first,padding=1,"
        "stride=1,width=32]",
        "depthwise_conv2d[batch=16,dtype=float32,height=32,kernel=3,layout=channels_first,padding=1,"
        "stride=1,width=32]",
        "attention[batch=16,dtype=float32,mask=causal,sequence=512]",
        "mlp[activation=gelu,backend=dense,batch=16,dtype=float32,gated=no,width=768]",
        "transformer_block[activation=gelu,batch=1,dtype=float32,gated=no,heads=12,mask=causal,"
        "sequence=512]",
        "embedding[batch=16,dtype=float32,width=768]",
        "lm_head[backend=dense,batch=16,dtype=float32,width=768]",
    ]
    assert {kind.name for kind in ALL} <= set(workload_kinds())


@pytest.mark.parametrize("kind", [CONV2D, DEPTHWISE_CONV2D, ATTENTION, TRANSFORMER_BLOCK])
def test_the_default_backend_is_left_out_of_the_key(kind: WorkloadKind) -> None:
    # They had no backends at first: curves of that time are those of torch's own choice.
    assert kind.describe({"backend": "dense"}) == kind.describe()
    assert "backend=compiled" in kind.describe({"backend": "compiled"}).key
    assert kind.flops((12, 12)[: len(kind.axes)], params_of(kind)) == kind.flops(
        (12, 12)[: len(kind.axes)], params_of(kind, backend="compiled")
    )


# An image of 5 × 4, a kernel of 3 with stride 2 and padding 1: (5 + 2 - 3) // 2 + 1 = 3 rows and
# (4 + 2 - 3) // 2 + 1 = 2 columns, 6 pixels of the result for 20 of the image.
IMAGE: dict[str, ParamValue] = {"batch": 2, "height": 5, "width": 4, "stride": 2}


def test_a_convolution_is_counted_by_its_kernels_and_pixels() -> None:
    params = params_of(CONV2D, **IMAGE)
    weights = 7 * 3 * 9
    assert CONV2D.flops((7, 3), params) == 2 * 2 * 6 * weights
    # Each twice, as kernels may rearrange them; and 7 biases.
    assert CONV2D.operand_bytes((7, 3), params) == 4 * (2 * (weights + 2 * (3 * 20 + 7 * 6)) + 7)


def test_groups_divide_the_weights() -> None:
    params = params_of(CONV2D, **IMAGE, groups=2)
    assert CONV2D.flops((8, 6), params) == 2 * 2 * 6 * (8 * 3 * 9)


def test_a_depthwise_convolution_has_one_kernel_a_channel() -> None:
    params = params_of(DEPTHWISE_CONV2D, **IMAGE)
    assert DEPTHWISE_CONV2D.flops((7,), params) == 2 * 2 * 6 * (7 * 9)
    assert DEPTHWISE_CONV2D.operand_bytes((7,), params) == 4 * (2 * (63 + 2 * 7 * 26) + 7)


def test_attention_counts_the_pairs_that_it_sees() -> None:
    # Scores and sums: two products of head_dim for each of 2 · 3 heads and pair of 4 tokens.
    every = params_of(ATTENTION, batch=2, sequence=4, mask="none")
    assert ATTENTION.flops((3, 5), every) == 2 * 2 * (2 * 3) * 16 * 5
    causal = params_of(ATTENTION, batch=2, sequence=4)
    assert ATTENTION.flops((3, 5), causal) == 2 * 2 * (2 * 3) * 10 * 5  # 4 + 3 + 2 + 1 pairs
    vectors, scores = 4 * (2 * 3 * 4 * 5), 2 * (2 * 3 * 16)
    assert ATTENTION.operand_bytes((3, 5), causal) == 4 * (vectors + scores)
    dense = params_of(ATTENTION, batch=2, sequence=4, mask="dense", dtype="bfloat16")
    assert ATTENTION.operand_bytes((3, 5), dense) == 2 * (vectors + scores + 16)


@pytest.mark.parametrize(("gated", "products"), [("no", 2), ("yes", 3)])
def test_an_mlp_has_two_products_or_three(gated: str, products: int) -> None:
    params = params_of(MLP, batch=2, width=3, gated=gated)
    assert MLP.flops((5,), params) == 2 * 2 * (products * 15)
    # Weights, input and result, and of each product but the last its result; and the activation.
    assert MLP.operand_bytes((5,), params) == 4 * (products * 15 + 2 * (2 * 3 + products * 5))


@pytest.mark.parametrize("backend", ["packed", "compiled"])
def test_rearranged_weights_are_held_twice(backend: str) -> None:
    packed = params_of(MLP, batch=2, width=3, backend=backend)
    assert MLP.operand_bytes((5,), packed) == 4 * (2 * 30 + 2 * (6 + 10))
    given: dict[str, ParamValue] = {"batch": 2, "sequence": 3, "heads": 2}
    plain, packed = (
        params_of(TRANSFORMER_BLOCK, **given, backend=each) for each in ("dense", backend)
    )
    # Four projections of 8 × 8, and two products of 8 × 5.
    more_bytes = 4 * (4 * 64 + 2 * 40)
    assert TRANSFORMER_BLOCK.operand_bytes((8, 5), packed) == more_bytes + (
        TRANSFORMER_BLOCK.operand_bytes((8, 5), plain)
    )


@pytest.mark.parametrize("backend", ["packed", "compiled"])
def test_a_convolution_is_counted_as_rearranged_by_every_backend(backend: str) -> None:
    # torch's own choice may rearrange weights and images in each call.
    for kind, dims in ((CONV2D, (7, 3)), (DEPTHWISE_CONV2D, (7,))):
        params = params_of(kind, **IMAGE, backend=backend)
        assert kind.operand_bytes(dims, params) == kind.operand_bytes(
            dims, params_of(kind, **IMAGE)
        )


def test_a_block_has_four_projections_and_an_mlp() -> None:
    params = params_of(TRANSFORMER_BLOCK, batch=2, sequence=3, heads=2, mask="none")
    tokens, pairs = 6, 9
    attention = 2 * 2 * (2 * 2) * pairs * 4  # 2 heads of 4
    assert TRANSFORMER_BLOCK.flops((8, 5), params) == (2 * tokens * (4 * 64 + 2 * 40) + attention)


def test_a_vocabulary_is_a_table() -> None:
    assert EMBEDDING.flops((11,), params_of(EMBEDDING)) == 0
    # Table and rows of 3, and 8 bytes for each of 2 tokens.
    assert EMBEDDING.operand_bytes((11,), params_of(EMBEDDING, batch=2, width=3)) == 4 * 39 + 16
    params = params_of(LM_HEAD, batch=2, width=3)
    assert LM_HEAD.flops((11,), params) == 2 * 2 * 33
    linear = params_of(LINEAR, batch=2)
    assert LM_HEAD.operand_bytes((11,), params) == LINEAR.operand_bytes((11, 3), linear)


@pytest.mark.parametrize(
    ("kind", "given", "complaint"),
    [
        (CONV2D, {"height": 2, "padding": 0}, "a kernel of 3 doesn't fit into 2 x 32"),
        (DEPTHWISE_CONV2D, {"width": 1, "padding": 0, "kernel": 2}, "doesn't fit into 32 x 1"),
        (CONV2D, {"stride": 0}, "outside 1 to 64"),
        (CONV2D, {"layout": "nhwc"}, "channels_first, channels_last"),
        (CONV2D, {"backend": "csr"}, "dense, packed, compiled"),
        (ATTENTION, {"backend": "packed"}, "dense, math, fused, compiled"),
        (EMBEDDING, {"backend": "packed"}, "no parameter 'backend'"),
        (ATTENTION, {"mask": "lower"}, "causal, none, dense"),
        (MLP, {"activation": "swish"}, "gelu, gelu_tanh, relu, silu"),
        (MLP, {"backend": "csr"}, "dense, packed, compiled"),
        (TRANSFORMER_BLOCK, {"heads": 0}, "outside"),
        (LM_HEAD, {"sparsity": "0.5"}, "no difference to backend=dense"),
    ],
)
def test_what_is_not_allowed_is_named(
    kind: WorkloadKind, given: dict[str, ParamValue], complaint: str
) -> None:
    with pytest.raises(InvalidWorkloadError, match=complaint):
        kind.describe(given)


def test_a_kernel_as_large_as_the_padded_image_is_allowed() -> None:
    CONV2D.describe({"height": 1, "width": 1, "kernel": 3, "padding": 1})


# Dims that must be multiples


def test_the_width_of_a_block_is_divided_among_its_heads() -> None:
    workload = TRANSFORMER_BLOCK.describe({"heads": 12})
    assert TRANSFORMER_BLOCK.find_multiples(workload) == (12, 1)
    TRANSFORMER_BLOCK.check_point(workload, (768, 3001))
    with pytest.raises(InvalidWorkloadError, match=r"at width=770, hidden=3001: width must") as it:
        TRANSFORMER_BLOCK.check_point(workload, (770, 3001))
    assert "width=780" in it.value.hint  # 65 · 12


def test_a_window_has_only_the_multiples() -> None:
    workload = TRANSFORMER_BLOCK.describe({"heads": 12})
    window = build_window(workload, (96, 50), max_growth=0.25)
    # Either grows by 32 at least: from 96 to 120 in steps of 12, from 50 to 82 in steps of 1.
    assert tuple(window.axes[0].dims) == (96, 108, 120)
    assert window.num_candidates == 3 * 33
    # Those of the question and those of the kind: multiples of 8 and of 12 are those of 24.
    both = build_window(workload, (96, 50), max_growth=0.25, multiple_of=(8, 1))
    assert tuple(both.axes[0].dims) == (96, 120)


def test_dims_that_are_no_multiples_are_refused_when_asked() -> None:
    workload = TRANSFORMER_BLOCK.describe({"heads": 12})
    with pytest.raises(InvalidWorkloadError, match="width must be a multiple of 12"):
        build_window(workload, (97, 50), max_growth=0.25)
    with pytest.raises(InvalidRequestError, match="multiple_of=7,51 leaves no dims") as caught:
        build_window(workload, (96, 50), max_growth=0.1, multiple_of=(7, 51))
    assert "transformer_block itself needs multiples of 12,1" in str(caught.value)
    assert "width=168" in caught.value.hint  # 2 · 84


def test_other_points_of_a_grid_are_not_measured() -> None:
    workload = CONV2D.describe({"groups": 2})
    grid = Grid(axes=(GridAxis(first=3, count=2), GridAxis(first=4, count=3)))
    # out_channels 3, 4 and in_channels 4, 5, 6: only 4 × 4 and 4 × 6 can be divided by 2.
    assert find_refused(workload, grid).tolist() == [0, 1, 2, 4]
    assert find_refused(CONV2D.describe(), grid).tolist() == []


def test_multiples_follow_a_parameter_that_varies() -> None:
    workload = CONV2D.describe({"vary": "groups,out_channels", "in_channels": 6})
    grid = Grid(axes=(GridAxis(first=1, count=4), GridAxis(first=5, count=2)))
    refused = np.zeros((4, 2), dtype=bool)
    # Of 6 in_channels, 1, 2 and 3 groups can be made; of 5 out_channels only 1, of 6 all three.
    refused[1:, 0] = True
    refused[3, :] = True
    assert find_refused(workload, grid).tolist() == np.flatnonzero(refused).tolist()
    assert CONV2D.find_multiples(workload) == (1, 1)
    with pytest.raises(InvalidWorkloadError, match=r"at groups=4, out_channels=8: in_channels"):
        CONV2D.check_point(workload, (4, 8))
