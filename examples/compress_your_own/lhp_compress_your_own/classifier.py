"""What you replace: a module, its data, and the question about its latency."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainer_client.run.task import Metric, Question
from trainer_client.tasks.supervised import Supervised

WORDS, GROUPS, LENGTH, BATCH = 40, 5, 9, 32


class Classifier(nn.Module):
    """Reads words, and says which group of words occurs most often."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, 29)
        self.lstm = nn.LSTM(29, 61, batch_first=True)
        self.hidden = nn.Linear(61, 37)
        self.out = nn.Linear(37, GROUPS)

    def forward(self, words_bt: Tensor) -> Tensor:
        """Scores of the groups, [batch, groups], for words [batch, steps]."""
        states_bth, _ = self.lstm(self.table(words_bt))
        scores_bg: Tensor = self.out(F.relu(self.hidden(states_bth[:, -1])))
        return scores_bg


def draw(num_batches: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of words, and the group that occurs most often in each sequence."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(num_batches):
        words_bt = torch.randint(WORDS, (BATCH, LENGTH), generator=generator)
        groups_bt = words_bt % GROUPS
        count_bg = F.one_hot(groups_bt, GROUPS).sum(1)
        batches.append((words_bt, count_bg.argmax(1)))
    return batches


def accuracy(scores_bg: Tensor, group_b: Tensor) -> float:
    """The share of sequences whose group is right."""
    return float((scores_bg.argmax(1) == group_b).float().mean())


def ask_about(widths: Mapping[str, int]) -> Question:
    """The LSTM layer is measured: its width, and that of the words' embeddings."""
    axes = ("lstm.units", "table.units")
    return Question(
        axes=axes,
        dims=tuple(widths[axis] for axis in axes),
        workload="lstm",
        params={"batch": BATCH, "steps": LENGTH},
    )


def make_task() -> Supervised:
    """What the module learns, and what it must not lose."""
    return Supervised(
        train=draw(60, seed=1),
        valid=draw(10, seed=2),
        test=draw(10, seed=3),
        loss=F.cross_entropy,
        score=accuracy,
        metric=Metric(name="accuracy", lower_is_better=False),
        ask_about=ask_about,
    )
