"""Answers from curves that are already stored, and everything cached to give them fast.

Knows neither HTTP nor how curves come about. An AnswerBook belongs to one event loop; the
store is called from threads only.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.lhp import Answer, Prefer, find_answer
from profiler_service.analysis.samples import Platform
from profiler_service.answering.resources import is_stale
from profiler_service.grid import Grid
from profiler_service.kinds import get_workload_kind
from profiler_service.kinds.kernels import KERNEL_KINDS, Kernel, find_kernels
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import window_growth
from profiler_service.storage.store import CurveHeader, Host, Store
from profiler_service.wire import FasterBackend, LhpAnswer
from profiler_service.workload import Dims, Workload, WorkloadKind, parse_dims

MAX_CACHED_POINTS = 2_000_000
"""Points of all curves kept in memory together: about 120 MB."""
MAX_INDEXES = 1024
"""Workloads, each under its conditions, whose curves' headers are kept in memory."""
MAX_READY_RESPONSES = 16_384
"""Ready-made responses kept in memory: about 1 KiB each."""
MAX_READY_QUERY_BYTES = 512
OVERRULES: Mapping[Mode, Sequence[Mode]] = {"race": ("race",), "survey": ("race", "survey")}
"""Whose earlier answers a sweep of a mode stands above, when it has gone to its end."""
MAX_CONTESTS = 16_384
"""Comparisons of kernels known of: about 300 bytes each."""


Effort = Literal["quick", "thorough"]

IndexKey = tuple[str, str, str]
"""Keys of a workload, a platform and a protocol."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a query asks, parsed and checked, but for the host and platform it asks about."""

    kind: WorkloadKind
    workload: Workload
    dims: Dims
    prefer: Prefer
    effort: Effort
    window: Grid
    budget_s: float | None = None
    """Measuring time to keep to, where the answer isn't known yet."""

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
    ) -> Question:
        """The question that these texts ask.

        Raises InvalidDimsError, UnknownWorkloadError, InvalidWorkloadError.
        """
        kind = get_workload_kind(workload)
        described = kind.describe(fixed_parameters)
        checked = described.check_dims(parse_dims(dims))
        return cls(
            kind=kind,
            workload=described,
            dims=checked,
            prefer=prefer,
            effort=effort,
            window=Grid.window(checked, window_growth(checked, max_growth)),
            budget_s=budget_s,
        )

    @property
    def mode(self) -> Mode:
        """The sweep that answers it with the least effort.

        A race knows the fastest of the points that it looked at, a survey that of all points.
        Neither confirms any other: they can't say which is the nearest or the largest.
        """
        if self.prefer != "fastest":
            return "grid"
        return "survey" if self.effort == "thorough" else "race"

    @property
    def kernels(self) -> Workload | None:
        """The kernels of the workload at `dims`; None where it has one only, or is sparse."""
        return find_kernels(self.workload, self.dims)

    @property
    def growth(self) -> Dims:
        """How far above `dims` the answer may lie, per axis."""
        return tuple(b - a for a, b in zip(self.window.first, self.window.last, strict=True))


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Where and how the curves that may answer were measured."""

    platform_key: str
    protocol_key: str | None
    """None: that of the newest curve, for a platform that no host is on now."""

    @classmethod
    def of(cls, host: Host) -> Conditions:
        """Those under which the host measures now."""
        return cls(platform_key=host.platform_key, protocol_key=host.protocol_key)


class CurveIndex:
    """The curves of one workload under the same conditions, findable by question."""

    def __init__(self, headers: Sequence[CurveHeader] = ()) -> None:
        """Takes the headers newest first."""
        self.generation = -1
        """Every curve kept up to this generation of the store is here."""
        self.loading: asyncio.Task[None] | None = None
        """Under way while newer curves are being looked for."""
        self._known: set[str] = set()
        self._grids: list[tuple[int, CurveHeader]] = []
        # Races and surveys answer for their first point only; there may be very many of them.
        self._races: defaultdict[Dims, list[tuple[int, CurveHeader]]] = defaultdict(list)
        self._kernels: dict[Grid, CurveHeader] = {}
        self.add(headers)

    def add(self, headers: Sequence[CurveHeader]) -> None:
        """Takes headers, newest first, of newer curves; those that it has it passes over."""
        for header in reversed(headers):
            if header.id in self._known:
                continue
            numbered = (len(self._known), header)
            self._known.add(header.id)
            if header.mode == "grid":
                self._grids.append(numbered)
            elif header.mode == "kernels":
                self._kernels[header.grid] = header
            else:
                self._races[header.grid.first].append(numbered)

    def covering(self, question: Question) -> Iterator[CurveHeader]:
        """Headers of the curves that cover the question's window closely enough, newest first."""
        found = list(self._grids)
        if question.mode != "grid":
            found += [
                (number, header)
                for number, header in self._races.get(question.dims, ())
                if question.mode == "race" or header.mode == "survey"
            ]
        for _, header in sorted(found, key=lambda pair: pair[0], reverse=True):
            if header.grid.contains(question.window):
                yield header

    def find_kernels(self, grid: Grid) -> CurveHeader | None:
        """The header of the newest comparison of the kernels of `grid`, or None."""
        return self._kernels.get(grid)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What is known at one generation of the store. Replaced as a whole by the next one."""

    generation: int
    hosts: Mapping[str, Host]
    platforms: Mapping[str, Platform]
    ready: OrderedDict[bytes, bytes] = field(default_factory=OrderedDict)
    """Query string → the body of the response that it gets in this generation."""

    def keep_ready(self, query_string: bytes, body: bytes) -> None:
        """Keeps the response to a query, and drops the oldest where there are too many."""
        if len(query_string) > MAX_READY_QUERY_BYTES:
            return
        if len(self.ready) >= MAX_READY_RESPONSES:
            self.ready.popitem(last=False)
        self.ready[query_string] = body

    def is_stale(self, header: CurveHeader) -> bool:
        """Whether the curve's host would measure on another platform now, or otherwise."""
        return is_stale(header, self.hosts.get(header.host))


