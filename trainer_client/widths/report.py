"""What a padding did: as lines for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler_service.printable import printable
from profiler_service.widths.race import Outcome
from trainer_client.widths.growth import AxisGrowth, Grown
from trainer_client.widths.questions import AskedLayer


@dataclass(frozen=True, kw_only=True)
class PadReport:
    """What a padding did to a module."""

    what: str
    """Where the module is from."""
    axes: tuple[AxisGrowth, ...]
    refused: Mapping[str, str]
    """Layers whose units can't be padded, and why."""
    largest_difference: float | None
    """The largest difference of an output, as a share of the largest; None if nothing changed."""
    outcome: Outcome | None
    """The race against the original module; None if there was none."""
    asked: tuple[AskedLayer, ...] = ()

    @classmethod
    def of(cls, grown: Grown[Any], *, what: str) -> PadReport:
        """The report of a module that was grown."""
        return cls(
            what=what,
            axes=grown.axes,
            refused=grown.refused,
            largest_difference=None if grown.padded is None else grown.padded.largest_difference,
            outcome=grown.outcome,
            asked=grown.asked,
        )

    def to_lines(self) -> list[str]:
        """The report for a terminal."""
        head = ("AXIS", "BEFORE", "NOW", "")
        rows = [(each.axis, str(each.before), str(each.now), each.reason) for each in self.axes]
        widths = [max(len(row[place]) for row in (head, *rows)) for place in range(3)]
        lines = [
            "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]).rstrip()
            for row in (head, *rows)
        ]
        lines += self._results()
        lines += [f"fixed: {name}: {reason}" for name, reason in self.refused.items()]
        return list(map(printable, lines))

    def _results(self) -> list[str]:
        lines = []
        if self.largest_difference is not None:
            lines.append(
                f"equal outputs: the largest difference is {self.largest_difference:.1e} of the"
                " largest output"
            )
        if self.outcome is not None:
            lines.append(f"whole module: {tell_race(self.outcome)}")
        return lines

    def to_markdown(self) -> str:
        """The report as Markdown."""
        lines = [
            f"# {self.what}, padded",
            "",
            *_table(
                ("axis", "units before", "now", "proposed", "layers", "why it stays"),
                [
                    (
                        each.axis,
                        *map(str, (each.before, each.now, each.proposed)),
                        ", ".join(each.layers),
                        each.reason,
                    )
                    for each in self.axes
                ],
            ),
            "",
            *(f"{line[0].upper()}{line[1:]}.\n" for line in self._results()),
        ]
        if self.asked:
            rows = [_tell_asked(each) for each in self.asked]
            head = ("layers", "workload", "dims", "LHP", "alone, times as fast")
            lines += ["## What the service said", "", *_table(head, rows), ""]
        if self.refused:
            lines += ["## What is fixed", "", *_table(("layer", "why"), list(self.refused.items()))]
        return "\n".join(map(printable, "\n".join(lines).splitlines())) + "\n"

    def to_json(self) -> str:
        """The report as JSON."""
        race = self.outcome
        told = {
            "what": self.what,
            "axes": [dataclasses.asdict(each) for each in self.axes],
            "fixed": dict(self.refused),
            "largest_difference": self.largest_difference,
            "race": None
            if race is None
            else {
                "verdict": race.comparison.verdict,
                "latency_ratio": race.comparison.ratio,
                "latency_ratio_interval": [race.comparison.low, race.comparison.high],
                "num_pairs": race.comparison.num_pairs,
                "before_s": race.reference_s,
                "now_s": race.chosen_s,
            },
            "asked": [
                {
                    "layers": each.names,
                    "workload": each.question.kind,
                    "params": dict(each.question.params),
                    "dims": each.question.dims,
                    "lhp": None if each.answer is None else each.answer.lhp,
                    "speedup_interval": None
                    if each.answer is None
                    else each.answer.speedup_interval,
                    "curve": None if each.answer is None else each.answer.curve,
                    "problem": each.problem,
                }
                for each in self.asked
            ],
        }
        return json.dumps(told, indent=1)


def tell_race(outcome: Outcome) -> str:
    """How the padded module compares with the original one."""
    turned = outcome.comparison.turned()
    between = f"{turned.low:.3f} to {turned.high:.3f} times as fast (95 %)"
    told = {
        "faster": f"{turned.ratio:.3f} times as fast, {between}",
        "slower": f"slower, {between}",
        "ambiguous": f"neither surely faster nor slower, {between}",
    }[outcome.comparison.verdict]
    return f"{told}, {outcome.reference_s * 1e3:.3f} ms → {outcome.chosen_s * 1e3:.3f} ms"


def _tell_asked(asked: AskedLayer) -> tuple[str, ...]:
    params = " ".join(f"{name}={value}" for name, value in asked.question.params)
    answer = asked.answer
    return (
        ", ".join(asked.names),
        f"{asked.question.kind} {params}",
        ",".join(map(str, asked.question.dims)),
        asked.problem if answer is None else ",".join(map(str, answer.lhp)),
        "" if answer is None else "{:.3f} to {:.3f}".format(*answer.speedup_interval),
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(each.replace("|", "\\|") for each in row) + " |" for row in cells]
