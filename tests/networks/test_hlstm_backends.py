"""The H-LSTM layer by other kernels, against the layer by torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from profiler_service.errors import UnsupportedOnHostError
from profiler_service.networks import (
    HLSTM,
    BoundHLSTM,
    HLSTMLanguageModel,
    bind_hlstm,
    block_diagonal,
)
from profiler_service.networks.hlstm_backends import HLSTM_BACKENDS
from profiler_service.networks.products import csr_weight, has_backend

# Shapes: T time steps, B batch, K gates, I input_size, S state_width, G gate_width.


def sparse_layer(input_size: int, state_width: int, gate_width: int) -> HLSTM:
    """A layer in which about every second weight is zero."""
    torch.manual_seed(0)
    layer = HLSTM(input_size, state_width, gate_width).eval().requires_grad_(False)
    for weight in (layer.input_kgi, layer.recurrent_kgs, layer.gate_ksg):
        weight.mul_(4 * (torch.rand(weight.shape) < 0.5))  # as large as before, on average
    return layer


def bound(layer: HLSTM, backend: str, *, batch: int) -> BoundHLSTM:
    return BoundHLSTM(
        bind_hlstm(layer.weights(), backend=backend, batch=batch),
        input_size=layer.input_size,
        state_width=layer.state_width,
    )


@pytest.mark.parametrize("backend", HLSTM_BACKENDS)
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_every_backend_computes_the_layer(backend: str, batch: int) -> None:
    layer = sparse_layer(37, 19, 53)
    x_tbi, state = torch.randn(6, batch, 37), (torch.randn(batch, 19), torch.randn(batch, 19))
    for given in (None, state):
        h_tbs, (h_bs, c_bs) = bound(layer, backend, batch=batch)(x_tbi, given)
        expected_h_tbs, (expected_h_bs, expected_c_bs) = layer(x_tbi, given)
        assert expected_h_tbs.abs().mean() > 0.1  # not a comparison of zeros
        torch.testing.assert_close(h_tbs, expected_h_tbs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(h_bs, expected_h_bs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(c_bs, expected_c_bs, rtol=1e-4, atol=1e-5)
        assert h_tbs.is_contiguous()


@pytest.mark.parametrize("backend", HLSTM_BACKENDS)
def test_other_batches_and_lengths_than_those_bound_for_work(backend: str) -> None:
    layer = sparse_layer(37, 19, 53)
    module, x_tbi = bound(layer, backend, batch=16), torch.randn(2, 5, 37)
    torch.testing.assert_close(module(x_tbi)[0], layer(x_tbi)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_packed_short_floats_are_roughly_those_of_the_dense_layer(dtype: torch.dtype) -> None:
    if not has_backend("packed", "cpu", dtype):
        pytest.skip(f"this processor has no packed product of {dtype}")
    layer = sparse_layer(37, 19, 53).to(dtype)
    x_tbi = torch.randn(6, 4, 37).to(dtype)
    h_tbs, _ = bound(layer, "packed", batch=4)(x_tbi)
    assert h_tbs.dtype == dtype
    torch.testing.assert_close(h_tbs, layer(x_tbi)[0], rtol=0.02, atol=0.02)


def test_a_bound_layer_takes_the_place_of_one_in_a_model() -> None:
    torch.manual_seed(0)
    model = HLSTMLanguageModel(11, 5, 3, 7).eval()
    words_tb = torch.randint(11, (4, 2))
    expected, _ = model(words_tb)
    model.set_submodule("layer", bound(model.layer, "csr", batch=2))
    scores_tbv, _ = model(words_tb)
    torch.testing.assert_close(scores_tbv, expected, rtol=1e-4, atol=1e-5)
    assert {name for name, _ in model.named_parameters()} == {"table_vm", "decoder_bias_v"}


@pytest.mark.parametrize("backend", HLSTM_BACKENDS)
def test_a_bound_layer_has_no_gradients(backend: str) -> None:
    layer = HLSTM(5, 3, 7)  # whose parameters want gradients
    h_tbs, _ = bound(layer, backend, batch=2)(torch.randn(4, 2, 5))
    assert not h_tbs.requires_grad


def test_a_layer_of_zeros_is_sparse_too() -> None:
    layer, x_tbi = sparse_layer(5, 3, 7), torch.randn(4, 2, 5)
    for weight in (layer.input_kgi, layer.recurrent_kgs, layer.gate_ksg):
        weight.zero_()
    torch.testing.assert_close(bound(layer, "csr", batch=2)(x_tbi)[0], layer(x_tbi)[0])


def test_block_diagonal_by_hand() -> None:
    # One state, gates of two hidden units: rows [1, 0], [0, 2], [3, 4], [0, 0].
    gate_ug = csr_weight(
        torch.tensor([0, 1, 2, 4, 4], dtype=torch.int32),
        torch.tensor([0, 1, 0, 1], dtype=torch.int32),
        torch.tensor([1.0, 2.0, 3.0, 4.0]),
        (4, 2),
    )
    assert dense(block_diagonal(gate_ug)).tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 2, 0, 0, 0, 0],
        [0, 0, 0, 0, 3, 4, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


def dense(weight_oi: Tensor) -> Tensor:
    return weight_oi @ torch.eye(weight_oi.shape[1])


def test_inputs_and_states_of_other_shapes_are_refused() -> None:
    module = bound(sparse_layer(5, 3, 7), "csr", batch=2)
    with pytest.raises(ValueError, match=r"\[steps, batch, 5\]"):
        module(torch.zeros(6, 2, 4))
    with pytest.raises(ValueError, match=r"take \[2, 3\]"):
        module(torch.zeros(6, 2, 5), (torch.zeros(2, 3), torch.zeros(3, 2)))


def test_a_backend_that_torch_lacks_is_refused_by_name() -> None:
    # MKL has no sparse product of bfloat16, so torch has none on a CPU.
    with pytest.raises(UnsupportedOnHostError, match="no csr product of bfloat16 on cpu"):
        bind_hlstm(sparse_layer(5, 3, 7).bfloat16().weights(), backend="csr")


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="there are dense, packed, csr"):
        bind_hlstm(sparse_layer(5, 3, 7).weights(), backend="compiled")
