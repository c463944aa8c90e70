"""The files of a training run as the trainer writes them: its two logs, and its report. Checked.

The service doesn't import the trainer, so these classes name what pages show. What else a document
has is kept, but not looked at. A task's metric is found by the names of its values:
`valid_perplexity` and `test_perplexity` are of `perplexity`.

Knows no file and no page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from profiler_service.errors import LhpError

MOST_LINES = 25_000
"""Of a log."""
MOST_STEPS = 32
"""Different steps that the lines of one log name. The paper has five."""
MOST_DIMS = 16
LARGEST = 2**53
"""Of any number. Larger whole ones aren't exact in a browser."""

Split = Literal["train", "valid", "test"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Text = Annotated[str, StringConstraints(max_length=1000)]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0)]


class RunFileError(LhpError):
    """A file of a run can't be read, or isn't what the trainer writes. The message names it."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)


class _Measured(_Document):
    """A line of a log, with the metric of its task."""

    step: Name

    @property
    def metric(self) -> str:
        """The name of the task's metric; empty if the line has none."""
        found = [name for name in self.model_extra or {} if name.startswith("valid_")]
        return min(found, default="").removeprefix("valid_")[:100]

    def measured(self, split: Split, metric: str) -> float | None:
        """The metric on a split of the data; None if the line doesn't have it."""
        value: Any = (self.model_extra or {}).get(f"{split}_{metric}")
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if is_number and abs(value) <= LARGEST else None


class LhpReply(_Document):
    """What the service answered in the step of row/column growth."""

    dims: Annotated[list[Whole], Field(max_length=MOST_DIMS)]
    lhp: Annotated[list[Whole], Field(max_length=MOST_DIMS)]
    workload: Text = ""


class StepRow(_Measured):
    """What a step ended with: a line of `steps.jsonl`."""

    dims: Annotated[list[Whole], Field(min_length=1, max_length=MOST_DIMS)]
    recurrent_parameters: Whole | None = None
    density: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the parameters that live; None if all do."""
    rounds: Whole | None = None
    rounds_accepted: Whole | None = None
    threshold: float | None = None
    """Largest validation metric with which a round was accepted."""
    kept_threshold: bool | None = None
    answer: LhpReply | None = None


class EpochRow(_Measured):
    """What an epoch ended with: a line of `epochs.jsonl`."""

    round: Whole
    epoch: Whole
    """Number within the step."""


class StepLatency(_Document):
    """The latency of a step's dims, as the service measured it for the report."""

    latency_s: Positive
    low_s: Positive | None
    """Lower end of the 95 % interval."""
    high_s: Positive | None
    ratio: Positive | None
    """Latency divided by that of step (a) in the same sweep; None for a sweep without (a)."""
    ratio_low: Positive | None = None
    ratio_high: Positive | None = None
    curves: Annotated[list[Name], Field(max_length=MOST_DIMS)]
    host: Text
    device: Text = ""
    measured_at: Text = ""
    """Reports of earlier versions don't say device and time."""


class RunReport(_Document):
    """What `lhp-train report` writes: `report.json`."""

    config: dict[str, Any]
    is_finished: bool
    rows: Annotated[list[StepRow], Field(max_length=MOST_STEPS)]
    latencies: dict[str, StepLatency]
    """By step."""


RowT = TypeVar("RowT", bound=_Measured)


def parse_log(model: type[RowT], content: bytes, name: str) -> Sequence[RowT]:
    """The lines of a log. `name` is the file's, for errors. Raises RunFileError."""
    lines = content.splitlines()
    if len(lines) > MOST_LINES:
        raise RunFileError(f"{name} has {len(lines):,} lines, more than {MOST_LINES:,}")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(model.model_validate_json(line))
        except ValidationError as error:
            raise RunFileError(f"line {number} of {name} {_explain(error)}") from None
    if len({row.step for row in rows}) > MOST_STEPS:
        raise RunFileError(f"{name} names more than {MOST_STEPS} steps")
    return rows


def parse_report(content: bytes, name: str) -> RunReport:
    """The report. `name` is the file's, for errors. Raises RunFileError."""
    try:
        return RunReport.model_validate_json(content)
    except ValidationError as error:
        raise RunFileError(f"{name} {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return "is cut or damaged"
    place = ".".join(str(each)[:40] for each in first["loc"][:4])
    return f"isn't what the trainer writes: {place or 'it'}: {first['msg'][:200]}"
