"""The client of the service: one typed method for each request.

    with ServiceClient("http://127.0.0.1:8000") as client:
        answer = client.ask_lhp({"dims": "1197,317"}, wait_s=60)

Each method is written once, as an operation. `AsyncServiceClient` has the same methods, awaited.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx

from profiler_service.client.access import AccessOperations
from profiler_service.client.address import Address
from profiler_service.client.batch import ask_batch
from profiler_service.client.curves import CurveOperations
from profiler_service.client.errors import ServiceFailedError
from profiler_service.client.fleet_sweeps import FleetSweepOperations
from profiler_service.client.following import (
    QUIET_S,
    Follower,
    OnProgress,
    Progress,
    check_measured,
    ignore,
)
from profiler_service.client.hosts import HostOperations
from profiler_service.client.operation import Asynchronous, Blocking, operation
from profiler_service.client.own_sweeps import OwnSweepOperations
from profiler_service.client.predictions import PredictionOperations, refuse_basis
from profiler_service.client.problems import parse
from profiler_service.client.retries import ATTEMPTS, Deadline, Patience, retry_after_s
from profiler_service.client.transport import (
    AsyncTransport,
    BlockingTransport,
    Call,
    Query,
    Transport,
)
from profiler_service.errors import HostAwayError, HostStartingError, InvalidRequestError, LhpError
from profiler_service.wire import (
    CrossoverAnswer,
    CurveDetail,
    FactPage,
    Health,
    LhpAnswer,
    LhpBatchItem,
    PlatformInfo,
    RaceInfo,
    SweepInfo,
    SweepPage,
    SweepRequest,
    WorkloadInfo,
    parse_duration,
)

H = TypeVar("H", bound=httpx.Client | httpx.AsyncClient)
T = TypeVar("T")

TIMEOUT_S = 30.0
FIRST_HOLD_S = 1.0
"""How long the service may hold a question. After that, following the sweep shows progress."""
_segment = functools.partial(quote, safe="")
WORKER_START_S = 20.0
"""How long the service may hold a question at a time while the worker isn't ready yet."""
AGE_S = 1.0
"""How much older a measurement may seem than it is: two clocks and rounding."""
PLACES = frozenset({"host", "platform", "label", "platforms"})  # where a question is asked
ROUNDS = 3
"""How often a question is asked again: a sweep's answer may be stale when it is asked for."""


