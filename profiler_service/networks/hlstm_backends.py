"""The H-LSTM layer with other kernels than torch's own choice, for inference.

The recurrence is that of `networks.hlstm` with other products. Sparse layers have a recurrence of
their own, which doesn't make a new tensor for each result. What each backend is:
docs/decisions/0004-kernels-side-by-side.md. Knows nothing of how anything is measured.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812  the name that torch's own documentation uses
from torch import Tensor, nn

from profiler_service.errors import UnsupportedOnHostError
from profiler_service.networks.hlstm import (
    NUM_GATES,
    HLSTMProducts,
    HLSTMWeights,
    bind_dense,
    initial_states,
    run_hlstm,
)
from profiler_service.networks.products import csr_weight, has_backend

# Shapes: T time steps, B batch, N = T · B, K the four gates, I input_size, G gate_width,
# S state_width, Q = K · G, U = K · S. O rows and I columns of any weight.

HLSTM_BACKENDS: Final = ("dense", "packed", "csr")


class HLSTMRun(Protocol):
    """The recurrence of a layer, with its weights bound."""

    def __call__(
        self, x_tbi: Tensor, *, h_sb: Tensor, c_sb: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The states of all time steps h_tbs, contiguous, and the last h_sb and c_sb."""


class HLSTMMatrices(NamedTuple):
    """The weights of one layer as compressed sparse rows (`csr_weight`), and its biases."""

    input_qi: Tensor
    """The input's columns of all H: the rows of one gate, then those of the next."""
    recurrent_qs: Tensor
    """The state's columns of all H."""
    gate_uq: Tensor
    """All W on one diagonal (`block_diagonal`): a time step is then two sparse products."""
    hidden_bias_q: Tensor
    gate_bias_u: Tensor


def bind_hlstm(weights: HLSTMWeights, *, backend: str, batch: int = 16) -> HLSTMRun:
    """The recurrence of a layer with these weights through the backend, for inference.

    - `dense`: torch's own choice; the only one that is differentiable.
    - `packed`: the weights rearranged once for oneDNN, for `batch` sequences (others work, too).
      CPU only.
    - `csr`: the weights' nonzeros as compressed sparse rows.

    Raises UnsupportedOnHostError if torch lacks the backend for the weights' dtype and device;
    ValueError for an unknown one.
    """
    if backend not in HLSTM_BACKENDS:
        raise ValueError(f"there is no backend {backend!r}; there are {', '.join(HLSTM_BACKENDS)}")
    if backend == "dense":
        return functools.partial(run_hlstm, products=bind_dense(weights))
    device, dtype = weights.input_kgi.device.type, weights.input_kgi.dtype
    if not has_backend(backend, device, dtype):
        raise UnsupportedOnHostError(
            f"torch {torch.__version__} has no {backend} product of"
            f" {str(dtype).removeprefix('torch.')} on {device}",
            hint="choose another backend or dtype",
        )
    if backend == "packed":
        return functools.partial(run_hlstm, products=_bind_packed(weights, batch))
    return bind_csr(
        HLSTMMatrices(
            input_qi=_compress(weights.input_kgi.detach().flatten(0, 1)),
            recurrent_qs=_compress(weights.recurrent_kgs.detach().flatten(0, 1)),
            gate_uq=block_diagonal(_compress(weights.gate_ksg.detach().flatten(0, 1))),
            hidden_bias_q=weights.hidden_bias_kg.detach().flatten(),
            gate_bias_u=weights.gate_bias_ks.detach().flatten(),
        )
    )


