"""Which width a group gets: samples that chose it don't judge it. Latencies by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from profiler_service.client import ServiceClient
from profiler_service.widths import widening
from profiler_service.widths.choice import Table
from profiler_service.widths.latencies import NotMeasured
from profiler_service.widths.structure import Group, LayerSizes, Number, Structure
from profiler_service.widths.tied import TiedGroup

Latencies = list[list[float]]


def group(name: str) -> TiedGroup:
    """A width of 61 that two layers have, and that could be 64 or 72."""
    out = Number(now=61, changes={0: np.array([0, 3, 11])})
    layers = tuple(
        LayerSizes(name=f"{name}.{end}", kind="linear", fixed=(), sizes={"out_features": out})
        for end in ("up", "down")
    )
    return TiedGroup(
        group=Group(name=name, width=61, candidates=(61, 64, 72)),
        multiple_of=1,
        layers=layers,
        left_out=(),
    )


def widen(
    monkeypatch: pytest.MonkeyPatch, chosen_by: Latencies, judged_by: Latencies | None
) -> tuple[list[widening.Widened], list[tuple[tuple[int, ...], bool]]]:
    """The widths of one group for each row, and what was measured; a row is one layer's latency."""
    asked: list[tuple[tuple[int, ...], bool]] = []
    runs = iter([chosen_by, judged_by])

    def fetch(_: object, structure: Structure, **given: Any) -> tuple[list[Table], list[Any]]:
        rows = next(runs)
        asked.extend((each.candidates, given["fresh"]) for each in structure.groups)
        if rows is None:
            return [], [NotMeasured(names=("0.up", "0.down"), reason="the host is away")]
        return [
            Table(groups=layer.groups, values=np.array(rows[layer.groups[0]]))
            for layer in structure.layers
        ], []

    monkeypatch.setattr(widening, "fetch_latencies", fetch)
    groups = [group(str(number)) for number in range(len(chosen_by))]
    with ServiceClient("http://127.0.0.1:9") as client:
        return widening.widen_each(client, groups, time_s=10.0), asked


def test_what_new_samples_confirm_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,), asked = widen(monkeypatch, [[1.0, 0.8, 0.9]], [[1.0, 0.85]])
    assert asked == [((61, 64, 72), False), ((61, 64), True)]
    # Two layers; the latencies told are those of the judging samples.
    assert (found.width, found.now_s, found.chosen_s) == (64, 2.0, 1.7)


@pytest.mark.parametrize("again", [[1.0, 1.0], [1.0, 0.995], [0.8, 1.0]])
def test_what_only_seemed_faster_stays(monkeypatch: pytest.MonkeyPatch, again: list[float]) -> None:
    (found,), _ = widen(monkeypatch, [[1.0, 1.1, 0.7]], [again])
    assert (found.width, found.now_s, found.chosen_s) == (61, 2 * again[0], 2 * again[0])


def test_nothing_is_judged_if_the_width_now_is_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,), asked = widen(monkeypatch, [[1.0, 1.1, 1.2]], None)
    assert asked == [((61, 64, 72), False)]
    assert (found.width, found.chosen_s) == (61, 2.0)


def test_each_group_is_judged_by_its_own_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen_by = [[1.0, 0.5, 1.0], [1.0, 2.0, 2.0], [3.0, 3.0, 2.0]]
    found, asked = widen(monkeypatch, chosen_by, [[1.0, 1.0], [3.0, 2.0]])
    assert asked[3:] == [((61, 64), True), ((61, 72), True)]
    assert [each.width for each in found] == [61, 61, 72]


def test_without_new_samples_the_width_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,), _ = widen(monkeypatch, [[1.0, 0.5, 1.0]], None)
    assert (found.width, found.now_s, found.chosen_s) == (61, None, None)
    assert [each.reason for each in found.missing] == ["the host is away"]
