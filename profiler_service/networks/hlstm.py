"""The H-LSTM layer: an LSTM whose four gates each have a hidden layer.

For each gate k of f, i, o, g (Source: section 4 of Yin et al.):

    pre_k = W_k · relu(H_k [x_t, h_{t-1}] + d_k) + b_k
    c_t = σ(pre_f) ⊗ c_{t-1} + σ(pre_i) ⊗ tanh(pre_g)
    h_t = σ(pre_o) ⊗ tanh(c_t)

Three products do the work:

1. the input's columns of H, for all gates and all time steps at once, before the loop;
2. the state's columns of H, for all gates at once;
3. the four W, batched.

Tensors inside are feature-major (a column is one sequence), so that weights are the left operand,
as they are stored. On a CPU this is as fast as the best other order in float32, and faster in
bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  the name that torch's own documentation uses
from torch import Tensor, nn

# Shapes: T time steps, B batch, N = T · B, K the four gates, I input_size, G gate_width,
# S state_width. Q = K · G, the hidden units of all gates.

NUM_GATES: Final = 4
"""In the order f, i, o, g: the three that go through a sigmoid come first."""
FORGET_GATE: Final = 0
"""The number of the gate f."""


class HLSTMWeights(NamedTuple):
    """The weights of one layer, ordered by gate. Any of its tensors may be a view."""

    input_kgi: Tensor
    """The input's columns of H."""
    recurrent_kgs: Tensor
    """The state's columns of H."""
    hidden_bias_kg: Tensor
    """d."""
    gate_ksg: Tensor
    """W."""
    gate_bias_ks: Tensor
    """b."""


@dataclass(frozen=True, kw_only=True)
class HLSTMProducts:
    """The three products of a layer with its weights. Another kernel replaces only these."""

    input: Callable[[Tensor], Tensor]
    """x_in → a_qn, the bias d included. Called once for each sequence."""
    recurrent: Callable[[Tensor, Tensor], Tensor]
    """(a_qb, h_sb) → a new tensor a_qb + the product. Called at each time step, in turn with
    `gates`."""
    gates: Callable[[Tensor], Tensor]
    """hidden_kgb → pre_ksb, the bias b included."""


def bind_dense(weights: HLSTMWeights) -> HLSTMProducts:
    """The products by the dense kernels that torch chooses itself. Differentiable."""
    input_qi = weights.input_kgi.flatten(0, 1)
    recurrent_qs = weights.recurrent_kgs.flatten(0, 1)
    hidden_bias_q1 = weights.hidden_bias_kg.flatten()[:, None]
    gate_ksg, gate_bias_ks1 = weights.gate_ksg, weights.gate_bias_ks[:, :, None]
    return HLSTMProducts(
        input=lambda x_in: torch.addmm(hidden_bias_q1, input_qi, x_in),
        recurrent=lambda a_qb, h_sb: torch.addmm(a_qb, recurrent_qs, h_sb),
        gates=lambda hidden_kgb: torch.baddbmm(gate_bias_ks1, gate_ksg, hidden_kgb),
    )


