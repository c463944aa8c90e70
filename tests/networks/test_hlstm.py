"""The H-LSTM layer against its equations, written out gate by gate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from profiler_service.networks import HLSTM, HLSTMWeights
from profiler_service.networks.hlstm import bind_dense, run_hlstm

# Shapes: T time steps, B batch, K gates, I input_size, S state_width, G gate_width.


def layer_of(input_size: int, state_width: int, gate_width: int) -> HLSTM:
    """A layer in float64, in inference: sums in another order then agree to 1e-12."""
    torch.manual_seed(0)
    return HLSTM(input_size, state_width, gate_width).double().eval()


def inputs_of(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def by_the_equations(
    weights: HLSTMWeights,
    x_tbi: Tensor,
    h_bs: Tensor,
    c_bs: Tensor,
    mask_kgb: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All states h_tbs and the last c_bs: one gate and one step at a time."""
    states = []
    for x_bi in x_tbi:
        pre = []
        for k in range(4):
            matrix = torch.cat([weights.input_kgi[k], weights.recurrent_kgs[k]], dim=1)
            columns = torch.cat([x_bi, h_bs], dim=1)
            hidden = torch.relu(F.linear(columns, matrix, weights.hidden_bias_kg[k]))
            if mask_kgb is not None:
                hidden = hidden * mask_kgb[k].t()
            pre.append(F.linear(hidden, weights.gate_ksg[k], weights.gate_bias_ks[k]))
        f, i, o, g = pre
        c_bs = torch.sigmoid(f) * c_bs + torch.sigmoid(i) * torch.tanh(g)
        h_bs = torch.sigmoid(o) * torch.tanh(c_bs)
        states.append(h_bs)
    return torch.stack(states), c_bs


def test_states_follow_the_equations() -> None:
    layer, x_tbi = layer_of(5, 3, 7), inputs_of(6, 2, 5)
    h_bs, c_bs = inputs_of(2, 3), 2 * inputs_of(2, 3)
    h_tbs, (last_h_bs, last_c_bs) = layer(x_tbi, (h_bs, c_bs))
    expected_h_tbs, expected_c_bs = by_the_equations(layer.weights(), x_tbi, h_bs, c_bs)
    torch.testing.assert_close(h_tbs, expected_h_tbs)
    torch.testing.assert_close(last_h_bs, expected_h_tbs[-1])
    torch.testing.assert_close(last_c_bs, expected_c_bs)
    assert h_tbs.is_contiguous()


def test_one_unit_by_hand() -> None:
    layer = layer_of(1, 1, 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.input_kgi[3] = 2.0
        layer.gate_ksg[3] = 0.5
        layer.gate_bias_ks[1] = 100.0
    # Only gate g sees the input: pre_g = 0.5 · relu(2 · 3) = 3, and for −3 it is 0. Gate i is
    # open (σ(100) = 1), f and o are half open: c = 0/2 + tanh 3, h = tanh(c)/2.
    h_tbs, _ = layer(torch.tensor([[[3.0], [-3.0]]], dtype=torch.float64))
    tanh_3 = 0.9950547536867305
    expected = 0.5 * torch.tanh(torch.tensor(tanh_3, dtype=torch.float64))
    torch.testing.assert_close(h_tbs[0, 0, 0], expected)
    assert h_tbs[0, 1, 0] == 0


def test_no_state_is_a_state_of_zeros() -> None:
    layer, x_tbi = layer_of(5, 3, 7), inputs_of(4, 2, 5)
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x_tbi)[0], layer(x_tbi, (zeros, zeros))[0])


