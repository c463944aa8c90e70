"""The question of `GET /lhp`: which larger dims cost no more?

Knows neither HTTP nor how a sweep is carried out.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.lhp import Answer, Prefer, build_answer, find_answer, keep_asked
from profiler_service.answering.caveats import find_caveats, find_width, is_noisy
from profiler_service.answering.curves import Conditions, Snapshot
from profiler_service.answering.facts import FactsKey, RaceAnswer
from profiler_service.answering.kernel_comparisons import plan_comparison
from profiler_service.answering.known import Known
from profiler_service.answering.resources import evidence_info
from profiler_service.answering.settling import (
    find_margin,
    find_margin_caveat,
    is_enough,
    read_terms,
)
from profiler_service.errors import InvalidRequestError
from profiler_service.grid import MAX_DIM, Grid
from profiler_service.kinds import get_workload_kind
from profiler_service.kinds.kernels import LINEAR_KERNELS, find_kernels
from profiler_service.plan.modes import MODES, Mode
from profiler_service.plan.spec import RaceTerms, SweepSpec
from profiler_service.plan.window import WindowLimits, build_window, read_multiples
from profiler_service.storage.store import CurveHeader, Host
from profiler_service.wire import LhpAnswer, parse_duration, parse_share
from profiler_service.workload import Dims, Workload, parse_dims

Effort = Literal["quick", "thorough"]


@dataclass(frozen=True, kw_only=True)
class LhpQuestion:
    """Which larger dims cost no more? `GET /lhp`, parsed and checked."""

    workload: Workload
    dims: Dims
    prefer: Prefer
    effort: Effort
    window: Grid
    """Its candidates may be the answer. The first one is `dims`."""
    multiple_of: Dims | None = None
    """What an answer above `dims` must be a multiple of, on each axis; None if it needn't."""
    budget_s: float | None = None
    """Most seconds to measure for, if the answer isn't known yet."""
    terms: RaceTerms = field(default_factory=RaceTerms)
    """How closely the answer must be known, and how long a race may go on for that."""
    not_before: dt.datetime | None = None
    """What was measured earlier doesn't count."""
    shared_slack: float | None = None
    """For an answer for several platforms: how much slower it may be on any. None: the default."""

    @classmethod
    def parse(
        cls,
        *,
        dims: str,
        workload: str,
        fixed_parameters: Mapping[str, object],
        prefer: Prefer,
        effort: Effort,
        max_growth: float,
        budget_s: float | None = None,
        margin: str | None = None,
        settle_s: float | None = None,
        slack: str | None = None,
        max_age: str | None = None,
        multiple_of: str | None = None,
        limits: WindowLimits | None = None,
        is_shared: bool = False,
    ) -> LhpQuestion:
        """The question, read from texts. The age of what may answer counts from now.

        `is_shared`: one answer for several platforms is wanted; its `slack` is about all of them.

        Raises InvalidDimsError, UnknownWorkloadError, InvalidWorkloadError, InvalidRequestError.
        """
        described = get_workload_kind(workload).describe(fixed_parameters)
        checked = described.check_dims(parse_dims(dims))
        multiples = read_multiples(multiple_of, described)
        return cls(
            workload=described,
            dims=checked,
            prefer=prefer,
            effort=effort,
            window=build_window(
                described, checked, max_growth=max_growth, multiple_of=multiples, limits=limits
            ),
            multiple_of=multiples,
            budget_s=budget_s,
            terms=_read_terms(
                prefer, margin, settle_s, None if is_shared and prefer == "fastest" else slack
            ),
            shared_slack=parse_share(slack, name="slack") if is_shared and slack else None,
            not_before=None if max_age is None else _find_earliest(max_age),
        )

    @property
    def meaning(self) -> LhpQuestion | None:
        """Itself; None if the question says how old measurements may be."""
        return self if self.not_before is None else None

    @property
    def mode(self) -> Mode:
        """The mode of the sweep that answers it.

        A race knows the fastest of the points that it measured, a survey the fastest of all points.
        Neither knows the nearest or the largest: each of these has a search of its own.
        """
        if self.prefer != "fastest":
            return self.prefer
        return "survey" if self.effort == "thorough" else "race"

    @property
    def sweep(self) -> SweepSpec:
        """The sweep that answers it with the least effort."""
        return SweepSpec(
            workload=self.workload,
            mode=self.mode,
            grid=self.window,
            budget_s=self.budget_s,
            terms=self.terms if MODES[self.mode].is_race else RaceTerms(),
        )

    @property
    def wanted(self) -> str:
        """The dims, for messages."""
        return ",".join(map(str, self.dims))

    @property
    def growth(self) -> Dims:
        """How far above `dims` the answer may lie, per axis."""
        return tuple(b - a for a, b in zip(self.window.first, self.window.last, strict=True))

    @functools.cached_property
    def kernels(self) -> Workload | None:
        """The kernels of the workload at `dims`; None if it has only one, or is sparse."""
        return find_kernels(self.workload, self.dims)

    def find_companion(self, host: Host) -> SweepSpec | None:
        """The comparison of the workload's dense kernels; None if there is at most one.

        Also None if a network's or a layer's race has a budget: the comparison would take a large
        part of the budget, and the user didn't ask for it.
        """
        kernels = self.kernels
        if kernels is None:
            return None
        if self.budget_s is not None and kernels.kind != LINEAR_KERNELS.name:
            return None
        return plan_comparison(kernels, self.workload, host)

    def check_host(self, host: Host) -> None:
        """Always returns: admission checks everything that such a sweep needs."""

    async def find(
        self, known: Known, conditions: Conditions, *, measured: str | None = None
    ) -> LhpAnswer | None:
        """The answer from stored curves and facts, or None. Loads what it needs.

        Some curve must have looked at the whole window, closely enough for the question. From a
        grid, the answer is read as it is. Otherwise it is the pair of which the facts say that it
        is surely faster by most, whichever race confirmed it.
        """
        reading = await self._read(known, conditions, measured)
        if reading is None:
            return None
        answer = await self._answer(known, reading, measured)
        answer = await known.kernels.complete(answer, self.workload.axes)
        if self.kernels is None:
            return answer
        faster = await known.comparisons.find_faster_backend(
            self.kernels, self.workload, conditions
        )
        is_open = known.comparisons.is_open(self.kernels, conditions)
        return answer.model_copy(
            update={"faster_backend": faster, "comparing_backends": faster is None and is_open}
        )

    async def _read(
        self, known: Known, conditions: Conditions, measured: str | None
    ) -> Reading | None:
        """What the curves say; None if none of them answers.

        The answer comes from the newest curve that has a verdict, even if newer curves have none:
        a race that was cancelled early must not hide a better one. There is one exception. A race
        that ran to its end without a verdict overrules earlier races over the same window that
        measured no more closely: otherwise the race with the luckiest noise would answer. If no
        curve has a verdict, the newest one says so.
        """
        newest: tuple[Answer, CurveHeader] | None = None
        undecided: tuple[Answer, CurveHeader] | None = None
        overruled: set[tuple[Mode, Grid]] = set()
        for header in await known.curves.find_covering(
            self.workload, self.window, self.mode, conditions
        ):
            if (header.mode, header.grid) in overruled or not self.is_fresh(header, measured):
                continue
            curve = await known.curves.load_curve(header.id)
            answer = self._read_curve(curve, header, is_for_this=header.id == measured)
            if answer is None:
                continue
            newest = newest or (answer, header)
            if answer.has_moved or answer.verdict != "ambiguous":
                return Reading(decided=(answer, header), newest=newest)
            undecided = undecided or (answer, header)
            if not header.evidence.cut_short:
                overruled |= {(mode, header.grid) for mode in MODES[header.mode].overrules}
        return undecided and newest and Reading(decided=undecided, newest=newest)

    def is_fresh(self, header: CurveHeader, measured: str | None) -> bool:
        """Whether the curve is new enough; `measured` is, as it was measured for the question."""
        return (
            self.not_before is None
            or header.measured_at >= self.not_before
            or header.id == measured
        )

    def _read_curve(
        self, curve: LatencyCurve, header: CurveHeader, *, is_for_this: bool
    ) -> Answer | None:
        """The answer from one curve; None if the curve doesn't have it, or not closely enough.

        A curve that was measured for this question is as close as it could be.
        """
        is_race = MODES[header.mode].is_race
        if is_race and header.grid != self.window:
            # The best point of a larger window is this window's best only if it lies inside.
            target = int(curve.answers.target[0])
            if target < 0 or not self.window.is_candidate(curve.grid.dims(target)):
                return None
        if is_race and (curve.evidence.slack or 0.0) != self.terms.slack:
            return None
        answer = find_answer(
            curve,
            self.dims,
            prefer=self.prefer,
            growth=self.growth,
            multiple_of=self.multiple_of,
            slack=self.terms.slack,
            is_race=is_race,
        )
        if answer is None:
            return None
        if not is_race:
            # A grid has no margin.
            wants_margin = MODES[self.mode].is_race and self.terms.margin is not None
            return None if wants_margin else answer
        if is_for_this:
            return answer
        if not is_enough(curve.evidence, self.terms, self.budget_s):
            return None
        if answer.has_moved:
            return answer
        # A race with less time than this question allows may have missed a better point.
        given_s = curve.evidence.asked_budget_s
        if given_s is not None and (self.budget_s is None or self.budget_s > given_s):
            return None
        return answer

    async def _answer(self, known: Known, reading: Reading, measured: str | None) -> LhpAnswer:
        """The answer from what curves and facts say together."""
        answer, header = reading.decided
        snapshot = known.curves.snapshot
        if self.prefer != "fastest":
            # Facts know which points are faster, not which nearer ones aren't.
            labelled = label_answer(answer, header, snapshot)
            return self._finish(labelled, reading).model_copy(update={"slack": self.terms.slack})
        if not MODES[header.mode].is_race:
            return self._finish(label_answer(answer, header, snapshot), None)
        races = await known.curves.find_races(
            self.workload, self.dims, header.platform_key, header.protocol_key
        )
        point = await known.facts.get(
            FactsKey(self.workload.key, header.platform_key, header.protocol_key, self.dims)
        )
        choice = point.choose(
            self.window,
            lambda fact: fact.curve_id in races and self.is_fresh(races[fact.curve_id], measured),
            raced=RaceAnswer(curve_id=header.id, rival=answer.lhp),
        )
        if choice.fastest is not None:
            header = races[choice.counted[-1].curve_id]
            curve = await known.curves.load_curve(header.id)
            answer = build_answer(curve, self.dims, choice.fastest)
        elif answer.verdict == "faster" and choice.knows(answer.lhp):
            # What its race confirmed, later facts about the same pair take back.
            curve = await known.curves.load_curve(header.id)
            answer = keep_asked(curve, self.dims, are_all_slower=choice.are_all_slower)
        labelled = label_answer(answer, header, snapshot)
        return self._finish(labelled, reading).model_copy(
            update={
                "facts": [fact.id for fact in choice.counted],
                "contradicts": list(choice.contradicts),
            }
        )

    def _finish(self, answer: LhpAnswer, reading: Reading | None) -> LhpAnswer:
        """The answer with how closely it is known: by the newest race of the window, if any."""
        is_edge = any(
            axis.count > 1 and axis.last < MAX_DIM and dim == axis.last
            for axis, dim in zip(self.window.axes, answer.lhp, strict=True)
        )
        if reading is None or not MODES[reading.newest[1].mode].is_race:
            return answer.model_copy(update={"edge": is_edge})
        said, header = reading.newest
        evidence = header.evidence
        is_its_own = tuple(answer.lhp) == said.lhp
        speedups = None if is_its_own else (said.speedup_interval, answer.speedup_interval)
        margin, settled = find_margin(evidence, self.terms, carried=speedups)
        is_lhp = answer.is_lhp and (settled or MODES[header.mode].visits_every_point)
        return answer.model_copy(
            update={
                "edge": is_edge,
                "margin": margin,
                "settled": settled,
                "unseen_risk": evidence.unseen_risk,
                "is_lhp": is_lhp,
                "caveats": [
                    *answer.caveats,
                    *find_margin_caveat(margin, self.terms, settled=settled),
                ],
            }
        )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the curves over a window say."""

    decided: tuple[Answer, CurveHeader]
    """The answer, from the newest curve with a verdict that isn't overruled."""
    newest: tuple[Answer, CurveHeader]
    """What the newest curve says that answers at all: how closely the window is known."""


