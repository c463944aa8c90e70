"""The error tree: what went wrong, and what to do about it.

    LhpError
    ├─ InvalidRequestError        what was asked is malformed, out of range or too large
    │  ├─ InvalidDimsError, InvalidWorkloadError, WindowTooLargeError, UnsupportedOnHostError,
    │  │  OwnCodeError, IncomparableCurvesError
    │  ├─ MalformedHttpError, MethodNotAllowedError
    │  └─ RequestTooLargeError    (QueryTooLongError, HeadersTooLargeError)
    ├─ NotFoundError              the thing named doesn't exist
    │  └─ UnknownWorkloadError, …PlatformError, …HostError, …CurveError, …SweepError, …TokenError,
    │     …JoinKeyError, …AddressError
    ├─ ForeignHostError, ForeignOriginError
    ├─ UnauthenticatedError, InsufficientScopeError
    ├─ ConflictError, PlatformMismatchError, SweepCancelledError, HostNotAdmittedError
    ├─ HostAwayError (HostStartingError), NotReadyError, ShuttingDownError
    ├─ OverloadedError, RequestTimeoutError
    ├─ StoreError                 (StoreUnavailableError, HostRefusedError, …)
    ├─ JoinKeyRefusedError
    ├─ MeasurementFailedError     (MeasurementChildDiedError, DeviceLostError, …)
    └─ ServiceDefectError, ModelError, WorkerAlreadyRunningError (HostTakenError)

An error keeps its class on the wire: `HostAwayError` travels as the problem `/problems/host-away`,
and the client raises `HostAwayError` again. Knows no HTTP status and no exit code; `api.problems`
and `cli` translate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar


class LhpError(Exception):
    """Base of every error this project raises on purpose.

    `str(error)` says what is wrong; `hint` says what to do about it (may be empty); `see` is the
    path of a resource with more details, such as `/hosts` (may be empty).
    """

    is_transient: ClassVar[bool] = False
    """Whether the same request may succeed a little later, so that trying again makes sense."""

    def __init__(self, message: str, *, hint: str = "", see: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.see = see

    @classmethod
    def problem_name(cls) -> str:
        """The class's stable name on the wire: `host-away` for HostAwayError."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__.removesuffix("Error"))
        return words.lower()


def error_classes() -> Iterator[type[LhpError]]:
    """Every class of the tree, bases before what derives from them."""
    found: list[type[LhpError]] = [LhpError]
    for base in found:  # grows while it is walked
        found += [each for each in base.__subclasses__() if each.__module__ == __name__]
    yield from found


def find_error_class(problem_name: str) -> type[LhpError] | None:
    """The class of that name on the wire; None for a name that this version doesn't know."""
    named = {each.problem_name(): each for each in error_classes()}
    return named.get(problem_name)


class InvalidRequestError(LhpError):
    """The request is malformed, out of range, or too large."""


class InvalidDimsError(InvalidRequestError):
    """The dims aren't positive whole numbers, one for each axis of the workload."""


class InvalidWorkloadError(InvalidRequestError):
    """The workload kind doesn't have this parameter, or doesn't allow this value."""


class WindowTooLargeError(InvalidRequestError):
    """The window or grid has too many points, or its operands exceed the memory allowed."""


class UnsupportedOnHostError(InvalidRequestError):
    """The host's device lacks what the workload needs (a dtype, a backend)."""


class OwnCodeError(InvalidRequestError):
    """No host measures the user's own code: the user's command does, on the user's machine."""


class IncomparableCurvesError(InvalidRequestError):
    """The curves have no workload family, no timing or no point in common."""


class MalformedHttpError(InvalidRequestError):
    """The request breaks the rules of HTTP, so that nothing in it can be read for certain."""


class MethodNotAllowedError(InvalidRequestError):
    """The address exists, but not for this HTTP method."""


class RequestTooLargeError(InvalidRequestError):
    """The body of the request is longer than the service reads."""


class QueryTooLongError(RequestTooLargeError):
    """The query string of the request is longer than the service reads."""


class HeadersTooLargeError(RequestTooLargeError):
    """The headers of the request are longer, or more, than the service reads."""


class ForeignHostError(LhpError):
    """The request is for another name than this service has: its `Host` isn't among them."""


class ForeignOriginError(LhpError):
    """A web page of another site has sent the request, which would start or end work."""


