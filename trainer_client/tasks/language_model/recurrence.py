"""The H-LSTM's recurrence for training: forward by the layer's equations, backward by hand.

Autograd would add to the gradient of each weight matrix at every time step. Here, the time steps
only pass gradients back through the products. The weights' gradients are computed at the end, as
three large products over all time steps. Checked against autograd through
`profiler_service.networks.hlstm`.

Knows nothing of masks, of words or of descent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from profiler_service.networks import HLSTMWeights

# Shapes: T time steps, B batch, N = T · B, K the four gates, I input_size, G gate_width,
# S state_width, Q = K · G. Everything is feature-major, as in the layer.


def run_recurrence(
    x_in: Tensor,
    weights: HLSTMWeights,
    h_sb: Tensor,
    c_sb: Tensor,
    *,
    mask_qb: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The states of all time steps h_tsb, and the last h_sb and c_sb, detached.

    Column n of `x_in` is sequence n mod B at step n // B. Gradients go to `x_in` and the
    weights; none goes to the states before the first step: backpropagation ends there.
    Products run in the weights' dtype; `c_sb` is float32 or float64, and stays so. `mask_qb`
    multiplies the gates' hidden units at all time steps.
    """
    a_qn = torch.addmm(
        weights.hidden_bias_kg.flatten()[:, None], weights.input_kgi.flatten(0, 1), x_in
    )
    outputs: tuple[Tensor, Tensor, Tensor] = _Recurrence.apply(  # type: ignore[no-untyped-call]
        a_qn,
        weights.recurrent_kgs.flatten(0, 1),
        weights.gate_ksg,
        weights.gate_bias_ks,
        h_sb.to(a_qn.dtype),
        c_sb,
        mask_qb,
    )
    return outputs


class _Recurrence(torch.autograd.Function):
    """The states, from the input's contribution a_qn to all hidden units."""

    @staticmethod
    def forward(
        ctx: Any,
        a_qn: Tensor,
        recurrent_qs: Tensor,
        gate_ksg: Tensor,
        gate_bias_ks: Tensor,
        h_sb: Tensor,
        c_sb: Tensor,
        mask_qb: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_units, batch = a_qn.shape[0], h_sb.shape[1]
        num_steps = a_qn.shape[1] // batch
        num_gates, state_width, _ = gate_ksg.shape
        hidden_tqb = a_qn.new_empty(num_steps, num_units, batch)
        gates_tksb = c_sb.new_empty(num_steps, num_gates, state_width, batch)
        # one more than there are steps: the state before the first step
        cells_tsb = c_sb.new_empty(num_steps + 1, state_width, batch)
        states_tsb = a_qn.new_empty(num_steps + 1, state_width, batch)
        cells_tsb[0], states_tsb[0] = c_sb, h_sb
        bias_ks1 = gate_bias_ks[:, :, None]
        for t, a_qb in enumerate(a_qn.view(num_units, num_steps, batch).unbind(1)):
            hidden_qb, gates_ksb = hidden_tqb[t], gates_tksb[t]
            c_sb, h_sb = cells_tsb[t + 1], states_tsb[t + 1]
            torch.addmm(a_qb, recurrent_qs, states_tsb[t], out=hidden_qb).relu_()
            if mask_qb is not None:
                hidden_qb.mul_(mask_qb)
            hidden_kgb = hidden_qb.view(num_gates, -1, batch)
            if gates_ksb.dtype == hidden_qb.dtype:
                torch.baddbmm(bias_ks1, gate_ksg, hidden_kgb, out=gates_ksb)
            else:
                gates_ksb.copy_(torch.baddbmm(bias_ks1, gate_ksg, hidden_kgb))
            gates_ksb[:3].sigmoid_()
            gates_ksb[3].tanh_()
            f_sb, i_sb, o_sb, g_sb = gates_ksb
            torch.mul(f_sb, cells_tsb[t], out=c_sb).addcmul_(i_sb, g_sb)
            torch.mul(c_sb.tanh(), o_sb, out=h_sb)
        ctx.save_for_backward(
            recurrent_qs, gate_ksg, mask_qb, hidden_tqb, gates_tksb, cells_tsb, states_tsb
        )
        h_sb, c_sb = states_tsb[-1].clone(), cells_tsb[-1].clone()
        ctx.mark_non_differentiable(h_sb, c_sb)
        return states_tsb[1:].clone(), h_sb, c_sb

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        recurrent_qs, gate_ksg, mask_qb, hidden_tqb, gates_tksb, cells_tsb, states_tsb = (
            ctx.saved_tensors
        )
        states_grad_tsb: Tensor = gradients[0]
        num_steps, num_units, batch = hidden_tqb.shape
        num_gates, state_width, _ = gate_ksg.shape
        gate_kgs, recurrent_sq = gate_ksg.transpose(1, 2), recurrent_qs.t()
        a_grad_tqb = torch.empty_like(hidden_tqb)
        pre_grad_tksb = hidden_tqb.new_empty(num_steps, num_gates, state_width, batch)
        f_tsb, i_tsb, o_tsb, g_tsb = gates_tksb.unbind(1)
        # The gradient of each pre-activation, divided by that of the cell (for gate o, of h).
        tanh_tsb = cells_tsb[1:].tanh()
        slope_tksb = torch.stack(
            [
                cells_tsb[:-1] * f_tsb * (1 - f_tsb),
                g_tsb * i_tsb * (1 - i_tsb),
                tanh_tsb * o_tsb * (1 - o_tsb),
                i_tsb * (1 - g_tsb * g_tsb),
            ],
            dim=1,
        )
        cell_slope_tsb = o_tsb * (1 - tanh_tsb * tanh_tsb)
        h_grad_sb = torch.zeros_like(cells_tsb[0])
        c_grad_sb = torch.zeros_like(cells_tsb[0])
        for t in reversed(range(num_steps)):
            h_grad_sb = h_grad_sb + states_grad_tsb[t]
            c_grad_sb.addcmul_(h_grad_sb, cell_slope_tsb[t])
            slope_ksb, pre_grad_ksb, a_grad_qb = slope_tksb[t], pre_grad_tksb[t], a_grad_tqb[t]
            torch.mul(slope_ksb, c_grad_sb, out=pre_grad_ksb)
            torch.mul(slope_ksb[2], h_grad_sb, out=pre_grad_ksb[2])
            c_grad_sb.mul_(f_tsb[t])
            torch.bmm(gate_kgs, pre_grad_ksb, out=a_grad_qb.view(num_gates, -1, batch))
            if mask_qb is not None:
                a_grad_qb.mul_(mask_qb)
            # the gradient of the ReLU: zero if its output was zero
            torch.ops.aten.threshold_backward(a_grad_qb, hidden_tqb[t], 0, grad_input=a_grad_qb)
            h_grad_sb = torch.mm(recurrent_sq, a_grad_qb).to(c_grad_sb.dtype)
        a_grad_qn = a_grad_tqb.permute(1, 0, 2).reshape(num_units, -1)
        before_ns = states_tsb[:-1].permute(0, 2, 1).reshape(-1, state_width)
        pre_grad_ksn = pre_grad_tksb.permute(1, 2, 0, 3).reshape(num_gates, state_width, -1)
        hidden_kgn = hidden_tqb.permute(1, 0, 2).reshape(num_gates, num_units // num_gates, -1)
        return (
            a_grad_qn,
            torch.mm(a_grad_qn, before_ns),
            torch.bmm(pre_grad_ksn, hidden_kgn.transpose(1, 2)),
            pre_grad_ksn.sum(2),
            None,
            None,
            None,
        )
