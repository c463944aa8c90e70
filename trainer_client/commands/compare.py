"""`lhp-train compare`: which of two exported models predicts a text better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer_client.commands.extra import check_extra


def compare(
    first: Annotated[Path, typer.Argument(help="A model that a run has exported.")],
    second: Annotated[Path, typer.Argument(help="Another model, of the same words.")],
    text: Annotated[Path, typer.Argument(help="A text, as UTF-8; - for standard input.")],
) -> None:
    """Print how two exported models' perplexities on a text compare, with an interval."""
    check_extra()
    from trainer_client.tasks.language_model.comparison import compare as compare_on
    from trainer_client.tasks.language_model.scoring import load_scorer, read_text

    found = compare_on(load_scorer(first), load_scorer(second), read_text(text))
    before, after = found.perplexities
    low, high = found.interval
    meaning = {
        "better": "the second model is better",
        "worse": "the second model is worse",
        "neither": "neither model is surely better",
    }[found.verdict]
    typer.echo(
        f"perplexity {before:.2f} -> {after:.2f}: {found.ratio:.4f} times, {low:.4f} to {high:.4f}"
        f" (95 %, {found.num_predicted:,} tokens in {found.num_blocks:,} blocks); {meaning}"
    )