def test_a_sequence_may_be_cut_and_continued() -> None:
    layer, x_tbi = layer_of(5, 3, 7), inputs_of(6, 2, 5)
    whole, _ = layer(x_tbi)
    first, state = layer(x_tbi[:2])
    second, _ = layer(x_tbi[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_gradients_are_those_of_the_equations() -> None:
    layer, x_tbi = layer_of(5, 3, 7), inputs_of(6, 2, 5).requires_grad_()
    h_bs, c_bs = inputs_of(2, 3), inputs_of(2, 3)
    wanted = [x_tbi, *layer.parameters()]
    ours = torch.autograd.grad(layer(x_tbi, (h_bs, c_bs))[0].square().sum(), wanted)
    expected_h_tbs, _ = by_the_equations(layer.weights(), x_tbi, h_bs, c_bs)
    expected = torch.autograd.grad(expected_h_tbs.square().sum(), wanted)
    for gradient, other in zip(ours, expected, strict=True):
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, other)


def test_dropout_draws_one_mask_per_call_in_training() -> None:
    layer, x_tbi = layer_of(5, 3, 50).train(), inputs_of(6, 2, 5)
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    torch.manual_seed(7)
    first, second = layer(x_tbi)[0], layer(x_tbi)[0]
    assert not torch.equal(first, second)
    # The mask of the first call: kept units are scaled by 1/0.8, the same at all steps.
    torch.manual_seed(7)
    mask = F.dropout(torch.ones(4 * 50, 2, dtype=torch.float64), 0.2)
    assert set(mask.flatten().tolist()) == {0.0, 1.25}
    expected, _ = by_the_equations(layer.weights(), x_tbi, zeros, zeros, mask.view(4, 50, 2))
    torch.testing.assert_close(first, expected)
    layer.eval()
    assert torch.equal(layer(x_tbi)[0], layer(x_tbi)[0])


def test_no_dropout_is_training_without_a_mask() -> None:
    layer, x_tbi = layer_of(5, 3, 7), inputs_of(6, 2, 5)
    expected = layer(x_tbi)[0]
    layer.train().dropout = 0.0
    torch.testing.assert_close(layer(x_tbi)[0], expected)


def test_weights_may_be_views_without_gradients() -> None:
    layer, x_tbi = layer_of(5, 3, 7), inputs_of(6, 2, 5)
    memory = torch.zeros(1000, dtype=torch.float64)
    views, start = [], 3
    for weight in layer.weights():
        view = memory[start : start + weight.numel()].view(weight.shape)
        view.copy_(weight.detach())
        views.append(view)
        start += weight.numel()
    zeros_sb = torch.zeros(3, 2, dtype=torch.float64)
    h_tbs, _, _ = run_hlstm(x_tbi, bind_dense(HLSTMWeights(*views)), zeros_sb, zeros_sb)
    torch.testing.assert_close(h_tbs, layer(x_tbi)[0].detach())


def test_a_hidden_unit_without_outputs_can_be_cut_out() -> None:
    layer, x_tbi = layer_of(5, 3, 7), inputs_of(6, 2, 5)
    with torch.no_grad():
        layer.gate_ksg[:, :, 4] = 0
    kept = torch.tensor([0, 1, 2, 3, 5, 6])
    weights = layer.weights()
    smaller = weights._replace(
        input_kgi=weights.input_kgi[:, kept],
        recurrent_kgs=weights.recurrent_kgs[:, kept],
        hidden_bias_kg=weights.hidden_bias_kg[:, kept],
        gate_ksg=weights.gate_ksg[:, :, kept],
    )
    zeros_sb = torch.zeros(3, 2, dtype=torch.float64)
    h_tbs, _, _ = run_hlstm(x_tbi, bind_dense(smaller), zeros_sb, zeros_sb)
    torch.testing.assert_close(h_tbs, layer(x_tbi)[0])


def test_a_state_unit_that_nothing_reads_can_be_cut_out() -> None:
    layer, x_tbi = layer_of(5, 3, 7), inputs_of(6, 2, 5)
    with torch.no_grad():
        layer.recurrent_kgs[:, :, 1] = 0
    kept = torch.tensor([0, 2])
    weights = layer.weights()
    smaller = weights._replace(
        recurrent_kgs=weights.recurrent_kgs[:, :, kept],
        gate_ksg=weights.gate_ksg[:, kept],
        gate_bias_ks=weights.gate_bias_ks[:, kept],
    )
    zeros_sb = torch.zeros(2, 2, dtype=torch.float64)
    h_tbs, _, _ = run_hlstm(x_tbi, bind_dense(smaller), zeros_sb, zeros_sb)
    torch.testing.assert_close(h_tbs, layer(x_tbi)[0][:, :, kept])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats_follow_the_equations_roughly(dtype: torch.dtype) -> None:
    layer, x_tbi = layer_of(5, 3, 7), inputs_of(6, 2, 5)
    expected = layer(x_tbi)[0]
    h_tbs, _ = layer.to(dtype)(x_tbi.to(dtype))
    assert h_tbs.dtype == dtype
    torch.testing.assert_close(h_tbs.double(), expected, atol=0.02, rtol=0.02)


def test_published_numbers_of_weights() -> None:
    with torch.device("meta"):
        layer = HLSTM(400, 400, 1500)
        lstm = [nn.LSTM(400, 1500), nn.LSTM(1500, 400)]
    # 4 · (1500 · (400 + 400) + 400 · 1500) weights, and 4 · (1500 + 400) biases.
    sizes = [weight.numel() for weight in layer.weights()]
    assert sizes == [2_400_000, 2_400_000, 6_000, 2_400_000, 1_600]
    # The paper's baseline: 4 · 1500 · 1900 + 4 · 400 · 1900 weights, 2 · 4 · 1900 biases.
    assert sum(p.numel() for each in lstm for p in each.parameters()) == 14_455_200


@pytest.mark.parametrize("shape", [(6, 5), (6, 2, 4), (0, 2, 5), (6, 0, 5), (1, 6, 2, 5)])
def test_inputs_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[steps, batch, 5\]"):
        layer_of(5, 3, 7)(torch.zeros(shape, dtype=torch.float64))


def test_states_of_other_shapes_are_refused() -> None:
    good, bad = inputs_of(2, 3), inputs_of(3, 2)
    for state in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match=r"takes? \[2, 3\]"):
            layer_of(5, 3, 7)(inputs_of(6, 2, 5), state)


