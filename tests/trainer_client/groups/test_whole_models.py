"""Modules that can't be called, or not with NaN; and whole models of many kinds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from profiler_service.advice.example import arrange_example, unwrap
from tests.advice.whole_models import MODELS, WholeModel
from tests.trainer_client.groups.test_layer_kinds import draw
from trainer_client.groups.discovery import find_units
from trainer_client.groups.layout import LayoutError
from trainer_client.groups.padding import Padder


class Checked(nn.Module):
    """Refuses what isn't a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if h.isnan().any():
            raise ValueError("no number")
        result: Tensor = self.last(torch.relu(self.inner(h)))
        return result


def test_a_module_that_refuses_nan_keeps_these_units() -> None:
    found = find_units(Checked(), draw(2, 3))
    assert found.fixed["first"] == "the module raised ValueError: no number when they were NaN"
    assert [group.name for group in found.layout.groups] == ["inner"]


def test_a_module_that_cant_be_called_is_told() -> None:
    with pytest.raises(
        LayoutError, match="the module raised RuntimeError: mat1 and mat2"
    ) as raised:
        find_units(Checked(), draw(2, 4))
    assert "in plain Python" in raised.value.hint
    with pytest.raises(LayoutError, match="it is on the meta device"):
        find_units(Checked().to("meta"), draw(2, 3))


REFUSED = {
    "a GPT-2-like language model (HuggingFace's `Conv1D`, scores tied to the words)",
    "`nn.MultiheadAttention`",
    "a loop over `nn.LSTMCell`",
    "a model without data, on the meta device",
    "a model with `weight_norm`",
    "a dynamically quantised model",
}
"""Their layers aren't known here, average over units or have their number in the code."""


def make(whole: WholeModel) -> Padder[nn.Module]:
    torch.manual_seed(0)
    model = unwrap(whole.make())
    example = arrange_example(whole.value, model)
    keywords: dict[str, Any] = dict(example.kwargs)
    return Padder(model, *example.args, **keywords)


@pytest.mark.filterwarnings("ignore:.*quantiz.*", "ignore:.*Lazy modules.*")
@pytest.mark.parametrize("whole", MODELS, ids=lambda each: each.title)
def test_whole_models_are_padded_with_equal_outputs_or_refused(whole: WholeModel) -> None:
    """Whatever axes are found: a wider one computes the same, and what stays has a reason."""
    if whole.title in REFUSED:
        with pytest.raises(LayoutError) as raised:
            make(whole)
        assert raised.value.hint
        return
    padder = make(whole)
    assert all(padder.found.fixed.values())
    to = {axis: width + 3 for axis, width in list(padder.widths.items())[:5]}
    assert padder.pad(to).largest_difference < 1e-5
