"""Questions to a latency oracle, and its answers, which are checked before they are used.

Knows neither HTTP nor files; needs no torch.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from profiler_service.client import ContractError
from profiler_service.errors import InvalidRequestError
from profiler_service.kinds import get_workload_kind
from profiler_service.suggestions import did_you_mean
from profiler_service.wire import LhpAnswer
from profiler_service.workload import Dims, Workload

Prefer = Literal["fastest", "nearest", "largest"]
Effort = Literal["quick", "thorough"]
Source = Literal["service", "cache", "recording"]

TERMS = frozenset({"margin", "settle", "max_age"})
"""Parameters of `GET /lhp` that say how sure an answer must be, and how new."""
MIN_GROWTH = 32
"""A window extends at least this far above the dims asked for, on every axis."""


class WrongPlatformError(ContractError):
    """The answer was measured on another platform than the pinned one."""


@dataclass(frozen=True, kw_only=True)
class LatencyQuestion:
    """The question which larger dims cost no more than `dims`. All oracles use it."""

    workload: Workload
    dims: Dims
    prefer: Prefer = "fastest"
    effort: Effort = "quick"
    max_growth: float = 0.125
    multiple_of: tuple[int, ...] | None = None
    """What larger dims must be multiples of, one number for each axis; None for any."""
    slack: float = 0.0
    """The share by which the nearest or the largest dims may be slower."""

    @classmethod
    def of(
        cls,
        dims: Sequence[int],
        *,
        workload: str,
        params: Mapping[str, int | str] | None,
        prefer: Prefer,
        effort: Effort,
        max_growth: float,
        multiple_of: int | Sequence[int] | None = None,
        slack: float = 0.0,
    ) -> LatencyQuestion:
        """The question with these values, checked.

        Raises UnknownWorkloadError, InvalidWorkloadError, InvalidDimsError,
        InvalidRequestError.
        """
        if not 0 <= max_growth <= 1:
            raise InvalidRequestError(
                f"max_growth={max_growth} is outside 0 to 1",
                hint="it is a share of each dimension: 0.125 looks up to 12.5 % above it",
            )
        if not 0 <= slack < 1 or (slack and prefer == "fastest"):
            raise InvalidRequestError(
                f"slack={slack} with prefer={prefer!r}",
                hint="it is a share from 0 to below 1, for prefer='nearest' and 'largest' only",
            )
        described = get_workload_kind(workload).describe(params)
        if isinstance(multiple_of, int):
            multiple_of = [multiple_of] * len(described.axes)
        multiples = None if multiple_of is None else tuple(map(int, multiple_of))
        if multiples is not None and (len(multiples) != len(dims) or min(multiples) < 1):
            raise InvalidRequestError(
                f"multiple_of={multiple_of} isn't one whole number from 1 up for each dimension",
                hint="give one number for all axes, or one for each; 1 allows every dimension",
            )
        return cls(
            workload=described,
            dims=described.check_dims(dims),
            prefer=prefer,
            effort=effort,
            max_growth=float(max_growth),
            multiple_of=multiples,
            slack=round(float(slack), 9),
        )

    @property
    def text(self) -> str:
        """The question as text, for people and as a key. Equal questions have equal texts."""
        dims, text = ",".join(map(str, self.dims)), self._multiples_text
        return (
            f"{self.workload.key} {dims} prefer={self.prefer} effort={self.effort}"
            f" max_growth={self.max_growth!r}"
            + (f" multiple_of={text}" if text else "")
            + (f" slack={self.slack!r}" if self.slack else "")
        )

    @property
    def _multiples_text(self) -> str:
        """`1,64`; empty if any dims will do."""
        return "" if self.multiple_of is None else ",".join(map(str, self.multiple_of))

    @property
    def parameters(self) -> dict[str, str | int | float]:
        """The question as query parameters of `GET /lhp`."""
        return {
            "dims": ",".join(map(str, self.dims)),
            "workload": self.workload.kind,
            "prefer": self.prefer,
            "effort": self.effort,
            "max_growth": self.max_growth,
            **({"multiple_of": text} if (text := self._multiples_text) else {}),
            **({"slack": f"{self.slack:.9f}"} if self.slack else {}),
            **dict(self.workload.params),
        }


@dataclass(frozen=True, kw_only=True)
class LatencyAnswer:
    """Larger dims that cost no more, as measured; if there are none, the dims asked for.

    `speedup` is `latency_s` over `lhp_latency_s`, with its 95 % interval.
    """

    dims: Dims
    lhp: Dims
    is_lhp: bool
    latency_s: float
    lhp_latency_s: float
    speedup: float
    speedup_interval: tuple[float, float]
    verdict: Literal["faster", "slower", "ambiguous"]
    prefer: Prefer
    workload: str
    """Key of the workload."""
    platform: str
    """Key of the platform on which it was measured."""
    host: str
    curve: str
    """Id of the curve that the answer was read from."""
    measured_at: dt.datetime
    num_samples: int
    settled: bool = False
    """Whether it is known as closely as was wanted."""
    margin: float | None = None
    """Nothing larger that was compared is more than this share faster; None if that isn't known."""
    stale: bool
    """Whether the host's platform had changed since it was measured."""
    source: Source
    """Where the answer comes from: the `service` itself; the `cache`, because the service is
    away; or a replayed `recording`."""
    received_at: dt.datetime
    """When the service gave it."""

    @property
    def grow_by(self) -> Dims:
        """`lhp` minus `dims`, per axis."""
        return tuple(b - a for a, b in zip(self.dims, self.lhp, strict=True))