def test_weights_are_drawn_within_bounds_and_differ() -> None:
    torch.manual_seed(0)
    layer = HLSTM(12, 4, 100)
    # H: √(6 / (12 + 4)), for ReLU. W: √(6 / (100 + 4)).
    for weight in (layer.input_kgi, layer.recurrent_kgs):
        assert 0.95 * 0.375**0.5 < weight.abs().max() <= 0.375**0.5
    assert 0.95 * (6 / 104) ** 0.5 < layer.gate_ksg.abs().max() <= (6 / 104) ** 0.5
    assert not torch.equal(layer.input_kgi[0], layer.input_kgi[1])
    assert not layer.hidden_bias_kg.any()
    # Only the forget gate is open at first.
    assert layer.gate_bias_ks.tolist() == [[1.0] * 4, *[[0.0] * 4] * 3]


@torch.no_grad()
def test_a_deep_stack_of_products_keeps_the_size_of_its_values() -> None:
    torch.manual_seed(0)
    layer = HLSTM(300, 200, 600)
    x_bi = torch.randn(500, 300)
    # The state before is zero, so 300 of 500 inputs vary: the products with H have a variance of
    # 300 · 2/500. Half of that passes the ReLU. W multiplies it by 600 · 2/(600 + 200).
    hidden_bg = (x_bi @ layer.input_kgi[1].t()).relu()
    pre_bs = hidden_bg @ layer.gate_ksg[1].t()
    assert float(hidden_bg.square().mean()) == pytest.approx(0.6, rel=0.1)
    assert float(pre_bs.square().mean()) == pytest.approx(0.9, rel=0.15)


def test_the_layer_prints_its_sizes() -> None:
    assert repr(HLSTM(4, 2, 3)) == "HLSTM(4, state_width=2, gate_width=3)"
