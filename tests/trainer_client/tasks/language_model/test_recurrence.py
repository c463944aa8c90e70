"""The recurrence's own backward pass against autograd through the layer's equations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from profiler_service.networks import HLSTMWeights
from profiler_service.networks.hlstm import bind_dense, run_hlstm
from tests.trainer_client.groups.layers import random_inputs, random_weights
from trainer_client.tasks.language_model.recurrence import run_recurrence


def leaves(weights: HLSTMWeights) -> HLSTMWeights:
    return HLSTMWeights(*(w.clone().requires_grad_() for w in weights))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_states_and_gradients_are_autograds(dropout: float) -> None:
    torch.manual_seed(0)
    weights = HLSTMWeights(**random_weights(input_size=3, gate_width=7, state_width=5))
    x_tbi = random_inputs(steps=6, batch=4, input_size=3)
    h_sb, c_sb = torch.randn(2, 5, 4, dtype=torch.float64).unbind()
    ones_qb = torch.ones(28, 4, dtype=torch.float64)
    mask_qb = F.dropout(ones_qb, dropout) if dropout else None

    mine, mine_x = leaves(weights), x_tbi.clone().requires_grad_()
    x_in = mine_x.flatten(0, 1).t()
    h_tsb, last_h_sb, last_c_sb = run_recurrence(x_in, mine, h_sb, c_sb, mask_qb=mask_qb)
    theirs, their_x = leaves(weights), x_tbi.clone().requires_grad_()
    h_tbs, expected_h_sb, expected_c_sb = run_hlstm(
        their_x, bind_dense(theirs), h_sb, c_sb, mask_qb=mask_qb
    )
    torch.testing.assert_close(h_tsb.transpose(1, 2), h_tbs)
    torch.testing.assert_close(last_h_sb, expected_h_sb)
    torch.testing.assert_close(last_c_sb, expected_c_sb)
    assert not last_h_sb.requires_grad and not last_c_sb.requires_grad

    target_tbs = torch.randn_like(h_tbs)
    ((h_tsb.transpose(1, 2) - target_tbs) ** 2).sum().backward()  # type: ignore[no-untyped-call]
    ((h_tbs - target_tbs) ** 2).sum().backward()  # type: ignore[no-untyped-call]
    for name, got, expected in zip(mine._fields, mine, theirs, strict=True):
        assert expected.grad is not None and expected.grad.abs().max() > 0
        torch.testing.assert_close(got.grad, expected.grad, msg=name)
    torch.testing.assert_close(mine_x.grad, their_x.grad)


def test_products_may_run_in_bfloat16() -> None:
    weights = HLSTMWeights(**random_weights(input_size=3, gate_width=7, state_width=5))
    x_tbi = random_inputs(steps=6, batch=4, input_size=3)
    exact, *_ = run_hlstm(
        x_tbi, bind_dense(weights), torch.zeros(5, 4).double(), torch.zeros(5, 4).double()
    )
    low = HLSTMWeights(*(w.bfloat16().requires_grad_() for w in weights))
    h_tsb, _, c_sb = run_recurrence(
        x_tbi.flatten(0, 1).t().bfloat16(), low, torch.zeros(5, 4), torch.zeros(5, 4)
    )
    assert (h_tsb.dtype, c_sb.dtype) == (torch.bfloat16, torch.float32)
    # bfloat16 has 8 bits: 0.4 % a rounding, some of them on the way to a state within ±1.
    assert float((h_tsb.detach().transpose(1, 2).double() - exact).abs().max()) < 0.05
    h_tsb.float().sum().backward()  # type: ignore[no-untyped-call]
    assert all(w.grad is not None and bool(w.grad.isfinite().all()) for w in low)