@functools.lru_cache(maxsize=1024)
def _read_terms(
    prefer: Prefer, margin: str | None, settle_s: float | None, slack: str | None
) -> RaceTerms:
    """Terms from the parameters `margin`, `settle` and `slack`. Raises InvalidRequestError."""
    if slack is not None and prefer == "fastest":
        raise InvalidRequestError(
            "slack is for the nearest or the largest dims; the fastest need none",
            hint="add prefer=nearest or prefer=largest, or leave slack out",
        )
    terms = read_terms(margin=margin, settle_s=settle_s, slack=slack)
    return terms if prefer == "fastest" else replace(terms, margin=None)


def _find_earliest(max_age: str) -> dt.datetime:
    """The time since when measurements may answer. Raises InvalidRequestError for no duration."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=parse_duration(max_age, name="max_age"))


def label_answer(answer: Answer, header: CurveHeader, snapshot: Snapshot) -> LhpAnswer:
    """The answer as sent to the client: what was measured, where and when."""
    low_s, high_s = (None if math.isnan(s) else s for s in answer.latency_interval_s)
    width = find_width(answer.latency_s, (low_s, high_s))
    return LhpAnswer(
        dims=list(answer.dims),
        lhp=list(answer.lhp),
        is_lhp=answer.is_lhp,
        grow_by=list(answer.grow_by),
        latency_s=answer.latency_s,
        latency_interval_s=(low_s, high_s),
        lhp_latency_s=answer.lhp_latency_s,
        speedup=answer.speedup,
        speedup_interval=answer.speedup_interval,
        verdict=answer.verdict,
        prefer=answer.prefer,
        workload=header.workload.key,
        platform=header.platform_key,
        host=header.host,
        curve=header.id,
        measured_at=header.measured_at,
        num_samples=answer.num_samples,
        disturbed=bool(header.evidence.disturbed),
        noisy=is_noisy(header.evidence, width),
        caveats=find_caveats(header.evidence, host=header.host, mode=header.mode, width=width),
        stale=snapshot.is_stale(header),
        stale_because=snapshot.describe_changes(header),
        evidence=evidence_info(header.evidence),
        cut_short=bool(header.evidence.cut_short),
    )
