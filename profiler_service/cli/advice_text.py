"""Writes the advice about a model's layers: rows of a table, lines, and JSON.

Pure. Knows neither torch nor the service.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from profiler_service.cli.advise import Advice
from profiler_service.wire import LhpAnswer
from profiler_service.wording import format_dims, format_seconds

if TYPE_CHECKING:
    from profiler_service.advice.layers import Inspection, Layer

PLAIN = (("direction", "uni"), ("layers", 1))
"""Parameters that the table leaves out, because they are the same for most users."""
HEADINGS = ("LAYER", "WORKLOAD", "NOW", "LHP", "FASTER (95 %)", "LATENCY", "SIZES", "WEIGHTS")
FED = frozenset(("in_features", "input_size", "in_channels", "nx"))
"""Arguments that must fit the output of the layer before."""
NAMES_SHOWN = 3
"""How many names of equal layers are shown."""


def advice_row(advice: Advice, total: int) -> list[str]:
    """The advice as a row of the table under HEADINGS; the model has `total` parameters."""
    question, answer = advice.question, advice.answer
    params = " ".join(
        f"{name}={value}" for name, value in question.params if (name, value) not in PLAIN
    )
    row = [_list_names(advice.layers), f"{question.kind} {params}", format_dims(question.dims)]
    share = format_share(advice.layers, total)
    if answer is None:
        return [*row, "–", advice.problem, "", "", share]
    if answer.lhp == answer.dims:
        why = "keep: an LHP" if answer.is_lhp else "keep: nothing larger is confidently faster"
        latency = format_seconds(answer.latency_s) + _doubts(answer)
        return [*row, format_dims(answer.lhp), why, latency, "", share]
    percent, low, high = (100 * (ratio - 1) for ratio in (answer.speedup, *answer.speedup_interval))
    now = advice.layers[0].sizes(tuple(answer.dims))
    sizes = advice.layers[0].sizes(tuple(answer.lhp))
    return [
        *row,
        format_dims(answer.lhp),
        f"{percent:.1f} % ({low:.1f} to {high:.1f} %)",
        f"{format_seconds(answer.latency_s)} → {format_seconds(answer.lhp_latency_s)}"
        + _doubts(answer),
        ", ".join(
            f"{name}={size}{'*' if name in FED and size != now[name] else ''}"
            for name, size in sizes.items()
        ),
        share,
    ]


def _doubts(answer: LhpAnswer) -> str:
    """What is behind a doubtful latency: `, noisy`."""
    return "".join(
        f", {name}"
        for name, applies in (("disturbed", answer.disturbed), ("noisy", answer.noisy))
        if applies
    )


def format_share(layers: Sequence[Layer], total: int) -> str:
    """The share of the model's `total` parameters that the layers have: `12 %`."""
    number = sum(layer.num_parameters for layer in layers)
    percent = 100 * number / total if total else 0
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.3g} %" if percent < 99.95 or number == total else "> 99.9 %"


def _list_names(layers: Sequence[Layer]) -> str:
    names = [layer.name or "the model itself" for layer in layers]
    rest = len(names) - NAMES_SHOWN
    if rest < 2:  # one more name is as short as its number
        return ", ".join(names)
    return f"{', '.join(names[:NAMES_SHOWN])} and {rest} more"


def describe_rest(layers: Sequence[Layer], total: int) -> list[str]:
    """A line for the layers of each class that aren't asked about, for each reason."""
    rest: dict[tuple[str, str], list[Layer]] = defaultdict(list)
    for layer in layers:
        if layer.problem:
            rest[layer.class_name, layer.problem].append(layer)
    return [
        f"not measured: {len(group)} × {name}, {format_share(group, total)} of the parameters:"
        f" {problem} ({_list_names(group)})"
        for (name, problem), group in rest.items()
    ]


def describe_notes(layers: Sequence[Layer]) -> list[str]:
    """A line for each note about layers that are asked about, with the layers' names."""
    noted: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        for note in () if layer.problem else layer.notes:
            noted[note].append(layer)
    return [f"{_list_names(group)}: {note}" for note, group in noted.items()]


def advice_to_json(given: Sequence[Advice], inspection: Inspection) -> dict[str, object]:
    """The advice for each layer, in the model's order, as JSON-ready values."""
    layers, problem = inspection.layers, inspection.problem
    of_layer = {id(layer): advice for advice in given for layer in advice.layers}
    return {
        "num_parameters": sum(layer.num_parameters for layer in layers),
        "example_problem": None if problem is None else str(problem),
        "layers": [_layer_to_json(layer, of_layer.get(id(layer))) for layer in layers],
    }


def _layer_to_json(layer: Layer, advice: Advice | None) -> dict[str, object]:
    question, answer = layer.question, None if advice is None else advice.answer
    return {
        "name": layer.name,
        "class": layer.class_name,
        "num_parameters": layer.num_parameters,
        "kind": None if question is None else question.kind,
        "dims": None if question is None else list(question.dims),
        "params": None if question is None else dict(question.params),
        "multiple_of": None if question is None else list(question.multiple_of) or None,
        "sizes": None if answer is None else layer.sizes(tuple(answer.lhp)),
        "answer": None if answer is None else answer.model_dump(mode="json"),
        "problem": layer.problem or ("" if advice is None else advice.problem),
        "notes": list(layer.notes),
    }
