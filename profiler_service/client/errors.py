"""What may go wrong between a client and the service, beside what the service itself says.

    LhpError
    ├─ ServiceUnreachableError      nothing answers at the address
    ├─ ServiceFailedError           something answers, but not as the service should
    │  ├─ ServiceUnavailableError   for the moment only: 429, 502, 503 or 504
    │  └─ ContractError             with what the contract rules out
    ├─ AccessRefusedError           it wants a token, or refuses this one
    ├─ NetworkSettingsError         the proxy or the certificates named can't be used
    └─ NotMeasuredYetError          (a MeasurementFailedError) the time to wait is over

What the service says comes as the classes of `profiler_service.errors`.
"""

from __future__ import annotations

from profiler_service.errors import LhpError, MeasurementFailedError


class ServiceUnreachableError(LhpError):
    """Nothing answers at the service's address, or the answer breaks off."""

    is_transient = True


class ServiceFailedError(LhpError):
    """The service failed in a way that has no class here, or this is no such service."""


class ServiceUnavailableError(ServiceFailedError):
    """The service, or a gateway before it, says that it can't answer at the moment."""

    is_transient = True


class ContractError(ServiceFailedError):
    """An answer that the service's contract rules out; nothing in it can be trusted."""


class AccessRefusedError(LhpError):
    """The service wants a token, or refuses this one."""


class NetworkSettingsError(LhpError):
    """The proxy or the certificates that the environment names can't be used."""


class NotMeasuredYetError(MeasurementFailedError):
    """The time to wait is over, and the sweep that will tell is still running."""
