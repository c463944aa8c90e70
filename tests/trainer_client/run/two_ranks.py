"""Run by torchrun: a run through the steps, and each rank's model as a file.

Before, a question that can't be answered, a gradient that is no number on one rank alone, and an
epoch without dropout, which one process could have trained as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from profiler_service.errors import NotFoundError
from tests.trainer_client.stand_ins import Oracle, Run
from tests.trainer_client.texts import tiny_config, tiny_corpus
from trainer_client.groups.growth import InvalidGradientError, MeanGradient
from trainer_client.methods.grow_prune.synthesis import synthesise
from trainer_client.run.ranks import Ranks
from trainer_client.tasks.language_model.networks import MaskedHLSTM
from trainer_client.training import make_run


def ranks_agree_on_errors(ranks: Ranks, out: Path) -> None:
    """Leaves what each rank hears of a question that the first one can't answer."""
    assert ranks.ask_first(lambda: ranks.rank) == 0

    def fail() -> int:
        raise NotFoundError("nobody knows", hint="ask later")

    try:
        ranks.ask_first(fail)
    except NotFoundError as error:
        (out / f"heard{ranks.rank}.txt").write_text(f"{error}; {error.hint}")


def ranks_agree_on_gradients(ranks: Ranks, out: Path) -> None:
    """Leaves what each rank hears of an average that the last one spoils."""
    gradients = {name: torch.full((2,), 1.0 + ranks.rank) for name in ("first", "second")}
    mean = MeanGradient()
    mean.add(gradients, count=3)
    assert mean.mean(over_processes=ranks.average)["second"].tolist() == [1.5, 1.5]
    if ranks.rank == 1:
        mean.add({**gradients, "second": torch.full((2,), torch.inf)}, count=1)
    try:
        mean.mean(over_processes=ranks.average)
    except InvalidGradientError as error:
        (out / f"gradient{ranks.rank}.txt").write_text(str(error))


def train_an_epoch(ranks: Ranks, out: Path) -> Run:
    """A run after an epoch of plain descent on the H-LSTM, without dropout."""
    config = tiny_config(
        optimiser="sgd", dropout_embedding=0.0, dropout_gates=0.0, dropout_output=0.0
    )
    run = make_run(config, tiny_corpus(), out, ranks=ranks)
    assert run.compact is run.model
    run.begin_training(max_epochs=1, learning_rate=1.0)
    run.train()
    return run


def main() -> None:
    out = Path(sys.argv[1])
    ranks = Ranks(torch.device("cpu"))
    ranks_agree_on_errors(ranks, out)
    ranks_agree_on_gradients(ranks, out)
    trained = train_an_epoch(ranks, out / "epoch")
    torch.save(trained.model.state_dict(), out / f"epoch{ranks.rank}.pt")
    run = make_run(tiny_config(), tiny_corpus(), out, ranks=ranks)
    synthesise(run, Oracle(2, 1))
    assert run.compact.widths == {"gate_width": 12, "state_width": 8}
    assert isinstance(run.model, MaskedHLSTM)
    found = dict(run.model.state_dict())
    found |= {f"mask {name}": mask for name, mask in run.model.masks.weights.items()}
    torch.save(found, out / f"rank{ranks.rank}.pt")
    ranks.close()


if __name__ == "__main__":
    main()