def bind_csr(matrices: HLSTMMatrices) -> HLSTMRun:
    """The recurrence of a layer of compressed sparse rows.

    The sparse product takes feature-major operands, so only the input is transposed. The kernel
    itself adds to its result (`addmm`). With separate sums, layers took 1.2 to 1.9 times as long. A
    third of the remaining time would go into making and viewing tensors at each time step, so all
    steps share one tensor of each shape.
    """
    input_qi, recurrent_qs, gate_uq, hidden_bias_q, gate_bias_u = matrices
    hidden_bias_q1, gate_bias_u1 = hidden_bias_q[:, None], gate_bias_u[:, None]

    def run(x_tbi: Tensor, *, h_sb: Tensor, c_sb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        num_steps, batch, _ = x_tbi.shape
        state_width = len(h_sb)
        a_qn = torch.addmm(hidden_bias_q1, input_qi, x_tbi.flatten(0, 1).t().contiguous())
        hidden_qb = a_qn.new_empty(len(a_qn), batch)
        pre_ub = a_qn.new_empty(NUM_GATES * state_width, batch)
        sigmoid_ub, (f_sb, i_sb, o_sb, g_sb) = pre_ub[: 3 * state_width], pre_ub.chunk(NUM_GATES)
        states_tsb = a_qn.new_empty(num_steps, state_width, batch)
        h_sb, c_sb = h_sb.contiguous(), c_sb.contiguous().clone()
        tanh_sb = torch.empty_like(c_sb)
        for a_qb, next_sb in zip(torch.split(a_qn, batch, 1), states_tsb.unbind(), strict=True):
            torch.addmm(a_qb, recurrent_qs, h_sb, out=hidden_qb).relu_()
            torch.addmm(gate_bias_u1, gate_uq, hidden_qb, out=pre_ub)
            sigmoid_ub.sigmoid_()
            c_sb.mul_(f_sb).addcmul_(i_sb, g_sb.tanh_())
            h_sb = torch.mul(o_sb, torch.tanh(c_sb, out=tanh_sb), out=next_sb)
        return states_tsb.transpose(1, 2).contiguous(), h_sb.clone(), c_sb

    return run


def block_diagonal(gate_ug: Tensor) -> Tensor:
    """gate_uq: a matrix with the four W, which gate_ug has one below the other, on its diagonal.

    Both are compressed sparse rows. They share memory, and gate_ug's columns are overwritten.
    """
    rows, width = gate_ug.shape
    crow, column = gate_ug.crow_indices(), gate_ug.col_indices()
    starts = crow[:: rows // NUM_GATES].tolist()
    for gate in range(1, NUM_GATES):
        column[starts[gate] : starts[gate + 1]] += gate * width
    return csr_weight(crow, column, gate_ug.values(), (rows, NUM_GATES * width))


class BoundHLSTM(nn.Module):
    """An H-LSTM layer whose weights are bound to a backend: called like HLSTM, inference only.

    Has no parameters: `run` holds the weights.
    """

    def __init__(self, run: HLSTMRun, *, input_size: int, state_width: int) -> None:
        super().__init__()
        self.run = run
        self.input_size = input_size
        self.state_width = state_width

    @torch.no_grad()
    def forward(
        self, x_tbi: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The states of all time steps h_tbs, and the last (h_bs, c_bs): see HLSTM.forward."""
        h_sb, c_sb = initial_states(
            x_tbi, state, input_size=self.input_size, state_width=self.state_width
        )
        h_tbs, h_sb, c_sb = self.run(x_tbi, h_sb=h_sb, c_sb=c_sb)
        return h_tbs, (h_sb.t(), c_sb.t())


def _bind_packed(weights: HLSTMWeights, batch: int) -> HLSTMProducts:
    # oneDNN takes sequences in rows. These products return such tensors, viewed as columns, so
    # that nothing is transposed between two products.
    pack = torch.ops.mkldnn._reorder_linear_weight
    linear = torch.ops.mkldnn._linear_pointwise.default
    linear_add = torch.ops.mkldnn._linear_pointwise.binary
    input_packed = pack(weights.input_kgi.detach().flatten(0, 1), batch)
    recurrent_packed = pack(weights.recurrent_kgs.detach().flatten(0, 1), batch)
    gates_packed = [pack(gate_sg.detach(), batch) for gate_sg in weights.gate_ksg]
    hidden_bias_q = weights.hidden_bias_kg.detach().flatten()
    gate_biases_s = weights.gate_bias_ks.detach().unbind()

    def gates(hidden_kgb: Tensor) -> Tensor:
        pre_bs = [
            linear(hidden_gb.t(), packed, bias_s, "none", [], "")
            for hidden_gb, packed, bias_s in zip(
                hidden_kgb, gates_packed, gate_biases_s, strict=True
            )
        ]
        return torch.stack(pre_bs).transpose(1, 2)

    return HLSTMProducts(
        input=lambda x_in: linear(x_in.t(), input_packed, hidden_bias_q, "none", [], "").t(),
        recurrent=lambda a_qb, h_sb: linear_add(
            h_sb.t(), a_qb.t(), recurrent_packed, None, "add"
        ).t(),
        gates=gates,
    )


def _compress(weight_oi: Tensor) -> Tensor:
    """The nonzeros of a dense weight as compressed sparse rows."""
    nonzero_oi = weight_oi != 0
    crow = F.pad(nonzero_oi.sum(1).cumsum(0), (1, 0)).int()
    column = nonzero_oi.nonzero()[:, 1].int()
    rows, columns = weight_oi.shape
    return csr_weight(crow, column, weight_oi[nonzero_oi], (rows, columns))
