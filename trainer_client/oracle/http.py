"""Asks the service which larger dims cost no more. The trainer asks only through this module.

    oracle = HttpLatencyOracle("http://127.0.0.1:8000")
    answer = oracle.query((1197, 317))
    answer.lhp  # (1200, 320)

Needs no torch. Knows neither networks nor training. `profiler_service.client` does the HTTP.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from profiler_service.client import (
    AccessRefusedError,
    ContractError,
    NotMeasuredYetError,
    Progress,
    ServiceClient,
    ServiceFailedError,
)
from profiler_service.errors import HostAwayError, InvalidRequestError
from profiler_service.kinds import LINEAR, get_workload_kind
from profiler_service.wire import (
    CrossoverAnswer,
    CurveDetail,
    GridAxisRange,
    LhpAnswer,
    PlatformInfo,
    SweepRequest,
)
from trainer_client.files import FileError
from trainer_client.oracle.answers import (
    Effort,
    LatencyAnswer,
    LatencyQuestion,
    Prefer,
    WrongPlatformError,
    check_answer,
    check_platform,
    check_terms,
)
from trainer_client.oracle.protocol import (
    CrossoverOracle,
    LatencyOracle,
    ServiceAwayError,
    told_when_away,
)
from trainer_client.oracle.recordings import (
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

T = TypeVar("T")

AWAY_PAUSE_S = 15.0
"""How long to wait before a service that is away is asked again."""
CHECK_BUDGET_S = 1.0
"""How long a check lets the service measure."""
CHECK_WAIT_S = 60.0
"""How long a check waits for that. A service that is busy for longer is there all the same."""
WORKER_START_S = 30.0
"""How long a check waits for a host that isn't there, which may be starting."""