def check_terms(terms: Mapping[str, str | float]) -> dict[str, str | int | float]:
    """The terms as query parameters. Raises InvalidRequestError for one that isn't among TERMS."""
    if unknown := sorted(terms.keys() - TERMS):
        raise InvalidRequestError(
            f"{unknown[0]!r} is no term of a question",
            hint=did_you_mean(unknown[0], sorted(TERMS))
            + f"choose from: {', '.join(sorted(TERMS))}",
        )
    return dict(terms)


def check_answer(
    given: LhpAnswer,
    question: LatencyQuestion,
    *,
    platform: str | None,
    host: str | None,
    source: Source,
    received_at: dt.datetime,
) -> LatencyAnswer:
    """The answer `given`, checked against the service's contract.

    Raises WrongPlatformError if `platform` is given and the answer is from another one.
    Raises ContractError if it can't be an answer to the question, or is not from `host` if that is
    given.
    """
    check_platform(given.platform, pinned=platform, source=source)
    breaches = _find_breaches(given, question, host)
    if breaches:
        raise ContractError(
            f"the {source}'s answer to {question.text!r} breaks the contract:"
            f" {'; '.join(breaches)}",
            hint="don't use it; report it to the service's operator",
        )
    return LatencyAnswer(
        dims=tuple(given.dims),
        lhp=tuple(given.lhp),
        is_lhp=given.is_lhp,
        latency_s=given.latency_s,
        lhp_latency_s=given.lhp_latency_s,
        speedup=given.speedup,
        speedup_interval=given.speedup_interval,
        verdict=given.verdict,
        prefer=given.prefer,
        workload=given.workload,
        platform=given.platform,
        host=given.host,
        curve=given.curve,
        measured_at=given.measured_at,
        num_samples=given.num_samples,
        settled=given.settled,
        margin=given.margin,
        stale=given.stale,
        source=source,
        received_at=received_at,
    )


def check_platform(given: str, *, pinned: str | None, source: Source) -> None:
    """Checks that platform `given` is the pinned one, if any. Raises WrongPlatformError."""
    if pinned not in (None, given):
        raise WrongPlatformError(
            f"asked about platform {pinned!r}, the {source} answered for {given!r}",
            hint="pin the platform that will run the model",
            see="/platforms",
        )


def _find_breaches(given: LhpAnswer, question: LatencyQuestion, host: str | None) -> list[str]:
    """The errors found in the answer; empty if there are none."""
    dims, lhp = tuple(given.dims), tuple(given.lhp)
    if dims != question.dims:
        return [f"it is about dims {list(dims)}"]
    if len(lhp) != len(dims):
        return [f"its lhp {list(lhp)} has {len(lhp)} axes instead of {len(dims)}"]
    found = []
    if any(b < a for a, b in zip(dims, lhp, strict=True)):
        found.append(f"its lhp {list(lhp)} is smaller than the dims asked for")
    furthest = [dim + max(MIN_GROWTH, int(dim * question.max_growth)) for dim in dims]
    if any(b > most for b, most in zip(lhp, furthest, strict=True)):
        found.append(f"its lhp {list(lhp)} is beyond the growth allowed, {furthest}")
    multiples = question.multiple_of or (1,) * len(dims)
    if lhp != dims and any(b % each for b, each in zip(lhp, multiples, strict=True)):
        found.append(f"its lhp {list(lhp)} isn't a multiple of {list(multiples)}")
    if given.grow_by != [b - a for a, b in zip(dims, lhp, strict=True)]:
        found.append(f"grow_by {given.grow_by} is not lhp minus dims")
    if given.workload != question.workload.key:
        found.append(f"it is about {given.workload}")
    if given.prefer != question.prefer:
        found.append(f"it prefers the {given.prefer}")
    if host is not None and given.host != host:
        found.append(f"host {given.host!r} measured, not {host!r}")
    if (lhp != dims) != (given.verdict == "faster") and not (question.slack and lhp != dims):
        found.append(f"verdict {given.verdict!r} with lhp {list(lhp)}")
    low, high = given.speedup_interval
    figures = (given.latency_s, given.lhp_latency_s, given.speedup, low, high)
    if not all(math.isfinite(each) and each > 0 for each in figures) or low > high:
        found.append("its latencies, speedup and interval aren't all positive and in order")
    elif lhp != dims and low < 1 / (1 + question.slack):
        found.append(f"it grows, but may be slower (interval {low:g} to {high:g})")
    if given.num_samples < 1:
        found.append("it rests on no samples")
    return found
