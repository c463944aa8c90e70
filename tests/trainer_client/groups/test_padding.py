"""A padded module computes the same, can be trained on, and made narrow again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from profiler_service.errors import InvalidRequestError
from tests.trainer_client.groups.test_discovery import WORDS, Residual, Tagger, Tied
from trainer_client.groups.layout import LayoutError
from trainer_client.groups.padding import UnequalOutputsError, pad


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_padded_module_computes_the_same(
    kind: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN],
) -> None:
    torch.manual_seed(0)
    model = Tagger(kind)
    padded = pad(model, WORDS, to={"rnn.units": 8, "hidden.units": 16})
    assert padded.widths == {"rnn.units": (6, 8), "hidden.units": (7, 16)}
    assert padded.module.rnn.hidden_size == 8
    assert padded.module.hidden.weight.shape == (16, 8)
    assert padded.largest_difference < 1e-6
    # Other words than those of the example, too.
    others = torch.randint(0, 11, (9, 3), generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(padded.module(others), model(others))
    back = padded.undo()
    assert all(each.equal(back.get_parameter(name)) for name, each in model.named_parameters())


def test_layers_with_common_units_are_padded_together() -> None:
    model = Residual()
    x = torch.randn(2, 3)
    padded = pad(model, x, to={"first.units": 8}).module
    assert (padded.first.out_features, padded.outer.out_features) == (8, 8)
    assert (padded.inner.in_features, padded.last.in_features) == (8, 8)
    torch.testing.assert_close(padded(x), model(x))


def test_a_padded_module_can_be_trained_on_and_undone() -> None:
    torch.manual_seed(0)
    padded = pad(Tied(), WORDS, to={"embed.units": 8})
    optimiser = torch.optim.SGD(padded.module.parameters(), lr=0.1)
    padded.module(WORDS).square().mean().backward()
    optimiser.step()
    trained = padded.module.embed.weight.detach()
    back = padded.undo()
    assert back.embed.weight.equal(trained[:, :5])
    assert back.decode.weight is back.embed.weight


def test_what_cant_be_padded_is_refused() -> None:
    model = Tagger()
    with pytest.raises(InvalidRequestError, match="no axis 'rnn'") as raised:
        pad(model, WORDS, to={"rnn": 8})
    assert "rnn.units (6)" in raised.value.hint
    with pytest.raises(InvalidRequestError, match="there are 6 units"):
        pad(model, WORDS, to={"rnn.units": 5})
    with pytest.raises(LayoutError):
        pad(nn.Linear(3, 2), torch.randn(1, 3), to={"units": 4})


class HalfHidden(nn.Module):
    """Two readers, of which `torch.where` hides one: it takes no NaN through."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.seen, self.hidden = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        result: Tensor = self.seen(h) + self.hidden(torch.where(h > 0, h, torch.zeros_like(h)))
        return result


def test_a_reader_that_running_doesnt_show_is_told_of() -> None:
    with pytest.raises(LayoutError, match="can't be called") as raised:
        pad(HalfHidden(), torch.randn(2, 3), to={"first.units": 8})
    assert "torch.where" in raised.value.hint


class Counting(nn.Module):
    """Divides by the number of its units, which running it doesn't show."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.first(x) / self.first.out_features)
        return result


def test_a_module_that_then_computes_something_else_is_refused() -> None:
    with pytest.raises(UnequalOutputsError, match="differ by") as raised:
        pad(Counting(), torch.randn(2, 3), to={"first.units": 8})
    assert "first.units" in raised.value.hint
