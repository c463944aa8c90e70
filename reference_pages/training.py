"""The page of the training settings and presets, from `trainer_client.presets`."""

from __future__ import annotations

import ast
import dataclasses
import inspect

from reference_pages.markdown import code, table
from trainer_client import presets
from trainer_client.methods.grow_prune import config

INTRODUCTION = """\
---
hide:
  - toc
---

# Training settings

`lhp-train … --preset NAME` chooses a column; `--set NAME=VALUE` changes one setting of it, and may
be given several times. A cell is empty if the preset has the value of `paper`. [The four training
steps](../explanation/training.md) explains what each step does.

"""
RESUME = """
## What may change in a resumed run

A run that is resumed has its own settings. `--set` may change these at any time: {any_time}. Until
step (a) has ended, it may also change these: {later}. Any other setting that differs from the run's
is refused.
"""


def describe_fields(cls: type) -> dict[str, str]:
    """The text below each field of the dataclass and of its bases, by the field's name."""
    described = {each.name: "" for each in dataclasses.fields(cls)}
    for base in reversed(cls.__mro__[:-1]):
        body = ast.parse(inspect.cleandoc(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, following in zip(body.body, [*body.body[1:], None], strict=True):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            if node.target.id not in described:
                continue
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                described[node.target.id] = inspect.cleandoc(str(following.value.value))
    return described


def training_page() -> str:
    """Every training setting: its value in each preset, and what it does."""
    paper = presets.PRESETS["paper"]
    others = [preset for name, preset in presets.PRESETS.items() if name != "paper"]
    described = describe_fields(presets.TrainingConfig)
    rows = []
    for field in dataclasses.fields(presets.TrainingConfig):
        if field.name == "preset":
            continue
        value = getattr(paper, field.name)
        changed = [getattr(preset, field.name) for preset in others]
        rows.append(
            (
                code(field.name),
                code(value),
                *(code(other) if other != value else "" for other in changed),
                described[field.name],
            )
        )
    names = [preset.preset for preset in others]
    named = {
        "any_time": config.ANY_TIME_SETTINGS,
        "later": config.LATER_SETTINGS - config.ANY_TIME_SETTINGS,
    }
    listed = {name: ", ".join(map(code, sorted(settings))) for name, settings in named.items()}
    whole = table(("setting", "`paper`", *map(code, names), "meaning"), rows)
    return INTRODUCTION + whole + RESUME.format(**listed)
