"""Every layer that is known, in a module that is padded with equal outputs, and those refused."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from profiler_service.errors import InvalidRequestError
from tests.trainer_client.groups.test_discovery import WORDS, Tied, parts_of
from trainer_client.groups.discovery import find_units
from trainer_client.groups.layout import LayoutError, Part
from trainer_client.groups.masks import apply_masks, full_masks
from trainer_client.groups.padding import UnequalOutputsError, pad
from trainer_client.groups.pruning import prune_units
from trainer_client.groups.shrinking import shrink
from trainer_client.groups.surgery import tensors_of, with_parameters

# Shapes: T time steps, B batch.

M = TypeVar("M", bound=nn.Module)


def draw(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def settled(model: M) -> M:
    """The module with random parameters and statistics, so that none has torch's first values."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, each in (*model.named_parameters(), *model.named_buffers()):
            if each.is_floating_point():
                drawn = torch.rand(each.shape, generator=generator) - 0.5
                each.copy_(drawn + 1 if "var" in name else drawn)
    return model.eval()


def batch_net(one_channel: type[nn.Module] = nn.Identity) -> nn.Sequential:
    """Two convolutions with all that comes between channels, and a linear layer of flat images."""
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.PReLU(5),
        nn.Conv2d(5, 5, 3, padding=1, groups=5),
        nn.BatchNorm2d(5, affine=False),
        nn.Hardswish(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 1, bias=False),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(6 * 4, 4),
    )


def row_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(3, 5, 3),
        nn.BatchNorm1d(5),
        nn.PReLU(),
        nn.Conv1d(5, 7, 3, stride=2),
        nn.BatchNorm1d(7, track_running_stats=False),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(7, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Linear(6, 4),
    )


def root_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, 5), nn.SiLU(), nn.RMSNorm(5, eps=0.1), nn.GELU(), nn.Linear(5, 4)
    )


