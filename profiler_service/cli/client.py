"""The service as the commands see it: typed requests, and its problems as our errors.

Knows neither terminals nor exit codes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from profiler_service.errors import (
    ConflictError,
    HostAwayError,
    InvalidRequestError,
    LhpError,
    NotFoundError,
)
from profiler_service.wire import (
    CrossoverAnswer,
    CurveDetail,
    CurveInfo,
    CurvePage,
    HostInfo,
    LhpAnswer,
    PlatformInfo,
    Problem,
    RaceInfo,
    SweepInfo,
    SweepRequest,
    WorkloadInfo,
)

T = TypeVar("T")
Query = Mapping[str, str | int | float]

READ_TIMEOUT_S = 30.0
"""How long an answer may take to begin, beyond what was asked to be waited for."""

_ERRORS: Mapping[int, type[LhpError]] = {
    400: InvalidRequestError,
    404: NotFoundError,
    405: InvalidRequestError,
    409: ConflictError,
    413: InvalidRequestError,
    422: InvalidRequestError,
    503: HostAwayError,
}


class ServiceUnreachableError(LhpError):
    """Nothing answers at the service's address."""


class ServiceFailedError(LhpError):
    """The service answered with an error of its own, or with what it never should."""


class ServiceClient:
    """One service, at `url`. Every method raises what the service's problem stands for.

    Raises (each method): ServiceUnreachableError, ServiceFailedError, and of the error tree
    InvalidRequestError (4xx), NotFoundError (404), ConflictError (409), HostAwayError (503).
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            parsed = httpx.URL(self.url)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InvalidRequestError(
                f"{url!a} is no address of a service: {error}",
                hint="write it as http://HOST:PORT, with --url or LHP_URL",
            ) from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise InvalidRequestError(
                f"{url!r} is no address of a service",
                hint="write it as http://HOST:PORT, with --url or LHP_URL",
            )
        try:
            self._http = httpx.Client(
                base_url=self.url,
                timeout=httpx.Timeout(READ_TIMEOUT_S, connect=5.0),
                # A proxy has no way to this machine's own loopback.
                trust_env=not _is_loopback(parsed.host),
            )
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            raise ServiceUnreachableError(
                f"the proxy or the certificates that the environment names can't be used: {error}",
                hint="correct or unset ALL_PROXY, HTTP_PROXY, HTTPS_PROXY, SSL_CERT_FILE",
            ) from error

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

    def query(self, query: Query, *, wait_s: float) -> LhpAnswer | SweepInfo:
        """The answer; or, where it isn't known within `wait_s`, the sweep that will find it."""
        return self._ask("/lhp", LhpAnswer, query, wait_s)

    def find_crossover(self, query: Query, *, wait_s: float) -> CrossoverAnswer | SweepInfo:
        """Likewise, from which sparsity on a sparse product is faster."""
        return self._ask("/crossover", CrossoverAnswer, query, wait_s)

    def create_sweep(self, request: SweepRequest) -> tuple[SweepInfo, bool]:
        """The sweep asked for, and whether it is new: an equal one under way is joined."""
        response = self._send("POST", "/sweeps", json=request.model_dump())
        return _parse(SweepInfo, response), response.status_code == httpx.codes.CREATED

    def get_sweep(self, sweep_id: str) -> SweepInfo:
        """The sweep with that id."""
        return _parse(SweepInfo, self._send("GET", f"/sweeps/{_segment(sweep_id)}"))

    def get_race(self, sweep_id: str) -> RaceInfo:
        """How the race with that id went. Raises ConflictError where that can't be told."""
        return _parse(RaceInfo, self._send("GET", f"/sweeps/{_segment(sweep_id)}/race"))

    def cancel_sweep(self, sweep_id: str) -> SweepInfo:
        """The sweep, asked to stop. Raises ConflictError where it has ended already."""
        return _parse(SweepInfo, self._send("POST", f"/sweeps/{_segment(sweep_id)}/cancel"))

    def list_curves(self, query: Query) -> CurvePage:
        """A page of curves, newest first."""
        return _parse(CurvePage, self._send("GET", "/curves", params=query))

    def get_curve(self, curve_id: str) -> CurveDetail:
        """The curve with that id, with all its points."""
        return _parse(CurveDetail, self._send("GET", f"/curves/{_segment(curve_id)}"))

    def get_curve_header(self, curve_id: str, *, host: str) -> CurveInfo:
        """The curve with that id, measured by `host`, without its points.

        Among the newest of the host, as a rule: its points may be a hundred megabytes.
        """
        for header in self.list_curves({"host": host, "limit": 20}).items:
            if header.id == curve_id:
                return header
        return self.get_curve(curve_id)

    def list_hosts(self) -> list[HostInfo]:
        """Every host that has registered."""
        return _parse(list[HostInfo], self._send("GET", "/hosts"))

    def list_workloads(self) -> list[WorkloadInfo]:
        """Every workload kind, and those that are left out, with their `error`."""
        return _parse(list[WorkloadInfo], self._send("GET", "/workloads"))

    def list_platforms(self) -> list[PlatformInfo]:
        """Every platform that a host has registered."""
        return _parse(list[PlatformInfo], self._send("GET", "/platforms"))

    def get_platform(self, key: str) -> PlatformInfo:
        """The platform with that key."""
        return _parse(PlatformInfo, self._send("GET", f"/platforms/{_segment(key)}"))

    def _ask(self, path: str, kind: type[T], query: Query, wait_s: float) -> T | SweepInfo:
        response = self._send(
            "GET",
            path,
            params={**query, "wait": wait_s},
            timeout=httpx.Timeout(READ_TIMEOUT_S + wait_s, connect=5.0),
        )
        if response.status_code == httpx.codes.ACCEPTED:
            return _parse(SweepInfo, response)
        return _parse(kind, response)

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Query | None = None,
        json: object = None,
        timeout: httpx.Timeout | None = None,
    ) -> httpx.Response:
        try:
            request = self._http.build_request(
                method,
                path,
                params=dict(params) if params else None,
                json=json,
                timeout=timeout or self._http.timeout,
            )
            response = self._http.send(request)
        except UnicodeError as error:
            raise InvalidRequestError(
                f"that can't be sent to {self.url!a}: {error}",
                hint="a host's name has no empty part, and arguments are UTF-8",
            ) from error
        except httpx.TimeoutException as error:
            raise ServiceUnreachableError(
                f"the service at {self.url} didn't answer in time",
                hint="look at its log; ask another one with --url or LHP_URL",
            ) from error
        except httpx.ConnectError as error:
            raise ServiceUnreachableError(
                f"no service at {self.url} ({error})",
                hint="start one with `lhp serve`, or say where it is with --url or LHP_URL",
            ) from error
        except httpx.TransportError as error:
            raise ServiceUnreachableError(
                f"the service at {self.url} broke off its answer ({error})",
                hint="look at its log, then try again",
            ) from error
        if response.is_success:
            return response
        raise self._problem(response)

    def _problem(self, response: httpx.Response) -> LhpError:
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            return ServiceFailedError(
                f"{response.request.url} answered {response.status_code} {response.reason_phrase}",
                hint="is this an LHP service? check --url or LHP_URL",
            )
        error = _ERRORS.get(problem.status, ServiceFailedError)
        # What is meant for whoever writes HTTP requests, for those who type commands.
        detail = re.sub(r"(^|; )(?:query|body|path)\.", r"\1", problem.detail)
        hint = re.sub(r"GET /(?:hosts|platforms)\b", "`lhp hosts`", problem.hint)
        hint = re.sub(r"(?:GET )?(?<![\w/])/(?=docs|sweeps|curves)", lambda _: f"{self.url}/", hint)
        return error(detail or problem.title, hint=hint)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _segment(text: str) -> str:
    return quote(text, safe="")


def _parse(kind: type[T], response: httpx.Response) -> T:
    try:
        return TypeAdapter(kind).validate_json(response.content)
    except ValidationError as error:
        raise ServiceFailedError(
            f"{response.request.url} answered what this version doesn't understand"
            f" ({error.error_count()} fields)",
            hint="is this an LHP service of the same version? check --url or LHP_URL",
        ) from error
