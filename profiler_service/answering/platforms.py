"""One answer for several platforms: dims that are confidently no slower on any of them.

Each platform is asked by itself. The answer of each is then compared with the queried dims on every
platform, as a pair. Knows no HTTP. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from profiler_service.analysis.lhp import build_answer
from profiler_service.answering.ask import Asking
from profiler_service.answering.hosts import HostDirectory
from profiler_service.answering.known import Known
from profiler_service.answering.lhp import LhpQuestion, label_answer
from profiler_service.answering.pairs import KnownPairs, PairQuestion, read_pairs
from profiler_service.answering.questions import Question, Where
from profiler_service.answering.settling import carry_margin
from profiler_service.answering.shared_choice import Estimates, SharedRule
from profiler_service.errors import InvalidRequestError
from profiler_service.plan.spec import DEFAULT_MARGIN
from profiler_service.storage.store import Sweep
from profiler_service.wire import LhpAnswer, PlatformFigures
from profiler_service.workload import Dims

AnswerT = TypeVar("AnswerT")
T = TypeVar("T")


@dataclass(kw_only=True)
class _OnPlatform:
    """What is known on one platform."""

    key: str
    own: LhpAnswer
    """What it would be answered alone. It names a candidate; only facts judge."""
    found: KnownPairs

    @property
    def estimates(self) -> Estimates:
        """Every pair that was compared there, by its larger point."""
        return self.found.estimates

    @property
    def preferred(self) -> list[Dims]:
        """Its own answer, if that is larger than the queried point."""
        own = tuple(self.own.lhp)
        return [] if own == tuple(self.own.dims) else [own]


class PlatformsAsking:
    """Answers questions, also those about several platforms at once."""

    def __init__(self, asking: Asking, known: Known, hosts: HostDirectory) -> None:
        self._asking = asking
        self._known = known
        self._hosts = hosts

    async def find(self, question: Question[AnswerT], where: Where) -> AnswerT | None:
        """As `Asking.find`. None with `where.platforms`: only `ask` brings these together."""
        if where.platforms is not None:
            return None
        return await self._asking.find(question, where)

    async def ask(
        self,
        question: Question[AnswerT],
        where: Where,
        *,
        wait_s: float,
        client: str | None = None,
        when_queued: Callable[[], object] = lambda: None,
    ) -> AnswerT | LhpAnswer | Sweep:
        """As `Asking.ask`. With `where.platforms`, one answer for all of these.

        If it takes longer than `wait_s`: one of the sweeps that it waits for.
        """
        if where.platforms is None:
            return await self._asking.ask(
                question, where, wait_s=wait_s, client=client, when_queued=when_queued
            )
        if not isinstance(question, LhpQuestion):
            raise InvalidRequestError(
                "this question has one answer for each platform", hint="ask for one `platform`"
            )
        keys = await self._hosts.resolve_platforms(where)
        when_queued()
        return await self._ask_all(question, keys, wait_s=wait_s, client=client)

    async def _ask_all(
        self, question: LhpQuestion, keys: Sequence[str], *, wait_s: float, client: str | None
    ) -> LhpAnswer | Sweep:
        deadline_s = time.monotonic() + wait_s

        async def ask(each: Question[T], key: str) -> T | Sweep:
            left_s = max(0.0, deadline_s - time.monotonic())
            return await self._asking.ask(each, Where(platform=key), wait_s=left_s, client=client)

        async def begin(key: str) -> _OnPlatform | Sweep:
            own = await ask(question, key)
            if isinstance(own, Sweep):
                return own
            conditions = await self._hosts.find_conditions(Where(platform=key))
            assert conditions is not None
            return _OnPlatform(
                key=key, own=own, found=await read_pairs(self._known, question, conditions)
            )

        places: list[_OnPlatform] = []
        for begun in await _run([begin(key) for key in keys]):
            if isinstance(begun, Sweep):
                return begun
            places.append(begun)
        rule = _make_rule(question, places)

        async def compare(place: _OnPlatform, rival: Dims) -> Sweep | None:
            """Compares the pair there, if it isn't known; the sweep if that takes too long."""
            is_faster = any(rule.is_faster(each.estimates.get(rival)) for each in places)
            needs_gain = rule.needs_gain and not is_faster

            def is_decided(found: KnownPairs) -> bool:
                return rule.is_decided(found.estimates.get(rival), needs_gain=needs_gain)

            if is_decided(place.found):
                return None
            pair = PairQuestion(
                asked=question, rival=rival, slack=rule.slack, is_decided=is_decided
            )
            found = await ask(pair, place.key)
            if isinstance(found, Sweep):
                return found
            place.found = place.found.with_pair(rival, found)
            return None

        tried: list[Dims] = []
        shared = None
        wanted = [*dict.fromkeys(rival for place in places for rival in place.preferred)]
        while wanted and shared is None:
            for sweep in await _run(
                [compare(place, rival) for place in places for rival in wanted]
            ):
                if sweep is not None:
                    return sweep
            tried += wanted
            known = [place.estimates for place in places]
            shared = rule.choose(tried, known)
            wanted = rule.suggest(tried, known)
        return await self._build(question, rule, places, shared)

    async def _build(
        self,
        question: LhpQuestion,
        rule: SharedRule,
        places: Sequence[_OnPlatform],
        shared: Dims | None,
    ) -> LhpAnswer:
        """The answer: the figures of the platform that gains least, and those of each."""
        answers = [await self._read(question, rule, place, shared) for place in places]
        margins = [
            _find_margin(rule, place, answer) for place, answer in zip(places, answers, strict=True)
        ]
        least = min(answers, key=lambda each: each.speedup)
        interval = least.speedup_interval
        if shared is not None:
            interval = rule.find_least_gain(shared, [place.estimates for place in places])
        return least.model_copy(
            update={
                "slack": rule.slack,
                "speedup_interval": interval,
                "is_lhp": all(each.is_lhp for each in answers),
                "verdict": _find_verdict(answers),
                "settled": all(place.own.settled for place in places),
                "margin": None if None in margins else max(m for m in margins if m is not None),
                "caveats": [*dict.fromkeys(text for each in answers for text in each.caveats)],
                "contradicts": [*dict.fromkeys(i for each in answers for i in each.contradicts)],
                "facts": [*dict.fromkeys(i for each in answers for i in each.facts)],
                "platforms": [
                    PlatformFigures(
                        platform=place.key,
                        host=answer.host,
                        latency_s=answer.latency_s,
                        lhp_latency_s=answer.lhp_latency_s,
                        speedup=answer.speedup,
                        speedup_interval=answer.speedup_interval,
                        verdict=answer.verdict,
                        margin=margin,
                        facts=answer.facts,
                        curve=answer.curve,
                        measured_at=answer.measured_at,
                        stale=answer.stale,
                        own_lhp=place.own.lhp,
                        own_speedup=place.own.speedup,
                    )
                    for place, answer, margin in zip(places, answers, margins, strict=True)
                ],
            }
        )

    async def _read(
        self, question: LhpQuestion, rule: SharedRule, place: _OnPlatform, shared: Dims | None
    ) -> LhpAnswer:
        """The figures of `shared` on one platform, or of the queried dims if nothing is shared."""
        own = place.own
        if shared is None:
            if own.lhp == own.dims:
                return own
            return own.model_copy(
                update={
                    "lhp": own.dims,
                    "grow_by": [0] * len(own.dims),
                    "lhp_latency_s": own.latency_s,
                    "speedup": 1.0,
                    "speedup_interval": (1.0, 1.0),
                    "verdict": "ambiguous",
                    "facts": [],
                    "edge": False,
                }
            )
        pair = place.found.pairs[shared]
        curve = await self._known.curves.load_curve(pair.header.id)
        wide = rule.widen(pair.estimate)
        answer = label_answer(
            build_answer(curve, question.dims, wide), pair.header, self._known.curves.snapshot
        )
        return answer.model_copy(
            update={
                "prefer": question.prefer,
                "verdict": wide.verdict,
                "facts": [fact.id for fact in pair.facts],
                "unseen_risk": own.unseen_risk,
            }
        )


