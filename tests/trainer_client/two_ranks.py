"""Run by torchrun: a run through the steps, and each rank's model as a file.

Before, a question that can't be answered.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from profiler_service.errors import NotFoundError
from tests.trainer_client.texts import tiny_config, tiny_corpus
from trainer_client.language_model import MaskedHLSTM
from trainer_client.ranks import Ranks
from trainer_client.synthesis import synthesise
from trainer_client.train import TrainingRun


def ranks_agree_on_errors(ranks: Ranks, out: Path) -> None:
    """Leaves what each rank hears of a question that the first one can't answer."""
    assert ranks.ask_first(lambda: ranks.rank) == 0

    def fail() -> int:
        raise NotFoundError("nobody knows", hint="ask later")

    try:
        ranks.ask_first(fail)
    except NotFoundError as error:
        (out / f"heard{ranks.rank}.txt").write_text(f"{error}; {error.hint}")


def main() -> None:
    out = Path(sys.argv[1])
    ranks = Ranks(torch.device("cpu"))
    ranks_agree_on_errors(ranks, out)
    run = TrainingRun(tiny_config(when_away="skip"), tiny_corpus(), out, ranks=ranks)
    synthesise(run, None)
    assert isinstance(run.model, MaskedHLSTM)
    found = dict(run.model.state_dict())
    found |= {f"mask {i}": mask for i, mask in enumerate(run.model.masks)}
    torch.save(found, out / f"rank{ranks.rank}.pt")
    ranks.close()


if __name__ == "__main__":
    main()