class AnswerBook:
    """Finds the answers that stored curves hold.

    Curves never change once kept, so loaded ones stay until space runs out, and an index of
    them only ever takes newer ones up. Everything else is cached in a Snapshot, valid for one
    generation of the store: call `refresh` often.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._indexes: OrderedDict[IndexKey, CurveIndex] = OrderedDict()
        self._contests: dict[IndexKey, str] = {}
        self._contests_generation = -1
        self._updating_contests = asyncio.Lock()
        self._faster: OrderedDict[tuple[str, str], FasterBackend | None] = OrderedDict()
        self._curves: OrderedDict[str, LatencyCurve] = OrderedDict()
        self._loading: dict[str, asyncio.Task[LatencyCurve]] = {}
        self.snapshot = Snapshot(generation=-1, hosts={}, platforms={})

    async def refresh(self) -> None:
        """Returns when `snapshot` is as new as the store was at the time of the call.

        Raises StoreUnavailableError; the snapshot then stays as it was.
        """
        latest = await asyncio.to_thread(self._read_snapshot)
        # Another refresh may have ended in between.
        if latest is not None and latest.generation > self.snapshot.generation:
            self.snapshot = latest

    def _read_snapshot(self) -> Snapshot | None:
        # The generation is read first: what is read after it can only be newer.
        generation = self._store.generation()
        if generation == self.snapshot.generation:
            return None
        return Snapshot(
            generation=generation,
            hosts={host.name: host for host in self._store.list_hosts()},
            platforms={platform.key: platform for platform in self._store.list_platforms()},
        )

    async def find(self, question: Question, conditions: Conditions) -> LhpAnswer | None:
        """The answer that curves hold, or None; loads what it needs.

        The newest decided one, even where newer curves can't tell: one that was cancelled early
        must not silence a better one. But a race that went to its end and couldn't confirm what
        an earlier one of the same window and no more effort had confirmed overrules that: else the
        luckiest of many would answer. Where none can tell, the newest.
        """
        answer = await self._find(question, conditions)
        return (
            None
            if answer is None
            else await self._with_faster_backend(answer, question, conditions)
        )

    async def _find(self, question: Question, conditions: Conditions) -> LhpAnswer | None:
        snapshot = self.snapshot
        workload_key, platform_key = question.workload.key, conditions.platform_key
        protocol_key = conditions.protocol_key or await asyncio.to_thread(
            self._store.find_newest_protocol, workload_key, platform_key
        )
        if protocol_key is None:
            return None
        key = (workload_key, platform_key, protocol_key)
        index = await self._curve_index(key, snapshot.generation)
        undecided: LhpAnswer | None = None
        overruled: set[tuple[Mode, Grid]] = set()
        for header in index.covering(question):
            if (header.mode, header.grid) in overruled:
                continue
            curve = await self._curve(header.id)
            answer = _answer(curve, header, question)
            if answer is None:
                continue
            found = _lhp_answer(
                answer,
                header,
                stale=snapshot.is_stale(header),
                cut_short=bool(curve.evidence.get("cut_short")),
            )
            if answer.verdict != "ambiguous":
                return found
            undecided = undecided or found
            if not found.cut_short:
                overruled |= {(mode, header.grid) for mode in OVERRULES.get(header.mode, ())}
        return undecided

    async def _with_faster_backend(
        self, answer: LhpAnswer, question: Question, conditions: Conditions
    ) -> LhpAnswer:
        """The answer, which also names the fastest kernel where that is another one."""
        kernels = question.kernels
        if kernels is None or conditions.protocol_key is None:
            return answer
        await self._update_contests(self.snapshot.generation)
        place = (kernels.key, conditions.platform_key, conditions.protocol_key)
        curve_id = self._contests.get(place)
        if curve_id is None:
            return answer
        backend = str(question.workload.param("backend"))
        cached = (curve_id, backend)
        if cached not in self._faster:
            curve = await asyncio.to_thread(self._store.load_curve, curve_id)
            self._faster[cached] = _faster_backend(curve, backend, curve_id)
            if len(self._faster) > MAX_READY_RESPONSES:
                self._faster.popitem(last=False)
        return answer.model_copy(update={"faster_backend": self._faster.get(cached)})

    async def _update_contests(self, generation: int) -> None:
        """Takes up the comparisons of kernels that were kept up to the generation."""
        async with self._updating_contests:
            if self._contests_generation >= generation:
                return
            kept_since = await asyncio.to_thread(
                lambda: self._store.find_curves_of_kinds(
                    [kind.name for kind in KERNEL_KINDS],
                    mode="kernels",
                    after_generation=self._contests_generation,
                    limit=MAX_CONTESTS,
                )
            )
            # By the order in which they were kept: hosts number their curves by their own clocks.
            for header in reversed(kept_since):
                place = (header.workload.key, header.platform_key, header.protocol_key)
                self._contests.pop(place, None)
                self._contests[place] = header.id
                if len(self._contests) > MAX_CONTESTS:
                    del self._contests[next(iter(self._contests))]
            self._contests_generation = generation

    async def find_kernels(
        self, workload: Workload, grid: Grid, conditions: Conditions
    ) -> CurveHeader | None:
        """The newest comparison of the kernels of `grid`, or None."""
        generation = self.snapshot.generation
        platform_key, protocol_key = conditions.platform_key, conditions.protocol_key
        if protocol_key is None:
            protocol_key = await asyncio.to_thread(
                self._store.find_newest_protocol, workload.key, platform_key
            )
        if protocol_key is None:
            return None
        index = await self._curve_index((workload.key, platform_key, protocol_key), generation)
        return index.find_kernels(grid)

    async def _curve_index(self, key: IndexKey, generation: int) -> CurveIndex:
        """The index of those curves, which knows every one kept up to the generation."""
        index = self._indexes.setdefault(key, CurveIndex())
        self._indexes.move_to_end(key)
        if len(self._indexes) > MAX_INDEXES:
            self._indexes.popitem(last=False)
        while index.generation < generation:
            if index.loading is None:
                index.loading = asyncio.create_task(self._load_newer(key, index, generation))
            await asyncio.shield(index.loading)
        return index

    async def _load_newer(self, key: IndexKey, index: CurveIndex, generation: int) -> None:
        """Takes up what was kept since the index was loaded last."""
        try:
            headers = await asyncio.to_thread(
                lambda: self._store.find_curves(*key, after_generation=index.generation)
            )
            index.add(headers)
            index.generation = generation
        finally:
            index.loading = None

    async def _curve(self, curve_id: str) -> LatencyCurve:
        if curve_id in self._curves:
            self._curves.move_to_end(curve_id)
            return self._curves[curve_id]
        if curve_id not in self._loading:
            self._loading[curve_id] = asyncio.create_task(self._load(curve_id))
        return await asyncio.shield(self._loading[curve_id])

    async def _load(self, curve_id: str) -> LatencyCurve:
        try:
            curve = await asyncio.to_thread(self._store.load_curve, curve_id)
        finally:
            del self._loading[curve_id]
        self._curves[curve_id] = curve
        num_points = sum(kept.grid.size for kept in self._curves.values())
        while num_points > MAX_CACHED_POINTS and len(self._curves) > 1:
            _, dropped = self._curves.popitem(last=False)
            num_points -= dropped.grid.size
        return curve


def _answer(curve: LatencyCurve, header: CurveHeader, question: Question) -> Answer | None:
    """The answer that the curve holds for the question, or None."""
    if header.mode != "grid" and header.grid != question.window:
        # The fastest point of a larger window is that of this one only if it lies inside.
        target = int(curve.answers.target[0])
        if target < 0 or question.window.find_index(curve.grid.dims(target)) is None:
            return None
    answer = find_answer(curve, question.dims, prefer=question.prefer, growth=question.growth)
    if answer is None or answer.verdict == "faster":
        return answer
    # A race that had less time than this question gives may have missed what it would find.
    given_s = curve.evidence.get("asked_budget_s")
    if given_s is not None and (question.budget_s is None or question.budget_s > given_s):
        return None
    return answer


def _faster_backend(curve: LatencyCurve, backend: str, curve_id: str) -> FasterBackend | None:
    """What a comparison of kernels says against the backend; None where nothing is faster."""
    point = Kernel(backend).point
    if point >= curve.grid.size:
        return None
    best = int(curve.answers.target[point])
    if best in (-1, point):
        return None
    ratio, low, high = (
        float(values[point])
        for values in (curve.answers.ratio, curve.answers.ratio_low, curve.answers.ratio_high)
    )
    return FasterBackend(
        backend=Kernel.from_point(best).dense_backend,
        speedup=1 / ratio,
        speedup_interval=(1 / high, 1 / low),
        curve=curve_id,
    )


def _lhp_answer(answer: Answer, header: CurveHeader, *, stale: bool, cut_short: bool) -> LhpAnswer:
    """The answer as it travels."""
    return LhpAnswer(
        dims=list(answer.dims),
        lhp=list(answer.lhp),
        is_lhp=answer.is_lhp,
        grow_by=list(answer.grow_by),
        latency_s=answer.latency_s,
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
        stale=stale,
        evidence=dict(header.evidence),
        cut_short=cut_short,
    )