class BothWays(nn.Module):
    """A recurrent layer of two directions; its states and its last states are read."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN], layers: int) -> None:
        super().__init__()
        self.rnn = kind(3, 5, num_layers=layers, bidirectional=True)
        self.again = nn.GRU(10, 6, bidirectional=True)
        self.last, self.end = nn.Linear(12, 4), nn.Linear(5, 4)

    def forward(self, x_tbi: Tensor) -> Tensor:
        h_tbd, last = self.rnn(x_tbi)
        h_lbh = last[0] if isinstance(last, tuple) else last
        decoded: Tensor = self.last(self.again(h_tbd)[0]) + self.end(h_lbh[-1])
        return decoded


@pytest.mark.parametrize(
    ("model", "shape", "to"),
    [
        (batch_net(), (2, 3, 4, 4), {"0.units": 8, "7.units": 8}),
        (row_net(), (2, 3, 9), {"0.units": 8, "3.units": 16, "7.units": 7}),
        (root_net(), (2, 7, 3), {"0.units": 8}),
        (BothWays(nn.LSTM, 1), (5, 2, 3), {"rnn.units": 8, "again.units": 7}),
        (BothWays(nn.GRU, 2), (5, 2, 3), {"rnn.units": 6, "again.units": 16}),
        (BothWays(nn.RNN, 3), (5, 2, 3), {"rnn.units": 8}),
    ],
    ids=["images", "rows", "rms norm", "lstm", "gru of two layers", "rnn of three layers"],
)
def test_a_padded_module_computes_the_same_and_is_undone(
    model: nn.Module, shape: tuple[int, ...], to: dict[str, int]
) -> None:
    settled(model)
    padded = pad(model, draw(*shape), to=to)
    assert {axis: now for axis, (_, now) in padded.widths.items()} == to
    assert padded.largest_difference < 1e-6
    other = draw(*shape, seed=9)
    torch.testing.assert_close(padded.module(other), model(other))
    back = padded.undo()
    torch.testing.assert_close(tensors_of(back), tensors_of(model), rtol=1e-6, atol=0)
    assert str(back) == str(model)  # also every size that a layer keeps


@pytest.mark.parametrize(
    ("model", "shape", "axis"),
    [(batch_net(), (2, 3, 4, 4), "0.units"), (row_net(), (2, 3, 9), "0.units"),
     (root_net(), (2, 7, 3), "0.units"), (BothWays(nn.LSTM, 2), (5, 2, 3), "rnn.units")],
    ids=["images", "rows", "rms norm", "two directions"],
)  # fmt: skip
def test_dead_units_are_removed_without_a_change(
    model: nn.Module, shape: tuple[int, ...], axis: str
) -> None:
    settled(model).double()
    x = draw(*shape).double()
    layout, weights = find_units(model, x).layout, tensors_of(model)
    masks = prune_units(layout, weights, full_masks(layout, weights), counts={axis: 2})
    masked = torch.func.functional_call(model, apply_masks(weights, masks), (x,))
    smaller = with_parameters(model, shrink(layout, weights, masks).weights)
    fewer = sum(each.numel() for each in smaller.parameters())
    assert fewer < sum(each.numel() for each in model.parameters())
    torch.testing.assert_close(smaller(x), masked)


def test_channels_are_the_same_through_convolutions_of_each_channel_and_norms() -> None:
    found = find_units(batch_net(), draw(2, 3, 4, 4))
    stem = parts_of(found.layout)["0"]
    assert stem == {
        *(("0.weight", 0), ("0.bias", 0), ("2.weight", 0), ("3.weight", 0), ("3.bias", 0)),
        *((f"1.{name}", 0) for name in ("weight", "bias", "running_mean", "running_var")),
        *(("4.running_mean", 0), ("4.running_var", 0), ("7.weight", 1)),
    }
    # Each channel of the last convolution is four neighbouring columns of the flat image.
    assert found.layout.groups[1].parts == (
        Part(parameter="7.weight", axis=0, role="incoming"),
        Part(parameter="10.weight", axis=1, role="outgoing", after=4),
    )
    assert found.fixed == {"10": "the model returns them"}


def test_new_channels_of_a_batch_norm_stay_zero_with_a_variance_of_one() -> None:
    norm = pad(batch_net(), draw(2, 3, 4, 4), to={"0.units": 7}).module[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.num_features == 7
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.running_mean[5:].tolist() == norm.bias[5:].tolist() == [0, 0]
    assert norm.weight[5:].tolist() == [0, 0] and norm.running_var[5:].tolist() == [1, 1]


def test_an_rms_norm_is_rescaled() -> None:
    """From 4 units to 16, by hand.

    The input (2, 2, 2, 2) has the mean square 4; with ε = 5 the norm divides by √9 = 3. Of 16
    units, the mean square is 1, and it divides by √(1 + ε'). With ε' = 5 · 4 / 16 = 1.25, that is
    1.5, half as much. So weights of half the size make the same.
    """
    model = nn.Sequential(nn.Linear(1, 4), nn.RMSNorm(4, eps=5), nn.Linear(4, 1))
    with torch.no_grad():
        for name, value in (("0.weight", 2), ("0.bias", 0), ("1.weight", 3)):
            model.get_parameter(name).fill_(value)
    padded = pad(model, torch.ones(1, 1), to={"0.units": 16}).module
    norm = padded[1]
    assert isinstance(norm, nn.RMSNorm)
    assert norm.eps == 1.25 and norm.normalized_shape == (16,)
    assert norm.weight.tolist() == [1.5] * 4 + [0] * 12
    torch.testing.assert_close(norm(padded[0](torch.ones(1, 1)))[0, :4], torch.full((4,), 2.0))


def test_an_rms_norm_without_an_epsilon_gets_the_one_that_torch_takes() -> None:
    model = settled(nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4), nn.Linear(4, 2)))
    padded = pad(model, draw(2, 3), to={"0.units": 16})
    norm = padded.module[1]
    assert isinstance(norm, nn.RMSNorm)
    assert norm.eps is not None and math.isclose(norm.eps, 2**-23 / 4)
    small = 1e-4 * draw(2, 3)  # so small that epsilon counts
    torch.testing.assert_close(padded.module(small), model(small))


def test_a_mean_over_units_that_arent_zero_is_refused() -> None:
    """A new unit behind a sigmoid is ½. A reader's zeros make nothing of it; a mean would."""
    plain = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2))
    assert pad(plain, draw(2, 3), to={"0.units": 8}).largest_difference < 1e-6
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Sigmoid(), nn.RMSNorm(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)
    )
    found = find_units(model, draw(2, 3))
    assert [group.name for group in found.layout.groups] == ["3"]
    assert "2 (RMSNorm) averages over them" in found.fixed["0"]
    assert "f(0) ≠ 0" in found.fixed["0"] and found.fixed["0"] == found.fixed["2"]
    with pytest.raises(InvalidRequestError, match=r"no axis '0\.units'") as raised:
        pad(model, draw(2, 3), to={"0.units": 8})
    assert "0 is fixed: 2 (RMSNorm) averages over them" in raised.value.hint