def run_hlstm(
    x_tbi: Tensor,
    products: HLSTMProducts,
    h_sb: Tensor,
    c_sb: Tensor,
    *,
    mask_qb: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The states of all time steps h_tbs, contiguous, and the last h_sb and c_sb.

    `mask_qb` multiplies the gates' hidden units, the same at all time steps: dropout.
    """
    steps, batch, _ = x_tbi.shape
    a_qn = products.input(x_tbi.flatten(0, 1).t())
    states_bs = []
    for step in range(steps):
        a_qb = a_qn[:, step * batch : (step + 1) * batch]
        hidden_qb = products.recurrent(a_qb, h_sb).relu_()
        if mask_qb is not None:
            hidden_qb = hidden_qb * mask_qb
        pre_ksb = products.gates(hidden_qb.view(NUM_GATES, -1, batch))
        f_sb, i_sb, o_sb = pre_ksb[:3].sigmoid().unbind()
        c_sb = f_sb * c_sb + i_sb * pre_ksb[3].tanh()
        h_sb = o_sb * c_sb.tanh()
        states_bs.append(h_sb.t())
    return torch.stack(states_bs), h_sb, c_sb


def initial_states(
    x_tbi: Tensor, state: tuple[Tensor, Tensor] | None, *, input_size: int, state_width: int
) -> tuple[Tensor, Tensor]:
    """The states h_sb and c_sb before the first step: `state`'s (h_bs, c_bs), or zeros.

    Raises ValueError for shapes that don't fit each other or these sizes.
    """
    if x_tbi.dim() != 3 or x_tbi.shape[2] != input_size or 0 in x_tbi.shape:
        raise ValueError(
            f"the input has shape {tuple(x_tbi.shape)}; this layer takes"
            f" [steps, batch, {input_size}], none of them 0"
        )
    batch = x_tbi.shape[1]
    if state is None:
        zeros_sb = x_tbi.new_zeros(state_width, batch)
        return zeros_sb, zeros_sb
    for each in state:
        if each.shape != (batch, state_width):
            raise ValueError(
                f"a state has shape {tuple(each.shape)}; this layer and input take"
                f" [{batch}, {state_width}]"
            )
    return state[0].t(), state[1].t()


class HLSTM(nn.Module):
    """One H-LSTM layer, called like a one-layer `torch.nn.LSTM`.

    A state unit is one row of each gate's W (`gate_ksg[:, s]`) and one column of the state's
    part of each H (`recurrent_kgs[:, :, s]`); a gate's hidden unit is one row of its H
    (`input_kgi[k, g]`, `recurrent_kgs[k, g]`, `hidden_bias_kg[k, g]`) and one column of its W
    (`gate_ksg[k, :, g]`).

    `dropout` is the share of the gates' hidden units that are dropped in training; one mask
    is drawn per call and kept for all time steps.
    """

    def __init__(
        self, input_size: int, state_width: int, gate_width: int, *, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.state_width = state_width
        self.gate_width = gate_width
        self.dropout = dropout
        self.input_kgi = nn.Parameter(torch.empty(NUM_GATES, gate_width, input_size))
        self.recurrent_kgs = nn.Parameter(torch.empty(NUM_GATES, gate_width, state_width))
        self.hidden_bias_kg = nn.Parameter(torch.empty(NUM_GATES, gate_width))
        self.gate_ksg = nn.Parameter(torch.empty(NUM_GATES, state_width, gate_width))
        self.gate_bias_ks = nn.Parameter(torch.empty(NUM_GATES, state_width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights anew: H as He et al. do for ReLU, W as Glorot and Bengio.

        With these, values neither grow nor vanish from layer to layer. All biases are zero but that
        of the forget gate, which is one, so that the cell remembers at first (Jozefowicz et al.,
        "An Empirical Exploration of Recurrent Network Architectures"). Source: ours; the paper
        doesn't say how they are drawn.
        """
        hidden_bound = math.sqrt(6 / (self.input_size + self.state_width))
        gate_bound = math.sqrt(6 / (self.gate_width + self.state_width))
        with torch.no_grad():
            for weight in (self.input_kgi, self.recurrent_kgs):
                weight.uniform_(-hidden_bound, hidden_bound)
            self.gate_ksg.uniform_(-gate_bound, gate_bound)
            self.hidden_bias_kg.zero_()
            self.gate_bias_ks.zero_()
            self.gate_bias_ks[FORGET_GATE] = 1.0

    def weights(self) -> HLSTMWeights:
        """The parameters in the form that the functions of this module take."""
        return HLSTMWeights(
            input_kgi=self.input_kgi,
            recurrent_kgs=self.recurrent_kgs,
            hidden_bias_kg=self.hidden_bias_kg,
            gate_ksg=self.gate_ksg,
            gate_bias_ks=self.gate_bias_ks,
        )

    def forward(
        self, x_tbi: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The states of all time steps h_tbs, and the last (h_bs, c_bs).

        `state` is (h_bs, c_bs) before the first step; zeros by default. Raises ValueError for
        shapes that don't fit.
        """
        h_sb, c_sb = initial_states(
            x_tbi, state, input_size=self.input_size, state_width=self.state_width
        )
        mask_qb = None
        if self.training and self.dropout > 0:
            mask_qb = F.dropout(
                x_tbi.new_ones(NUM_GATES * self.gate_width, x_tbi.shape[1]), self.dropout
            )
        h_tbs, h_sb, c_sb = run_hlstm(
            x_tbi, bind_dense(self.weights()), h_sb, c_sb, mask_qb=mask_qb
        )
        return h_tbs, (h_sb.t(), c_sb.t())

    def extra_repr(self) -> str:
        """The sizes, as `print(module)` shows them."""
        return f"{self.input_size}, state_width={self.state_width}, gate_width={self.gate_width}"
