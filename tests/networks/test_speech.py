from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from profiler_service.networks import HLSTM, DeepSpeech2
from profiler_service.networks.speech import (
    NUM_FEATURES,
    BidirectionalHLSTM,
    BidirectionalLSTM,
)

CELLS = ["lstm", "hlstm"]


def network(cell: str, *, width: int = 4, layers: int = 2) -> DeepSpeech2:
    torch.manual_seed(0)
    return DeepSpeech2(width, cell=cell, layers=layers)


def spectrogram(frames: int) -> Tensor:
    return torch.randn(2, 161, frames, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("frames", "steps"), [(31, 1), (32, 1), (33, 2), (50, 10)])
def test_shapes(cell: str, frames: int, steps: int) -> None:
    # 31 frames: (31 − 11) / 2 + 1 = 11 after the first convolution, 11 − 10 after the second.
    assert network(cell).eval()(spectrogram(frames)).shape == (steps, 2, 29)


def test_the_convolutions_make_672_features() -> None:
    images = network("lstm").convolutions(spectrogram(31)[:, None])
    # (161 − 41) / 2 + 1 = 61 bins, then 61 − 21 = 40, halved, and 1: 21 bins of 32 channels.
    assert images.shape == (2, 32, 21, 1)
    assert NUM_FEATURES == 32 * 21


@pytest.mark.parametrize(
    ("cell", "layers", "weights"),
    [
        # Two directions of 4 · 800 · (672 + 800), then four layers of 4 · 800 · 1600: 50.4M.
        ("lstm", 5, 2 * (4_710_400 + 4 * 5_120_000)),
        # Two directions of 4 · (800 · 1472 + 800 · 800), then two of 4 · (800 · 1600 + 640,000):
        # 45.3M.
        ("hlstm", 3, 2 * (7_270_400 + 2 * 7_680_000)),
    ],
)
def test_published_numbers_of_weights(cell: str, layers: int, weights: int) -> None:
    with torch.device("meta"):
        net = DeepSpeech2(800, cell=cell, layers=layers)
    counted = 0
    for name, parameter in net.layers.named_parameters():
        if "bias" not in name:
            counted += parameter.numel()
    assert counted == weights
    assert round(weights / 1e6, 1) == {"lstm": 50.4, "hlstm": 45.3}[cell]
    biases = sum(p.numel() for n, p in net.layers.named_parameters() if "bias" in n)
    assert biases == layers * 16 * 800  # they don't change the published figures
    assert round((weights + biases) / 1e6, 1) == {"lstm": 50.4, "hlstm": 45.3}[cell]


def test_the_second_direction_reads_backwards() -> None:
    torch.manual_seed(0)
    ours, lstm = BidirectionalHLSTM(3, 4).eval(), BidirectionalLSTM(3, 4).eval()
    ours.backwards.load_state_dict(ours.forwards.state_dict())
    parameters = dict(lstm.layer.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith("_reverse"):
                parameter.copy_(parameters[name.removesuffix("_reverse")])
    x_tbi = torch.randn(6, 2, 3)
    for layer in (ours, lstm):
        # Equal weights for both directions: a sequence from its end gives the states from theirs.
        torch.testing.assert_close(layer(x_tbi.flip(0)), layer(x_tbi).flip(0))
        # The last input reaches the first state.
        changed = x_tbi.clone()
        changed[-1] += 1
        assert not torch.allclose(layer(changed)[0], layer(x_tbi)[0])


def test_both_directions_are_summed() -> None:
    torch.manual_seed(0)
    layer, x_tbi = BidirectionalLSTM(3, 4), torch.randn(6, 2, 3)
    both_tbs, _ = layer.layer(x_tbi)
    torch.testing.assert_close(layer(x_tbi), both_tbs[:, :, :4] + both_tbs[:, :, 4:])


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_reach_every_weight(cell: str) -> None:
    net = network(cell).train()
    scores_tbc = net(spectrogram(40))
    loss = nn.functional.ctc_loss(
        scores_tbc.log_softmax(2),
        torch.tensor([[1, 2], [3, 4]]),
        input_lengths=torch.tensor([5, 5]),
        target_lengths=torch.tensor([2, 2]),
    )
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


def test_dropout_is_that_of_the_cells() -> None:
    net = DeepSpeech2(4, cell="hlstm", layers=2, dropout=0.5)
    assert [each.dropout for each in net.modules() if isinstance(each, HLSTM)] == [0.5] * 4


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ((2, 160, 40), r"\[batch, 161, frames\]"),
        ((161, 40), r"\[batch, 161, frames\]"),
        ((2, 161, 30), "30 frames is too short"),
    ],
)
def test_spectrograms_of_other_shapes_are_refused(shape: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        network("hlstm")(torch.zeros(shape))


@pytest.mark.parametrize(("cell", "layers"), [("gru", 3), ("lstm", 0)])
def test_networks_that_do_not_exist(cell: str, layers: int) -> None:
    with pytest.raises(ValueError, match=f"{layers} layers of '{cell}'"):
        DeepSpeech2(4, cell=cell, layers=layers)
