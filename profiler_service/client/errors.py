"""Errors between a client and the service, besides those that the service itself reports.

    LhpError
    ├─ ServiceUnreachableError      nothing answers at the address
    ├─ ServiceFailedError           something answers, but not as the service should
    │  ├─ ServiceUnavailableError   only for the moment: 429, 502, 503 or 504
    │  └─ ContractError             the answer breaks the service's contract
    ├─ AccessRefusedError           it wants a token, or refuses this one
    ├─ NetworkSettingsError         the configured proxy or certificates can't be used
    └─ NotMeasuredYetError          (a MeasurementFailedError) the time to wait is over

An error that the service reports is raised as a class of `profiler_service.errors`.
"""

from __future__ import annotations

from profiler_service.errors import LhpError, MeasurementFailedError


class ServiceUnreachableError(LhpError):
    """No program answers at the service's address, or the answer breaks off."""

    is_transient = True


class ServiceFailedError(LhpError):
    """The service failed in a way that has no class here, or something else answers."""


class ServiceUnavailableError(ServiceFailedError):
    """The service, or a gateway before it, says that it can't answer at the moment."""

    is_transient = True


class ContractError(ServiceFailedError):
    """The answer breaks the service's contract, so that nothing in it can be trusted."""


class AccessRefusedError(LhpError):
    """The service wants a token, or refuses this one."""


class NetworkSettingsError(LhpError):
    """The proxy or the certificates that the environment names can't be used."""


class NotMeasuredYetError(MeasurementFailedError):
    """The time to wait is over, and the sweep that will give the answer hasn't ended."""
