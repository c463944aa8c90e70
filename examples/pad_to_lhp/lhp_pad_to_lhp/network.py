"""The network and its training: what you would replace by your own.

Knows nothing of latencies or the service.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

# Shapes: T time steps, B batch, I inputs, H hidden units, C classes.

INPUTS, CLASSES, STEPS = 40, 5, 30


class Classifier(nn.Module):
    """Says what kind of sequence it reads. No width of it is a round number."""

    def __init__(self, units: int = 317, hidden: int = 301) -> None:
        super().__init__()
        self.rnn = nn.LSTM(INPUTS, units)
        self.hidden = nn.Linear(units, hidden)
        self.classes = nn.Linear(hidden, CLASSES)

    def forward(self, x_tbi: torch.Tensor) -> torch.Tensor:
        """The logits of each sequence, from the units after the last step."""
        _, (h_1bh, _) = self.rnn(x_tbi)
        logits_bc: torch.Tensor = self.classes(torch.relu(self.hidden(h_1bh[-1])))
        return logits_bc


def make_sequences(batch: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences x_tbi of noise, and which of their first inputs is largest on average, class_b."""
    generator = torch.Generator().manual_seed(seed)
    x_tbi = torch.randn(STEPS, batch, INPUTS, generator=generator)
    return x_tbi, x_tbi[:, :, :CLASSES].mean(0).argmax(-1)


def make_input() -> torch.Tensor:
    """What the network is called with in use: 16 sequences. Latencies depend on their number."""
    return make_sequences(16, seed=1)[0]


def make_network() -> Classifier:
    """A network trained for some seconds."""
    return train(Classifier(), batches=150)


def train(network: Classifier, *, batches: int) -> Classifier:
    """The network after so many batches."""
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for number in range(batches):
        x_tbi, class_b = make_sequences(64, seed=100 + number)
        loss = F.cross_entropy(network(x_tbi), class_b)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network.eval()


@torch.no_grad()
def count_right(network: nn.Module, *, of: int = 1000) -> int:
    """How many of these sequences, which training never showed, are classified right."""
    x_tbi, class_b = make_sequences(of, seed=2)
    return int((network(x_tbi).argmax(-1) == class_b).sum())