def _make_rule(question: LhpQuestion, places: Sequence[_OnPlatform]) -> SharedRule:
    """How an answer is chosen from what is known on the platforms.

    `nearest` and `largest` are judged with the slack with which each platform was asked.
    """
    slack = question.terms.slack
    if question.prefer == "fastest":
        slack = DEFAULT_MARGIN if question.shared_slack is None else question.shared_slack
    rivals = {rival for place in places for rival in (*place.preferred, *place.found.pairs)}
    return SharedRule(
        dims=question.dims,
        prefer=question.prefer,
        slack=slack,
        num_platforms=len(places),
        num_rivals=len(rivals),
    )


def _find_margin(rule: SharedRule, place: _OnPlatform, answer: LhpAnswer) -> float | None:
    """By how much something else may be faster there than the shared dims; None if unknown."""
    own = place.own
    if own.margin is None or own.lhp == answer.lhp:
        return own.margin
    known_for = 1.0, 1.0
    if own.lhp != own.dims:
        estimate = place.estimates.get(tuple(own.lhp))
        if estimate is None:
            return None
        wide = rule.widen(estimate)
        known_for = 1 / wide.high, 1 / wide.low
    return carry_margin(own.margin, known_for, answer.speedup_interval)


def _find_verdict(answers: Sequence[LhpAnswer]) -> str:
    """That of all platforms together: what is the same on all, or else ambiguous."""
    verdicts = {each.verdict for each in answers}
    return verdicts.pop() if len(verdicts) == 1 else "ambiguous"


async def _run(all_of: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, at the same time; the first error if one fails."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in all_of]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
