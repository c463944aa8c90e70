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
HEADINGS = (
    "LAYER",
    "WORKLOAD",
    "NOW",
    "LHP",
    "FASTER (95 %)",
    "LATENCY",
    "SIZES",
    "WEIGHTS",
    "TIME",
)
TIME_DIGITS = 2
"""More digits of a share of time would change from run to run."""
WHOLE = "†"
"""Marks the time of a whole layer at one of its products."""
FED = frozenset(("in_features", "input_size", "in_channels", "nx"))
"""Arguments that must fit the output of the layer before."""
NAMES_SHOWN = 3
"""How many names of equal layers are shown."""


def advice_row(advice: Advice, total: int) -> list[str]:
    """The advice as a row of the table under HEADINGS; the model has `total` parameters.

    The time is empty if it isn't known.
    """
    question, answer = advice.question, advice.answer
    params = " ".join(
        f"{name}={value}" for name, value in question.params if (name, value) not in PLAIN
    )
    row = [_list_names(advice.layers), f"{question.kind} {params}", format_dims(question.dims)]
    shares = [format_share(advice.layers, total), format_time_share(advice.layers)]
    if answer is None:
        return [*row, "–", advice.problem, "", "", *shares]
    if answer.lhp == answer.dims:
        why = _say_why_kept(answer)
        latency = format_seconds(answer.latency_s) + _doubts(answer)
        return [*row, format_dims(answer.lhp), why, latency, "", *shares]
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
        *shares,
    ]


def _say_why_kept(answer: LhpAnswer) -> str:
    if answer.cut_short:
        return "keep: the time ended before anything larger could be judged"
    return "keep: an LHP" if answer.is_lhp else "keep: nothing larger is confidently faster"


def _doubts(answer: LhpAnswer) -> str:
    """What is behind a doubtful latency: `, noisy`."""
    return "".join(
        f", {name}"
        for name, applies in (
            ("disturbed", answer.disturbed),
            ("noisy", answer.noisy),
            ("not settled", answer.evidence.settled is not None and not answer.settled),
        )
        if applies
    )


def format_share(layers: Sequence[Layer], total: int) -> str:
    """The share of the model's `total` parameters that the layers have: `12 %`."""
    number = sum(layer.num_parameters for layer in layers)
    return format_percent(number / total if total else 0.0)


def find_time_share(layers: Sequence[Layer]) -> float | None:
    """The share of the model's time that the layers take; None if it isn't known of all.

    Products of one layer have its time together, which counts once.
    """
    shares: dict[object, float | None] = {}
    for layer in layers:
        shares[id(layer) if layer.whole_name is None else layer.whole_name] = layer.time_share
    known = [each for each in shares.values() if each is not None]
    return sum(known) if len(known) == len(shares) else None


def format_time_share(layers: Sequence[Layer]) -> str:
    """That share as text, marked if it is that of whole layers; empty if it isn't known."""
    share = find_time_share(layers)
    if share is None:
        return ""
    return format_percent(share, digits=TIME_DIGITS) + (
        WHOLE if any(layer.whole_name is not None for layer in layers) else ""
    )


def format_percent(share: float, *, digits: int = 3) -> str:
    """A share with so many digits; never rounded to nothing, nor to all."""
    percent = 100 * share
    if 0 < percent < 0.1:
        return "< 0.1 %"
    below_all = 100 - 10 ** (2 - digits)  # 99.9 with three digits, 99 with two
    if share < 1 and percent > below_all:
        return f"> {below_all:g} %"
    return f"{percent:.{digits if share < 1 else 3}g} %"


def _list_names(layers: Sequence[Layer]) -> str:
    names = [layer.name or "the model itself" for layer in layers]
    rest = len(names) - NAMES_SHOWN
    if rest < 2:  # one more name is as short as its number
        return ", ".join(names)
    return f"{', '.join(names[:NAMES_SHOWN])} and {rest} more"


def describe_rest(inspection: Inspection) -> list[str]:
    """A line for the layers of each class that aren't asked about, for each reason.

    If times are known, also a line for what no layer accounts for.
    """
    total = sum(layer.num_parameters for layer in inspection.layers)
    rest: dict[tuple[str, str], list[Layer]] = defaultdict(list)
    for layer in inspection.layers:
        if layer.problem:
            rest[layer.class_name, layer.problem].append(layer)
    lines = []
    for (name, problem), group in rest.items():
        shares = f"{format_share(group, total)} of the parameters"
        if time := format_time_share(group):
            shares += f", {time} of the time"
        lines.append(
            f"not measured: {len(group)} × {name}, {shares}: {problem} ({_list_names(group)})"
        )
    if inspection.shares is not None:
        share = format_percent(inspection.shares.rest, digits=TIME_DIGITS)
        lines.append(
            f"in no layer: {share} of the time, for what the model computes between its layers"
        )
    return lines


def describe_times(inspection: Inspection) -> list[str]:
    """Lines that say how the times were taken, or why there are none."""
    shares, problem = inspection.shares, inspection.shares_problem
    if problem is not None:
        return [f"shares of time aren't known: {problem}"]
    if shares is None:
        return []
    runs = "one run" if shares.num_runs == 1 else f"{shares.num_runs} runs"
    lines = [f"TIME: shares of {runs} on the example here, {format_seconds(shares.run_s)} each"]
    if any(layer.whole_name is not None for layer in inspection.layers):
        lines.append(f"{WHOLE} the time of the whole layer, of which this is one product")
    return lines


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
        "time": _times_to_json(inspection),
        "layers": [_layer_to_json(layer, of_layer.get(id(layer))) for layer in layers],
    }


def _times_to_json(inspection: Inspection) -> dict[str, object]:
    shares, problem = inspection.shares, inspection.shares_problem
    return {
        "run_s": None if shares is None else shares.run_s,
        "num_runs": 0 if shares is None else shares.num_runs,
        "rest_share": None if shares is None else shares.rest,
        "problem": None if problem is None else str(problem),
    }


def _layer_to_json(layer: Layer, advice: Advice | None) -> dict[str, object]:
    question, answer = layer.question, None if advice is None else advice.answer
    return {
        "name": layer.name,
        "class": layer.class_name,
        "num_parameters": layer.num_parameters,
        "time_share": layer.time_share,
        "time_is_of": layer.name if layer.whole_name is None else layer.whole_name,
        "kind": None if question is None else question.kind,
        "dims": None if question is None else list(question.dims),
        "params": None if question is None else dict(question.params),
        "multiple_of": None if question is None else list(question.multiple_of) or None,
        "sizes": None if answer is None else layer.sizes(tuple(answer.lhp)),
        "answer": None if answer is None else answer.model_dump(mode="json"),
        "problem": layer.problem or ("" if advice is None else advice.problem),
        "notes": list(layer.notes),
    }