class HttpLatencyOracle:
    """Asks the service at `url`, waits while it measures, and goes on if the service is away.

    After an error that may be temporary, a request is sent again, with growing pauses and at most
    `max_attempts` times. If the service stays away and a `cache` directory is given, an earlier
    answer is read from it; its `source` is then "cache". RecordedLatencyOracle can replay such a
    directory. Without such an answer, the service is asked again for `max_away_s`; the log says
    what is waited for.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        platform: str | None = None,
        host: str | None = None,
        terms: Mapping[str, str | float] | None = None,
        max_wait_s: float = 3600.0,
        max_away_s: float = 0.0,
        max_attempts: int = 6,
        timeout_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Doesn't send anything yet.

        `platform` is the key of the only platform whose answers are accepted. `host` names the
        host that measures. `terms` are the parameters `margin`, `settle` and `max_age` of
        `GET /lhp`: how sure answers must be, and how new. `max_wait_s` limits the time of one
        query, including measuring; `max_away_s` is how long to wait for a service that is away, in
        addition. `timeout_s` limits the time to wait for one response. `clock` and `sleep` are for
        tests. Raises InvalidRequestError, NetworkSettingsError.
        """
        if not max_wait_s > 0:
            raise InvalidRequestError(
                f"max_wait_s={max_wait_s} isn't positive",
                hint="leave it out to use the default for a training job",
            )
        self._client = ServiceClient(
            url,
            token=token,
            host=host,
            platform=platform,
            timeout_s=timeout_s,
            attempts=max_attempts,
            clock=clock,
            sleep=sleep,
        )
        self._platform = platform
        self._host = host
        self._terms = check_terms(terms or {})
        self._max_wait_s = max_wait_s
        self._max_away_s = max_away_s
        self._clock, self._sleep = clock, sleep
        self._cache = None if cache is None else AnswerDirectory(cache)

    @property
    def url(self) -> str:
        """The address of the service."""
        return str(self._client.address)

    def close(self) -> None:
        """Releases the connections."""
        self._client.close()

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
        multiple_of: int | Sequence[int] | None = None,
        slack: float = 0.0,
    ) -> LatencyAnswer:
        """The service's answer, measured first if needed; if the service is away, the cached one.

        Without a cached one, the service is waited for, `max_away_s` at most. Raises
        InvalidRequestError and its subclasses for an invalid question; ServiceAwayError if
        the service stays away and no answer is cached; NotMeasuredYetError if `max_wait_s` is over;
        MeasurementFailedError, ConflictError, ServiceFailedError if it can't measure;
        AccessRefusedError; NotFoundError for an unknown workload, host or platform; ContractError,
        WrongPlatformError for an answer that can't be trusted.
        """
        question = LatencyQuestion.of(
            dims,
            workload=workload,
            params=params,
            prefer=prefer,
            effort=effort,
            max_growth=max_growth,
            multiple_of=multiple_of,
            slack=slack,
        )

        def ask() -> LhpAnswer:
            asked = question.parameters | self._terms
            return self._client.ask_lhp(asked, wait_s=self._max_wait_s, on_progress=_Teller())

        try:
            with told_when_away():
                given = ask()
        except ServiceAwayError as error:
            cached = self._find_cached(question)
            if cached is not None:
                logger.warning(
                    "%s; using its earlier answer of %s (curve %s)",
                    error,
                    cached.received_at.isoformat(timespec="seconds"),
                    cached.curve,
                )
                return cached
            given = self._wait_for(ask, error, self._max_away_s)
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
        """A new curve over the grid of these axes. All points are measured in the same rounds.

        Returns when it is measured. Raises as `query` does. Nothing is cached.
        """
        request = SweepRequest(workload=workload, params=dict(params or {}), axes=list(axes))
        with told_when_away():
            curve = self._client.measure(request, wait_s=self._max_wait_s)
        check_platform(curve.platform, pinned=self._platform, source="service")
        return curve

    def check(
        self, dims: Sequence[int], *, workload: str, params: Mapping[str, int | str] | None = None
    ) -> None:
        """Returns if the service measures this workload at `dims` now, for a moment.

        Takes the same way as a question, so that whatever is missing is missing here, too: the
        service, the host, its worker, the workload, memory. A service that is busy is there, and
        so is one that is away but has answers about this workload in the cache. Raises as `query`
        does.
        """
        described = get_workload_kind(workload).describe(params)
        axes = [GridAxisRange(first=dim, last=dim) for dim in described.check_dims(dims)]
        request = SweepRequest(
            workload=workload, params=dict(params or {}), axes=axes, budget=CHECK_BUDGET_S
        )

        def measure() -> CurveDetail:
            return self._client.measure(request, wait_s=CHECK_WAIT_S)

        try:
            try:
                with told_when_away():
                    curve = measure()
            except ServiceAwayError as error:
                # The service is there, and its worker may be starting.
                is_starting = isinstance(error.__cause__, HostAwayError)
                curve = self._wait_for(measure, error, WORKER_START_S if is_starting else 0)
        except NotMeasuredYetError as error:
            logger.warning("%s: it is busy", error)
        except ServiceAwayError as error:
            cached = [] if self._cache is None else self._cache.list_about(described.key)
            if not any(map(self._may_stand_in, cached)):
                raise
            logger.warning("%s; only its earlier answers, from the cache, can stand in", error)
        else:
            check_platform(curve.platform, pinned=self._platform, source="service")

    def get_platform(self, key: str) -> PlatformInfo:
        """The platform with that key. Raises NotFoundError, and as `query` does."""
        with told_when_away():
            return self._client.get_platform(key)

    def get_crossover(
        self, dims: Sequence[int], *, batch: int = 16, dtype: str = "float32"
    ) -> CrossoverAnswer:
        """From which sparsity on a sparse product of a `linear` layer beats every dense product.

        `dims` are (out_features, in_features). Measured first if needed. Raises as `query` does,
        and UnsupportedOnHostError if the host has no sparse product. Nothing is cached.
        """
        checked = LINEAR.describe({"batch": batch, "dtype": dtype}).check_dims(dims)
        asked: dict[str, str | int | float] = {
            "dims": ",".join(map(str, checked)),
            "batch": batch,
            "dtype": dtype,
        }

        def ask() -> CrossoverAnswer:
            return self._client.ask_crossover(asked, wait_s=self._max_wait_s, on_progress=_Teller())

        try:
            with told_when_away():
                answer = ask()
        except ServiceAwayError as error:
            answer = self._wait_for(ask, error, self._max_away_s)
        check_platform(answer.platform, pinned=self._platform, source="service")
        told = (tuple(answer.dims), answer.batch, answer.dtype, answer.host)
        if told != (checked, batch, dtype, self._host or answer.host):
            raise ContractError(
                f"asked about {asked} on {self._host or 'any host'}, the service answered"
                f" about {told}",
                hint="don't use it; report it to the service's operator",
            )
        return answer

    def _keep(self, question: LatencyQuestion, given: LhpAnswer, received_at: dt.datetime) -> None:
        """Writes the answer to the cache. If that fails (disk full), only logs a warning."""
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
        except FileError as error:
            logger.warning("the answer isn't cached: %s", error)

    def _wait_for(self, ask: Callable[[], T], error: ServiceAwayError, seconds: float) -> T:
        """The result of `ask`, which raised the error, once the service is back.

        Raises ServiceAwayError when that time is over.
        """
        until_s = self._clock() + seconds
        while (left_s := until_s - self._clock()) > 0:
            logger.warning(
                "%s; waiting for it, %d s at most: %s", error, math.ceil(left_s), error.hint
            )
            self._sleep(min(AWAY_PAUSE_S, left_s))
            try:
                with told_when_away():
                    return ask()
            except ServiceAwayError as again:
                error = again
        raise error

    def _find_cached(self, question: LatencyQuestion) -> LatencyAnswer | None:
        """The newest cached answer that may replace the service's, or None.

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
        """Whether it was given under the same conditions as this oracle's answers."""
        if self._platform is None:
            return (recorded.service, recorded.host) == (self.url, self._host)
        # Latencies of one platform are comparable, no matter which service or host measured them.
        answer = recorded.answer
        return answer.platform == self._platform and self._host in (None, answer.host)


class _Teller:
    """Logs what a question waits for, once."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, progress: Progress) -> None:
        sweep = progress.sweep
        if progress.held_up_by is not None:
            told = f"waiting: {progress.held_up_by}"
        elif sweep is not None and not sweep.is_final:
            told = f"waiting for sweep {sweep.id} on host {sweep.host}, which is {sweep.state}"
        else:
            return
        if told != self._told:
            self._told = told
            logger.info("%s", told)
