"""DeepSpeech2 with LSTM or H-LSTM layers: from spectrograms to scores of characters.

Knows nothing of audio, of alphabets, of CTC's loss or of training.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from profiler_service.networks.hlstm import HLSTM

# Shapes: B batch, W spectrogram bins, L frames, T time steps after the convolutions,
# I features of a layer's input, S width, C characters.

NUM_BINS: Final = 161
"""Bins of a spectrogram of windows of 20 ms at 16 kHz: 320 / 2 + 1."""
NUM_FEATURES: Final = 672
"""Features after the convolutions: 32 channels of ((161 − 41) / 2 + 1 − 21) / 2 + 1 = 21."""
NUM_CHARACTERS: Final = 29
"""A to Z, space, apostrophe, and CTC's blank."""
_CHANNELS: Final = 32
_MAX_ACTIVATION: Final = 20


class BidirectionalHLSTM(nn.Module):
    """Two H-LSTM layers, one for each direction of time, whose states are summed."""

    def __init__(self, input_size: int, width: int, *, dropout: float = 0.2) -> None:
        super().__init__()
        self.forwards = HLSTM(input_size, width, width, dropout=dropout)
        self.backwards = HLSTM(input_size, width, width, dropout=dropout)

    def forward(self, x_tbi: Tensor) -> Tensor:
        """The sum of both directions' states at each time step h_tbs."""
        forwards_tbs, _ = self.forwards(x_tbi)
        backwards_tbs, _ = self.backwards(x_tbi.flip(0))
        summed_tbs: Tensor = forwards_tbs + backwards_tbs.flip(0)
        return summed_tbs


class BidirectionalLSTM(nn.Module):
    """One layer of `torch.nn.LSTM` whose two directions are summed."""

    def __init__(self, input_size: int, width: int) -> None:
        super().__init__()
        self.layer = nn.LSTM(input_size, width, bidirectional=True)

    def forward(self, x_tbi: Tensor) -> Tensor:
        """The sum of both directions' states at each time step h_tbs."""
        both_tbs, _ = self.layer(x_tbi)
        summed_tbs: Tensor = both_tbs.unflatten(2, (2, -1)).sum(2)
        return summed_tbs


class DeepSpeech2(nn.Module):
    """Two convolutions, bidirectional recurrent layers with batch norm between, a CTC head.

    `cell` is "lstm" or "hlstm"; an H-LSTM layer's gates have hidden layers of the same
    `width` as its state. Source: the public deepspeech.pytorch of 2017 (whose convolutions
    don't pad, hence 672 features) and section 5.2 of Yin et al.: 5 LSTM or 3 H-LSTM layers of
    800, 50.4M and 45.3M parameters.
    """

    def __init__(self, width: int, *, cell: str, layers: int, dropout: float = 0.2) -> None:
        super().__init__()
        if cell not in ("lstm", "hlstm") or layers < 1:
            raise ValueError(f"no network has {layers} layers of {cell!r}")
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, _CHANNELS, kernel_size=(41, 11), stride=(2, 2)),
            nn.BatchNorm2d(_CHANNELS),
            nn.Hardtanh(0, _MAX_ACTIVATION, inplace=True),
            nn.Conv2d(_CHANNELS, _CHANNELS, kernel_size=(21, 11), stride=(2, 1)),
            nn.BatchNorm2d(_CHANNELS),
            nn.Hardtanh(0, _MAX_ACTIVATION, inplace=True),
        )
        self.layers = nn.ModuleList()
        for input_size in (NUM_FEATURES, *[width] * (layers - 1)):
            if cell == "lstm":
                self.layers.append(BidirectionalLSTM(input_size, width))
            else:
                self.layers.append(BidirectionalHLSTM(input_size, width, dropout=dropout))
        # Before each layer but the first, and before the head.
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(layers))
        self.head = nn.Linear(width, NUM_CHARACTERS, bias=False)

    def forward(self, spectrogram_bwl: Tensor) -> Tensor:
        """Unnormalised log probabilities of the characters scores_tbc, T = (L − 11) // 2 − 9.

        Raises ValueError for other than 161 bins, or fewer than 31 frames.
        """
        if spectrogram_bwl.dim() != 3 or spectrogram_bwl.shape[1] != NUM_BINS:
            raise ValueError(
                f"the spectrogram has shape {tuple(spectrogram_bwl.shape)};"
                f" this network takes [batch, {NUM_BINS}, frames]"
            )
        if spectrogram_bwl.shape[2] < 31:
            raise ValueError(
                f"a spectrogram of {spectrogram_bwl.shape[2]} frames is too short:"
                " the convolutions span 31"
            )
        x_tbi = self.convolutions(spectrogram_bwl[:, None]).flatten(1, 2).permute(2, 0, 1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h_tbs = layer(x_tbi)
            x_tbi = norm(h_tbs.flatten(0, 1)).unflatten(0, h_tbs.shape[:2])
        scores_tbc: Tensor = self.head(x_tbi)
        return scores_tbc