class Service(
    HostOperations,
    CurveOperations,
    FleetSweepOperations,
    OwnSweepOperations,
    AccessOperations,
    PredictionOperations,
    Generic[H],
):
    """The methods of both clients of the service at `url`.

    Every method raises the error classes of `profiler_service.errors`, from the service's
    problems, and those of `profiler_service.client.errors`.
    """

    _transport_class: Callable[..., Transport[H]]

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        host: str | None = None,
        platform: str | None = None,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] | None = None,
    ) -> None:
        """Sends nothing yet. Raises InvalidRequestError, NetworkSettingsError.

        `token` is the access token (default: LHP_TOKEN); a password in `url` is sent only without
        one. `host` and `platform` are sent with every question that names no place. `timeout_s` is
        how long to wait for one response, in addition to the time that the service was asked to
        wait. `attempts` is how often a request is tried if another attempt may help. A stream of
        events that is silent for `quiet_s` is given up or opened again. `clock` and `sleep` are for
        tests; an asynchronous client awaits the result of `sleep`.
        """
        if attempts < 1 or not (timeout_s > 0 and quiet_s > 0):
            raise InvalidRequestError(
                f"attempts={attempts}, timeout_s={timeout_s}, quiet_s={quiet_s}: not all positive",
                hint="leave them out for the defaults",
            )
        self._transport = self._transport_class(
            Address.parse(url), token=token, timeout_s=timeout_s, sleep=sleep
        )
        given = {"host": host, "platform": platform}
        self._defaults = {name: value for name, value in given.items() if value is not None}
        self._attempts = attempts
        self._quiet_s = quiet_s
        self._clock = clock

    @property
    def address(self) -> Address:
        """The service's address."""
        return self._transport.address

    @operation
    async def ask_lhp(
        self, query: Query, *, wait_s: float, on_progress: OnProgress = ignore
    ) -> LhpAnswer:
        """The answer to the query parameters of `GET /lhp`, measured first if needed.

        `wait_s` limits the whole call. Raises NotMeasuredYetError when that time is over;
        MeasurementFailedError or SweepCancelledError if the sweep gives no answer. For predictions,
        call `predict_lhp` or `find_lhp`.
        """
        refuse_basis(query)
        return await self._ask("/lhp", LhpAnswer, query, wait_s, on_progress)

    @operation
    async def ask_lhp_batch(self, queries: Sequence[Query], *, wait_s: float) -> list[LhpBatchItem]:
        """What each query of `ask_lhp` gets: an answer, a problem, or a sweep after `wait_s`."""
        until = Deadline.after(wait_s, self._clock)
        questions = [{**self._defaults, **query} for query in queries]
        send = functools.partial(self._send, deadline=until)
        return await ask_batch(questions, send, self._transport.pause, until, self._quiet_s)

    @operation
    async def ask_crossover(
        self, query: Query, *, wait_s: float, on_progress: OnProgress = ignore
    ) -> CrossoverAnswer:
        """As `ask_lhp`, for the question from which sparsity on a sparse product is faster."""
        return await self._ask("/crossover", CrossoverAnswer, query, wait_s, on_progress)

    @operation
    async def measure(
        self, request: SweepRequest, *, wait_s: float, on_progress: OnProgress = ignore
    ) -> CurveDetail:
        """The curve of the sweep asked for, when it is measured. Raises as `ask_lhp` does."""
        deadline = Deadline.after(wait_s, self._clock)
        response = await self._post_sweep(request, deadline)
        sweep = await self._follow(response, deadline, on_progress)
        check_measured(sweep, waited_s=wait_s)
        if sweep.curve is None:
            raise ServiceFailedError(
                f"sweep {sweep.id} is done, but has no curve", hint="look at the service's log"
            )
        return await self._get(CurveDetail, f"/curves/{_segment(sweep.curve)}", deadline)

    @operation
    async def create_sweep(self, request: SweepRequest) -> tuple[SweepInfo, bool]:
        """The sweep asked for, and whether it is new; otherwise, an equal one was already open."""
        response = await self._post_sweep(request, self._no_deadline())
        return parse(SweepInfo, response), response.status_code == httpx.codes.CREATED

    @operation
    async def follow_sweep(
        self, sweep: SweepInfo, *, wait_s: float = math.inf, on_progress: OnProgress = ignore
    ) -> SweepInfo:
        """The sweep in its final state, or in its state after `wait_s`."""
        deadline = Deadline.after(wait_s, self._clock)
        return await self._follower(
            sweep, f"/sweeps/{_segment(sweep.id)}", deadline, on_progress
        ).follow()

    @operation
    async def get_sweep(self, sweep_id: str) -> SweepInfo:
        """The sweep with that id."""
        return await self._get(SweepInfo, f"/sweeps/{_segment(sweep_id)}")

    @operation
    async def list_sweeps(self, query: Query) -> SweepPage:
        """A page of sweeps, newest first, from the query parameters of `GET /sweeps`."""
        return parse(SweepPage, await self._send(Call(path="/sweeps", params=query)))

    @operation
    async def cancel_sweep(self, sweep_id: str) -> SweepInfo:
        """The sweep, asked to stop. Raises ConflictError if it has already ended."""
        call = Call(method="POST", path=f"/sweeps/{_segment(sweep_id)}/cancel")
        return parse(SweepInfo, await self._send(call, self._no_deadline()))

    @operation
    async def get_race(self, sweep_id: str) -> RaceInfo:
        """The stages of the race with that id. Raises ConflictError if they can't be replayed."""
        return await self._get(RaceInfo, f"/sweeps/{_segment(sweep_id)}/race")

    @operation
    async def list_facts(self, query: Query) -> FactPage:
        """A page of facts, newest first, from the query parameters of `GET /facts`."""
        return parse(FactPage, await self._send(Call(path="/facts", params=query)))

    @operation
    async def get_health(self) -> Health:
        """Whether the service lives, and the state of its own worker. Doesn't ask the database."""
        return await self._get(Health, "/healthz")

    @operation
    async def list_workloads(self) -> list[WorkloadInfo]:
        """Every workload kind, and those that are left out, with their `error`."""
        return await self._get(list[WorkloadInfo], "/workloads")

    @operation
    async def list_platforms(self) -> list[PlatformInfo]:
        """Every platform that a host has registered."""
        return await self._get(list[PlatformInfo], "/platforms")

    @operation
    async def get_platform(self, key: str) -> PlatformInfo:
        """The platform with that key."""
        return await self._get(PlatformInfo, f"/platforms/{_segment(key)}")

    async def _ask(
        self, path: str, kind: type[T], query: Query, wait_s: float, on_progress: OnProgress
    ) -> T:
        deadline = Deadline.after(wait_s, self._clock)
        given = self._add_place(query)
        asked_s = self._clock()
        call = Call(path=path, params=given)
        for round_ in range(ROUNDS):
            if round_ and "max_age" in given:
                # What was measured since it was first asked is as fresh as was wanted.
                age_s = parse_duration(str(given["max_age"]), name="max_age")
                age_s += self._clock() - asked_s
                call = replace(call, params={**given, "max_age": f"{age_s + AGE_S:.0f}"})
            # If the wait is too short to follow a sweep, the service waits for the whole time.
            is_short = deadline.left_s <= self._quiet_s
            call = replace(call, hold_s=self._quiet_s if is_short else FIRST_HOLD_S)
            try:
                response = await self._send(call, deadline, but_not=(HostAwayError,))
            except HostAwayError as error:
                response = await self._wait_for_worker(call, deadline, error, on_progress)
            if response.status_code != httpx.codes.ACCEPTED:
                return parse(kind, response)
            sweep = await self._follow(response, deadline, on_progress)
            check_measured(sweep, waited_s=wait_s)
        raise ServiceFailedError(
            f"the service at {self.address} has measured {ROUNDS} times and still has no answer",
            hint="look at its log",
        )

    def _add_place(self, query: Query) -> Query:
        return {**({} if PLACES & query.keys() else self._defaults), **query}

    async def _wait_for_worker(
        self, call: Call, deadline: Deadline, error: HostAwayError, on_progress: OnProgress
    ) -> httpx.Response:
        """The response when the worker that the question waits for is present.

        Raises HostAwayError if it isn't on its way, HostStartingError at the deadline.
        """
        call = replace(call, hold_s=WORKER_START_S)
        while not deadline.is_over:
            on_progress(Progress(held_up_by=error))
            try:
                return await self._send(call, deadline, but_not=(HostStartingError,))
            except HostStartingError as still:
                error = still
        raise error

    async def _follow(
        self, accepted: httpx.Response, deadline: Deadline, on_progress: OnProgress
    ) -> SweepInfo:
        """The sweep that the response names, in its final state or at the deadline."""
        sweep = parse(SweepInfo, accepted)
        path = self.address.resolve(
            accepted.headers.get("Location", ""), asked=accepted.request.url
        )
        poll_s = retry_after_s(accepted)
        return await self._follower(sweep, path, deadline, on_progress, poll_s).follow()

    def _follower(
        self,
        sweep: SweepInfo,
        path: str,
        deadline: Deadline,
        on_progress: OnProgress,
        poll_s: float | None = None,
    ) -> Follower:
        return Follower(
            self._transport,
            sweep,
            path,
            deadline=deadline,
            on_progress=on_progress,
            poll_s=poll_s,
            quiet_s=self._quiet_s,
        )

    async def _post_sweep(self, request: SweepRequest, deadline: Deadline) -> httpx.Response:
        """Safe to try again, because equal open sweeps are one sweep."""
        if request.host is None:
            request = request.model_copy(update={"host": self._defaults.get("host")})
        return await self._send(Call(method="POST", path="/sweeps", body=request), deadline)

    async def _get(self, kind: type[T], path: str, deadline: Deadline | None = None) -> T:
        return parse(kind, await self._send(Call(path=path), deadline))

    async def _request(self, call: Call) -> httpx.Response:
        return await self._send(call)

    async def _send(
        self,
        call: Call,
        deadline: Deadline | None = None,
        *,
        but_not: tuple[type[LhpError], ...] = (),
    ) -> httpx.Response:
        patience = Patience.until(
            deadline or self._no_deadline(), attempts=self._attempts, but_not=but_not
        )
        return await self._transport.send(call, patience)

    def _no_deadline(self) -> Deadline:
        return Deadline.after(math.inf, self._clock)


class ServiceClient(Service[httpx.Client], Blocking):
    """The service at `url`; every method returns its result."""

    _transport_class = BlockingTransport

    def close(self) -> None:
        """Releases the connections."""
        self._transport.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncServiceClient(Service[httpx.AsyncClient], Asynchronous):
    """The service at `url`; every method is awaited."""

    _transport_class = AsyncTransport

    async def aclose(self) -> None:
        """Releases the connections."""
        await self._transport.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
