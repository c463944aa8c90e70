from __future__ import annotations

import dataclasses

import pytest

from trainer_client.presets import (
    PAPER,
    PRESETS,
    TrainingConfig,
    UnknownPresetError,
    get_preset,
)
from trainer_client.run.settings import InvalidConfigError


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name: str) -> None:
    preset = get_preset(name)
    assert preset.preset == name
    assert TrainingConfig.from_json(preset.to_json()) == preset


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UnknownPresetError, match="'large'") as raised:
        get_preset("large")
    assert raised.value.hint == "choose one of: smoke, small, full, paper"


def test_the_paper_preset_is_the_papers() -> None:
    # Section 5.1: SGD, rate 30 divided by 10 after 50 epochs, batch 32, weight decay 1.2e-6,
    # dropout 0.2 in gates, 0.65 of embeddings, 0.1 of words; half sparse; growth by 10 % in the
    # first 8 epochs; pruning from 20 % and from 70 %.
    assert (PAPER.optimiser, PAPER.learning_rate, PAPER.rate_decay) == ("sgd", 30.0, 10.0)
    assert (PAPER.patience_epochs, PAPER.batch, PAPER.weight_decay) == (50, 32, 1.2e-6)
    dropouts = (PAPER.dropout_gates, PAPER.dropout_embedding, PAPER.dropout_words)
    assert dropouts == (0.2, 0.65, 0.1)
    assert (PAPER.seed_density, PAPER.growth_ratio, PAPER.growth_epochs) == (0.5, 0.1, 8)
    assert (PAPER.unit_ratio, PAPER.weight_ratio) == (0.2, 0.7)
    assert (PAPER.latency_batch, PAPER.latency_steps) == (16, 70)


def test_text_is_read_as_what_the_field_holds() -> None:
    changed = PAPER.with_changes(
        {"batch": "8", "learning_rate": "2", "threshold": "none", "route": "sparse"}
    )
    assert (changed.batch, changed.learning_rate) == (8, 2.0)
    assert changed.threshold is None
    assert changed.route == "sparse"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch", 0),
        ("batch", 2.5),
        ("batch", "many"),
        ("batch", True),
        ("batch", None),
        ("learning_rate", float("nan")),
        ("learning_rate", "inf"),
        ("learning_rate", -1),
        ("dropout_gates", 1.0),
        ("seed_density", 0.0),
        ("growth_ratio", 1.0),
        ("rate_decay", 1.0),
        ("route", "short"),
        ("optimiser", "adam"),
        ("precision", "float16"),
        ("max_growth", 1.5),
        ("seed", -1),
        ("state_width", 401),
    ],
)
def test_what_cant_be_meant_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidConfigError, match=name) as raised:
        PAPER.with_changes({name: value})
    assert raised.value.hint


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="'momentum'") as raised:
        PAPER.with_changes({"momentum": 0.9})
    assert "learning_rate" in raised.value.hint


def test_every_field_is_checked_or_free() -> None:
    # A wrong type is refused for every field but the two names, which others check.
    for field in dataclasses.fields(TrainingConfig):
        if field.name not in ("preset", "corpus"):
            with pytest.raises(InvalidConfigError, match=field.name):
                PAPER.with_changes({field.name: "nonsense"})