class Inverted(nn.Module):
    """Infinite where a unit is zero, and infinity times zero is no number."""

    def forward(self, x: Tensor) -> Tensor:
        return 1 / x


def test_an_infinite_value_of_new_units_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4), Inverted(), nn.Linear(4, 2))
    with pytest.raises(UnequalOutputsError, match="differ by inf"):
        pad(model, draw(2, 3), to={"0.units": 8})


class Images(nn.Module):
    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Conv2d(3, 4, 1), between, nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.between(self.first(x)))
        return result


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (nn.GroupNorm(2, 4), "between (GroupNorm) averages over them"),
        (nn.GroupNorm(2, 4, affine=False), "between (GroupNorm) averages over them"),
        (nn.InstanceNorm2d(4, affine=True), "between (InstanceNorm2d) isn't a layer"),
        (nn.Conv2d(4, 4, 1, groups=2), "between (Conv2d) has 2 groups of channels"),
        (
            nn.Sequential(nn.Conv2d(4, 8, 1, groups=4), nn.MaxPool3d((2, 1, 1))),
            "between.0 (Conv2d) has 4 groups of channels",
        ),
        (nn.ConvTranspose2d(4, 4, 1), "between (ConvTranspose2d) isn't a layer"),
        (nn.utils.weight_norm, "computes its weight from other parameters"),
    ],
    ids=["groups", "plain groups", "instance", "two groups", "two a channel", "back", "weights"],
)
def test_layers_that_fix_channels_are_named(between: Any, reason: str) -> None:
    if between is nn.utils.weight_norm:
        with pytest.warns(FutureWarning):
            between = nn.utils.weight_norm(nn.Conv2d(4, 4, 1))
    with pytest.raises(LayoutError) as raised:
        find_units(Images(between), draw(2, 3, 4, 4))
    assert reason in str(raised.value)


def test_a_norm_that_reads_each_unit_several_times_fixes_it() -> None:
    model = nn.Sequential(
        *(nn.Conv1d(3, 4, 1), nn.Flatten(), nn.BatchNorm1d(20), nn.ReLU()),
        *(nn.Linear(20, 4), nn.ReLU(), nn.Linear(4, 2)),
    )
    found = find_units(model, draw(2, 3, 5))
    assert found.fixed["0"] == "2 (BatchNorm1d) reads each of them several times"
    # The norm's own 20 units are read as they come, but the norm doesn't make them.
    assert "no layer whose units may change makes them" in found.fixed["2"]
    assert [group.name for group in found.layout.groups] == ["4"]
    assert pad(model, draw(2, 3, 5), to={"4.units": 8}).largest_difference < 1e-6


def test_a_norm_of_the_models_input_is_fixed() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    found = find_units(model, draw(5, 3))
    assert [group.name for group in found.layout.groups] == ["1"]
    assert "no layer whose units may change makes them" in found.fixed["0"]


