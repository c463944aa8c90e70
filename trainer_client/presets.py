"""The configurations that have a name.

The sizes and rates of the preset `paper` come from section 5.1 of Yin et al.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from profiler_service.errors import InvalidRequestError
from profiler_service.suggestions import did_you_mean
from trainer_client.methods.grow_prune.config import GrowPruneConfig
from trainer_client.tasks.language_model.config import LanguageModelConfig


class UnknownPresetError(InvalidRequestError):
    """No preset of that name."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(LanguageModelConfig, GrowPruneConfig):
    """All choices of one run of grow-and-prune on a language model."""


PAPER = TrainingConfig()
"""The full sizes and the paper's descent."""
FULL = dataclasses.replace(
    PAPER,
    preset="full",
    dropout_words=0.1,
    dropout_embedding=0.5,
    dropout_gates=0.2,
    dropout_output=0.4,
    precision="auto",
    optimiser="adamw",
    learning_rate=3e-3,
    retrain_learning_rate=1e-3,
    table_rate=4.0,
    warmup_batches=200,
    schedule="linear",
    baseline_epochs=40,
    growth_epochs=8,
    growth_settling_epochs=32,
    retrain_epochs=8,
    prune_epochs=3,
    lhp_epochs=8,
    woken_start="search",
    latency_dtype="bfloat16",
)
"""The paper's sizes, with a descent that needs a tenth of the epochs."""
SMALL = dataclasses.replace(
    FULL,
    preset="small",
    embedding_width=200,
    state_width=200,
    gate_width=700,
    dropout_words=0.05,
    dropout_embedding=0.3,
    dropout_output=0.3,
    learning_rate=5e-3,
    retrain_learning_rate=1.7e-3,
)
"""Half of the paper's widths: hours on a processor."""
SMOKE = dataclasses.replace(
    SMALL,
    preset="smoke",
    max_train_tokens=24_000,
    max_held_out_tokens=4_000,
    embedding_width=48,
    state_width=48,
    gate_width=96,
    batch=16,
    steps=35,
    dropout_words=0.0,
    dropout_embedding=0.2,
    dropout_gates=0.1,
    dropout_output=0.2,
    learning_rate=5e-3,
    retrain_learning_rate=3e-3,
    table_rate=1.0,
    warmup_batches=10,
    precision="float32",
    baseline_epochs=1,
    growth_epochs=1,
    growth_settling_epochs=1,
    threshold=2_000.0,
    prune_epochs=0,
    min_prune_ratio=0.05,
    slack=0.05,
    retrain_epochs=1,
    lhp_epochs=1,
    max_rounds=1,
    checkpoint_s=5.0,
    woken_start="step",
    latency_dtype="float32",
    latency_batch=4,
    latency_steps=10,
)
"""All four steps in one or two minutes, on a small part of the text. Shows only that they run."""
PRESETS: Mapping[str, TrainingConfig] = MappingProxyType(
    {each.preset: each for each in (SMOKE, SMALL, FULL, PAPER)}
)


def get_preset(name: str) -> TrainingConfig:
    """The preset called `name`. Raises UnknownPresetError."""
    if name not in PRESETS:
        raise UnknownPresetError(
            f"there is no preset {name!r}",
            hint=did_you_mean(name, PRESETS) + f"choose one of: {', '.join(PRESETS)}",
        )
    return PRESETS[name]