class UnauthenticatedError(LhpError):
    """The service wants an access token: none was sent, or one that isn't valid (any more)."""


class InsufficientScopeError(LhpError):
    """The token is valid, but doesn't allow this."""


class NotFoundError(LhpError):
    """The thing named doesn't exist."""


class JoinKeyRefusedError(LhpError):
    """The join key is used, expired, of another installation, or none at all."""


class UnknownWorkloadError(NotFoundError):
    """No workload kind of that name is installed."""


class UnknownPlatformError(NotFoundError):
    """No platform with that key has been registered."""


class UnknownHostError(NotFoundError):
    """No host of that name has been registered."""


class UnknownCurveError(NotFoundError):
    """No curve with that id."""


class UnknownSweepError(NotFoundError):
    """No sweep with that id."""


class UnknownTokenError(NotFoundError):
    """No token with that id."""


class UnknownJoinKeyError(NotFoundError):
    """No join key with that id."""


class UnknownAddressError(NotFoundError):
    """The service has nothing at that address."""


class ConflictError(LhpError):
    """The sweep, host or curve named is in a state that doesn't allow this."""


class ReplayError(ConflictError):
    """The stored samples of a sweep don't fit its plan: another version measured them."""


class HostNotAdmittedError(ConflictError):
    """The host is pending, quarantined, draining or retired: it takes no new measurements."""


class SweepCancelledError(ConflictError):
    """The sweep that should have brought the answer has been cancelled."""


class PlatformMismatchError(LhpError):
    """Samples or curves of different workloads, platforms or protocols can't be mixed."""


class HostAwayError(LhpError):
    """The host that must measure isn't running its worker."""

    is_transient = True


class HostStartingError(HostAwayError):
    """The host's worker is starting, but wasn't present within the time given."""


class NotReadyError(LhpError):
    """The service waits for something before it can answer and measure."""

    is_transient = True


class TooManyRequestsError(LhpError):
    """The service serves as many requests of this kind as it can, and takes no more for now."""

    is_transient = True


class ShuttingDownError(LhpError):
    """The service is being stopped, and answers nothing new."""

    is_transient = True


class OverloadedError(LhpError):
    """The service has as many connections, or requests under way, as it takes."""

    is_transient = True


class RequestTimeoutError(LhpError):
    """The request has begun, and its rest hasn't arrived in time."""

    is_transient = True


class StoreError(LhpError):
    """The database can't be used."""


class StoreUnavailableError(StoreError):
    """The database can't be reached."""

    is_transient = True


class StoreUnusableError(StoreUnavailableError):
    """The URL is malformed, or names a damaged file or one of another kind: waiting won't help."""

    is_transient = False


class StoreLostError(StoreUnavailableError):
    """The database's file was deleted, moved or replaced while the service used it."""

    is_transient = False


class StoreNotWritableError(StoreUnavailableError):
    """The database can be read, but nothing can be kept: it is read-only, or its disk is full."""


class SchemaTooOldError(StoreError):
    """The database's schema is older than this version needs: `lhp db upgrade`."""


class SchemaTooNewError(StoreError):
    """The database's schema was written by a newer version of this software."""


class MeasurementFailedError(LhpError):
    """The measurement was tried and failed, so that there is no answer."""


class MeasurementChildDiedError(MeasurementFailedError):
    """The measuring child process ended while it was measuring."""


class DeviceLostError(MeasurementChildDiedError):
    """The device was there before and can't be opened any more. It may come back."""


class MeasurementInterruptedError(MeasurementFailedError):
    """The measurement was interrupted on request. Its samples are lost."""


class ServiceDefectError(LhpError):
    """The service failed in a way that was not foreseen. This is a defect; please report it."""


class ModelError(LhpError):
    """The user's model can't be made or run, or has no layer to ask about."""


class WorkerAlreadyRunningError(LhpError):
    """Another worker measures here. Two would measure each other's noise."""

    host: str = ""
    """The name under which the other one measures; empty if it isn't known."""


class HostTakenError(WorkerAlreadyRunningError):
    """Another worker, on another machine perhaps, measures under this host's name."""


class HostRefusedError(StoreUnavailableError):
    """The host is removed or quarantined: its worker ends, until an operator lets it in again."""

    is_transient = False
