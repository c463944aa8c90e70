"""Asking the service which larger dims cost no more: the trainer's only way to it.

    oracle = HttpLatencyOracle("http://127.0.0.1:8000")
    answer = oracle.query((1197, 317))
    answer.lhp  # (1200, 320)

Needs no torch. Knows nothing of networks or of training.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import random
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from profiler_service.errors import (
    ConflictError,
    HostAwayError,
    InvalidRequestError,
    LhpError,
    MeasurementFailedError,
    NotFoundError,
)
from profiler_service.kinds import LINEAR
from profiler_service.wire import (
    CrossoverAnswer,
    CurveDetail,
    GridAxisRange,
    LhpAnswer,
    PlatformInfo,
    Problem,
    SweepInfo,
    SweepRequest,
)
from trainer_client.answers import (
    ContractError,
    Effort,
    LatencyAnswer,
    LatencyQuestion,
    Prefer,
    WrongPlatformError,
    check_answer,
)
from trainer_client.recordings import (
    AnswerDirectory,
    NoRecordedAnswerError,
    RecordedAnswer,
    RecordedLatencyOracle,
    RecordingError,
)

__all__ = [
    "AccessRefusedError",
    "ContractError",
    "CrossoverOracle",
    "HttpLatencyOracle",
    "LatencyAnswer",
    "LatencyOracle",
    "NoRecordedAnswerError",
    "NotMeasuredYetError",
    "RecordedLatencyOracle",
    "RecordingError",
    "ServiceAwayError",
    "ServiceFailedError",
    "WrongPlatformError",
]

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=BaseModel)

CONNECT_TIMEOUT_S = 5.0
FIRST_WAIT_S = 1.0
"""How long the service holds a question that it must measure for, before 202."""
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 16.0
LONGEST_PAUSE_S = 60.0
"""A longer `Retry-After` is cut to this: a service may not put the trainer to sleep for days."""
DEFAULT_PAUSE_S = 2.0
"""Between looks at a sweep, where `Retry-After` doesn't say."""
ROUNDS = 3
"""How often a question is asked: a sweep's answer may be too old by the time it is asked for."""

FINE = frozenset({200, 201, 202})
AWAY = frozenset({429, 502, 503, 504})
"""Statuses that speak of the moment, not of the question."""


class ServiceAwayError(HostAwayError):
    """The service, or the host that must measure, can't be reached, or is too busy."""


class ServiceFailedError(LhpError):
    """The service answered with an error of its own, and again when asked anew."""


class AccessRefusedError(LhpError):
    """The service wants a token, or refuses this one."""


class NotMeasuredYetError(MeasurementFailedError):
    """The time to wait is over, and the sweep that will tell is still running."""


_ERRORS: Mapping[int, type[LhpError]] = {
    400: InvalidRequestError,
    401: AccessRefusedError,
    403: AccessRefusedError,
    404: NotFoundError,
    405: InvalidRequestError,
    409: ConflictError,
    413: InvalidRequestError,
    422: InvalidRequestError,
}


class LatencyOracle(Protocol):
    """Answers which larger dims cost no more."""

    def query(
        self,
        dims: Sequence[int],
        *,
        workload: str = "linear",
        params: Mapping[str, int | str] | None = None,
        prefer: Prefer = "fastest",
        effort: Effort = "quick",
        max_growth: float = 0.125,
    ) -> LatencyAnswer:
        """The answer for `dims`, in the order of the workload's axes.

        `params` are fixed parameters of the workload (`batch`, `dtype`, …), defaults where left
        out. `max_growth` is how far above `dims` the answer may lie, as a share of each
        dimension, and from 32 to 1,024 points. Every error is an LhpError, and its `hint` says what
        to do.
        """


class CrossoverOracle(Protocol):
    """Knows from which sparsity on sparse products are faster: `HttpLatencyOracle`."""

    def get_crossover(
        self, dims: Sequence[int], *, batch: int = 16, dtype: str = "float32"
    ) -> CrossoverAnswer:
        """The crossover of a layer (out_features, in_features) for inputs of `batch` rows."""