class TwoWays(nn.Module):
    """One layer reads the units of two others, those of one several times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other, self.last = nn.Linear(3, 4), nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.first(x).repeat(1, 2) + self.other(x))
        return result


def test_units_that_lie_in_two_ways_are_fixed() -> None:
    with pytest.raises(LayoutError, match=r"first: units lie along last\.weight in two ways"):
        find_units(TwoWays(), draw(2, 3))


def test_sequences_of_several_lengths_are_taken() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.last = nn.LSTM(3, 5, bidirectional=True), nn.Linear(10, 2)

        def forward(self, x: PackedSequence) -> Tensor:
            h, _ = self.rnn(x)
            result: Tensor = self.last(h.data)
            return result

    model, x = settled(Packed()), pack_sequence([draw(4, 3), draw(2, 3)])
    padded = pad(model, x, to={"rnn.units": 8})
    torch.testing.assert_close(padded.module(x), model(x))


class Predictor(nn.Module):
    """Scores of words, as logits or as log probabilities."""

    def __init__(self, bias: bool = True, normalised: bool = False) -> None:
        super().__init__()
        self.normalised = normalised
        self.embed, self.rnn = nn.Embedding(11, 5), nn.GRU(5, 6)
        self.decode = nn.Linear(6, 11, bias=bias)

    def forward(self, words_tb: Tensor) -> Tensor:
        scores: Tensor = self.decode(self.rnn(self.embed(words_tb))[0])
        return scores.log_softmax(-1) if self.normalised else scores


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_vocabulary_grows_by_words_without_probability(dtype: torch.dtype) -> None:
    model = settled(Predictor()).to(dtype)
    to = {"decode.units": 16}
    with pytest.raises(InvalidRequestError, match="no axis") as raised:
        pad(model, WORDS, to=to)
    assert "decode is fixed: the model returns them" in raised.value.hint
    padded = pad(model, WORDS, to=to, logits=["decode"])
    scores, expected = padded.module(WORDS), model(WORDS)
    assert scores.shape == (4, 2, 16) and padded.module.decode.out_features == 16
    torch.testing.assert_close(scores[..., :11], expected)
    probability = scores.float().softmax(-1)
    assert probability[..., 11:].eq(0).all()
    torch.testing.assert_close(probability[..., :11], expected.float().softmax(-1))
    # Training on: the loss and its gradients are finite.
    padded.module(WORDS).log_softmax(-1)[..., 0].mean().backward()
    assert all(
        each.grad is None or each.grad.isfinite().all() for each in padded.module.parameters()
    )
    torch.testing.assert_close(tensors_of(padded.undo()), tensors_of(model))


def test_a_tied_vocabulary_grows_in_both_places() -> None:
    model = settled(Tied())
    padded = pad(model, WORDS, to={"decode.units": 16}, logits=["decode"])
    assert padded.module.embed.num_embeddings == padded.module.decode.out_features == 16
    assert padded.module.embed.weight is padded.module.decode.weight


def test_normalised_scores_stay() -> None:
    model = settled(Predictor(normalised=True))
    padded = pad(model, WORDS, to={"decode.units": 12}, logits=["decode"])
    torch.testing.assert_close(padded.module(WORDS)[..., :11], model(WORDS))


@pytest.mark.parametrize(
    ("model", "name"),
    [(Predictor(), "rnn"), (Predictor(), "nothing"), (Predictor(bias=False), "decode")],
)
def test_logits_that_cant_be_masked_are_refused(model: nn.Module, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="with a bias, so it has no logits") as raised:
        find_units(model, WORDS, logits=[name])
    assert "decode" in raised.value.hint


def test_a_layer_that_others_read_has_no_logits() -> None:
    class Returned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.first(x)
            return h, self.last(h)

    with pytest.raises(LayoutError, match="first: the model returns them"):
        find_units(Returned(), draw(2, 3), logits=["first"])
