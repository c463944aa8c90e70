"""The error tree: what went wrong, and what to do about it.

Knows no HTTP status and no exit code; `api.problems` and `cli` translate.
"""

from __future__ import annotations


class LhpError(Exception):
    """Base of every error this project raises on purpose.

    `str(error)` says what is wrong; `hint` says what to do about it (may be empty).
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InvalidRequestError(LhpError):
    """The request can't be meant as written: malformed, out of range, or too large."""


class InvalidDimsError(InvalidRequestError):
    """Dims that are no list of positive whole numbers of the workload's number of axes."""


class InvalidWorkloadError(InvalidRequestError):
    """A parameter that the workload kind doesn't have, or a value it doesn't allow."""


class WindowTooLargeError(InvalidRequestError):
    """A window with too many points, or with operands that exceed the memory allowed."""


class UnsupportedOnHostError(InvalidRequestError):
    """The host's device lacks what the workload needs (a dtype, a backend)."""


class NotFoundError(LhpError):
    """The thing named doesn't exist."""


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


class ConflictError(LhpError):
    """The thing named is in a state that doesn't allow this."""


class ReplayError(ConflictError):
    """The samples kept of a sweep don't fit its plan: another version measured them."""


class PlatformMismatchError(LhpError):
    """Samples or curves of different workloads, platforms or protocols were to be mixed."""


class HostAwayError(LhpError):
    """The host that must measure isn't running its worker."""


class StoreError(LhpError):
    """The database can't be used."""


class StoreUnavailableError(StoreError):
    """The database can't be reached."""


class StoreUnusableError(StoreUnavailableError):
    """What is named as the database never can be one: a malformed URL, or another kind of file."""


class SchemaTooOldError(StoreError):
    """The database's schema is older than this version needs: `lhp db upgrade`."""


class SchemaTooNewError(StoreError):
    """The database's schema was written by a newer version of this software."""


class MeasurementError(LhpError):
    """A measurement didn't come about."""


class MeasurementChildDiedError(MeasurementError):
    """The measuring child process ended while it was measuring."""


class DeviceLostError(MeasurementChildDiedError):
    """The device was there, and can't be opened any more; it may come back."""


class MeasurementInterruptedError(MeasurementError):
    """The measurement was interrupted on request; its samples are lost, the measurer is not."""


class ModelError(LhpError):
    """Somebody's own model can't be made or run, or has no layer to ask about."""


class WorkerAlreadyRunningError(LhpError):
    """Another worker holds this host's lock: two would measure each other's noise."""