class HttpLatencyOracle:
    """Asks the service at `url`; waits while it measures; survives its absence.

    Connection errors, 429 and 5xx are retried with growing, jittered pauses, at most
    `max_attempts` times each. Where the service stays away, an answer that it gave earlier is
    read from the directory `cache`, if one is named, and says so: its `source` is "cache". A
    directory so written can be replayed by RecordedLatencyOracle.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        platform: str | None = None,
        host: str | None = None,
        max_wait_s: float = 3600.0,
        max_attempts: int = 6,
        timeout_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Sends nothing yet.

        `platform` is the key of the only platform whose answers are taken; `host` says which
        host measures. `max_wait_s` bounds one query, measuring included; `timeout_s` is how long
        one response may keep us waiting. `clock`, `sleep` and `jitter` (uniform in 0 to 1) are
        for tests. Raises InvalidRequestError.
        """
        self.url = url.rstrip("/")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise _invalid_url(url) from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise _invalid_url(url)
        if max_attempts < 1 or not (max_wait_s > 0 and timeout_s > 0):
            raise InvalidRequestError(
                f"max_attempts={max_attempts}, max_wait_s={max_wait_s}, timeout_s={timeout_s}:"
                " not all positive",
                hint="leave them out for defaults that suit a training job",
            )
        self._platform = platform
        self._host = host
        self._max_wait_s = max_wait_s
        self._max_attempts = max_attempts
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._cache = None if cache is None else AnswerDirectory(cache)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
        )

    def close(self) -> None:
        """Releases the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def query(
        self,
        dims: Sequence[int],
        *,
        workload: str = "linear",
        params: Mapping[str, int | str] | None = None,
        prefer: Prefer = "fastest",
        effort: Effort = "quick",
        max_growth: float = 0.125,
    ) -> LatencyAnswer:
        """The service's answer, measured first where need be; else the cached one.

        Raises, besides InvalidRequestError and its kin for what can't be asked:
        ServiceAwayError where the service stays away and nothing is cached; NotMeasuredYetError
        where `max_wait_s` is over; ServiceFailedError, MeasurementFailedError, ConflictError where
        it can't measure; AccessRefusedError; NotFoundError for a workload, host or platform that
        it doesn't know; ContractError, WrongPlatformError for an answer that can't be trusted.
        """
        question = LatencyQuestion.of(
            dims,
            workload=workload,
            params=params,
            prefer=prefer,
            effort=effort,
            max_growth=max_growth,
        )
        try:
            given = self._ask("/lhp", question.parameters, LhpAnswer)
        except ServiceAwayError as error:
            cached = self._find_cached(question)
            if cached is None:
                raise
            logger.warning(
                "%s; going on with its answer of %s (curve %s)",
                error,
                cached.received_at.isoformat(timespec="seconds"),
                cached.curve,
            )
            return cached
        received_at = dt.datetime.now(dt.UTC)
        answer = check_answer(
            given,
            question,
            platform=self._platform,
            host=self._host,
            source="service",
            received_at=received_at,
        )
        self._keep(question, given, received_at)
        return answer

    def measure(
        self,
        axes: Sequence[GridAxisRange],
        *,
        workload: str = "linear",
        params: Mapping[str, int | str] | None = None,
    ) -> CurveDetail:
        """A new curve over the grid of these axes, every point measured in the same rounds.

        Returns when it is measured. Raises as `query` does; nothing is cached.
        """
        until_s = self._clock() + self._max_wait_s
        request = SweepRequest(
            workload=workload, params=dict(params or {}), axes=list(axes), host=self._host
        )
        accepted = self._send("POST", httpx.URL(f"{self.url}/sweeps"), until_s, request)
        sweep = self._follow(accepted, until_s)
        curve = self._send("GET", httpx.URL(f"{self.url}/curves/{sweep.curve}"), until_s)
        detail = _parse(CurveDetail, curve)
        if self._platform is not None and detail.platform != self._platform:
            raise WrongPlatformError(
                f"asked about platform {self._platform!r}, the service measured on"
                f" {detail.platform!r}",
                hint="GET /platforms lists what each key stands for",
            )
        return detail

    def get_platform(self, key: str) -> PlatformInfo:
        """What the platform's key stands for. Raises NotFoundError, and as `query` does."""
        until_s = self._clock() + self._max_wait_s
        where = httpx.URL(f"{self.url}/platforms/{urllib.parse.quote(key, safe='')}")
        return _parse(PlatformInfo, self._send("GET", where, until_s))

    def get_crossover(
        self, dims: Sequence[int], *, batch: int = 16, dtype: str = "float32"
    ) -> CrossoverAnswer:
        """From which sparsity on a sparse product of a `linear` layer beats every dense one.

        `dims` are (out_features, in_features). Measured first where need be. Raises as `query`
        does, InvalidRequestError where the host has no sparse product; nothing is cached.
        """
        workload = LINEAR.describe({"batch": batch, "dtype": dtype})
        checked = workload.check_dims(dims)
        parameters: dict[str, str | int | float] = {
            "dims": ",".join(map(str, checked)),
            "batch": batch,
            "dtype": dtype,
        }
        answer = self._ask("/crossover", parameters, CrossoverAnswer)
        if self._platform is not None and answer.platform != self._platform:
            raise WrongPlatformError(
                f"asked about platform {self._platform!r}, the service answered for"
                f" {answer.platform!r}",
                hint="GET /platforms lists what each key stands for",
            )
        told = (tuple(answer.dims), answer.batch, answer.dtype, answer.host)
        if told != (checked, batch, dtype, self._host or answer.host):
            raise ContractError(
                f"asked about {parameters} on {self._host or 'any host'}, the service answered"
                f" about {told}",
                hint="don't use it; report it to whoever runs the service",
            )
        return answer

    def _ask(self, path: str, question: Mapping[str, str | int | float], kind: type[T]) -> T:
        """What the service says, when it says it."""
        until_s = self._clock() + self._max_wait_s
        parameters = {**question, "wait": FIRST_WAIT_S}
        if self._platform is not None:
            parameters["platform"] = self._platform
        if self._host is not None:
            parameters["host"] = self._host
        for _ in range(ROUNDS):
            response = self._send("GET", httpx.URL(f"{self.url}{path}", params=parameters), until_s)
            if response.status_code == httpx.codes.OK:
                return _parse(kind, response)
            self._follow(response, until_s)
        raise ServiceFailedError(
            f"the service at {self.url} has measured {ROUNDS} times, and still has no answer",
            hint="look at its log",
        )

    def _follow(self, accepted: httpx.Response, until_s: float) -> SweepInfo:
        """The sweep that the response speaks of, when it is done.

        Raises NotMeasuredYetError; MeasurementFailedError or ConflictError where the sweep failed
        or was cancelled.
        """
        sweep = _parse(SweepInfo, accepted)
        where = self._find_sweep_url(accepted)
        pause_s = _retry_after_s(accepted) or DEFAULT_PAUSE_S
        while sweep.state not in ("done", "failed", "cancelled"):
            left_s = until_s - self._clock()
            if left_s <= 0:
                raise NotMeasuredYetError(
                    f"not measured within {self._max_wait_s:g} s:"
                    f" sweep {sweep.id} is {sweep.state}",
                    hint="it goes on: ask again later, or wait longer (max_wait_s)",
                )
            self._sleep(min(pause_s, left_s))
            response = self._send("GET", where, until_s)
            sweep = _parse(SweepInfo, response)
            pause_s = _retry_after_s(response) or pause_s
        if sweep.state == "failed":
            raise MeasurementFailedError(
                f"sweep {sweep.id} failed: {sweep.error}", hint="see the log of the worker"
            )
        if sweep.state == "cancelled":
            raise ConflictError(
                f"sweep {sweep.id}, which was to measure this, has been cancelled",
                hint="ask again",
            )
        return sweep

    def _find_sweep_url(self, accepted: httpx.Response) -> httpx.URL:
        """Where the response says that its sweep is. Raises ContractError."""
        asked, location = accepted.request.url, accepted.headers.get("Location")
        try:
            where = asked if location is None else asked.join(location)
        except httpx.InvalidURL:
            where = asked
        # Elsewhere the token wouldn't be safe.
        here = (asked.scheme, asked.host, asked.port)
        if where == asked or (where.scheme, where.host, where.port) != here:
            raise ContractError(
                f"{self.url} accepted the question, and says that its sweep is at {location}",
                hint="is it an LHP service? a proxy before it must keep the address",
            )
        return where

    def _send(
        self, method: str, url: httpx.URL, until_s: float, body: BaseModel | None = None
    ) -> httpx.Response:
        """A response that isn't an error; tries again while that may help.

        So may a POST to /sweeps: equal sweeps under way are one.
        """
        content = None if body is None else body.model_dump_json()
        headers = None if body is None else {"Content-Type": "application/json"}
        for attempt in range(1, self._max_attempts + 1):
            error: LhpError
            asked_pause_s = 0.0
            try:
                response = self._http.request(method, url, content=content, headers=headers)
            except httpx.RequestError as fault:
                error = ServiceAwayError(
                    f"no answer from the service at {self.url} ({fault or type(fault).__name__})",
                    hint="start it with `lhp serve`, or say where it is",
                )
                error.__cause__ = fault
            else:
                if response.status_code in FINE:
                    return response
                error = self._problem(response)
                if not (response.status_code == 429 or response.status_code >= 500):
                    raise error
                asked_pause_s = _retry_after_s(response) or 0.0
            backoff_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (attempt - 1))
            pause_s = max(asked_pause_s, backoff_s * (0.5 + 0.5 * self._jitter()))
            if attempt == self._max_attempts or self._clock() + pause_s > until_s:
                break
            logger.info("%s; trying again in %.1f s", error, pause_s)
            self._sleep(pause_s)
        raise error

    def _problem(self, response: httpx.Response) -> LhpError:
        """The error that a response stands for."""
        status = response.status_code
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            detail = f"{self.url} answered {status} {response.reason_phrase}"
            hint = "is it an LHP service? check the address"
        else:
            detail, hint = problem.detail or problem.title, problem.hint
        kind = ServiceAwayError if status in AWAY else _ERRORS.get(status, ServiceFailedError)
        if kind is AccessRefusedError:
            hint = "give one that may read: HttpLatencyOracle(url, token=…)"
        return kind(detail, hint=hint)

    def _keep(self, question: LatencyQuestion, given: LhpAnswer, received_at: dt.datetime) -> None:
        """Writes the answer to the cache. A full disk costs the cache, not the answer."""
        if self._cache is None:
            return
        recorded = RecordedAnswer(
            question=question.text,
            service=self.url,
            host=self._host,
            received_at=received_at,
            answer=given,
        )
        try:
            self._cache.keep(question, recorded)
        except OSError as error:
            logger.warning("the answer isn't cached in %s: %s", self._cache.path, error)

    def _find_cached(self, question: LatencyQuestion) -> LatencyAnswer | None:
        """The newest answer kept that may stand in for the service's; or None.

        Raises RecordingError, ContractError.
        """
        if self._cache is None:
            return None
        found = [each for each in self._cache.find(question) if self._may_stand_in(each)]
        if not found:
            return None
        newest = max(found, key=lambda each: each.received_at)
        return newest.check(question, platform=self._platform, host=self._host, source="cache")

    def _may_stand_in(self, recorded: RecordedAnswer) -> bool:
        """Whether it was given under the conditions that hold for this oracle."""
        if self._platform is None:
            return (recorded.service, recorded.host) == (self.url, self._host)
        # Latencies of one platform are comparable, whichever service or host took them.
        answer = recorded.answer
        return answer.platform == self._platform and self._host in (None, answer.host)


def _invalid_url(url: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{url!r} is no address of a service", hint="write it as http://HOST:PORT"
    )


def _retry_after_s(response: httpx.Response) -> float | None:
    """The seconds that `Retry-After` asks for; None where it gives no number of them."""
    text = response.headers.get("Retry-After", "")
    if re.fullmatch(r"[0-9]{1,9}", text) is None:
        return None
    return min(float(text), LONGEST_PAUSE_S)


def _parse(kind: type[T], response: httpx.Response) -> T:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ContractError(
            f"{response.request.url.copy_with(query=None)} answered what this version doesn't"
            f" understand ({where}: {first['msg']})",
            hint="is it an LHP service, of the same version as this client?",
        ) from error
