"""The service over HTTP, for programs: `ServiceClient`, and `AsyncServiceClient` to be awaited.

Needs no torch, no numpy and no terminal. An error of the service is raised here as the same class
of `profiler_service.errors`.
"""

from profiler_service.client.errors import (
    AccessRefusedError,
    ContractError,
    NetworkSettingsError,
    NotMeasuredYetError,
    ServiceFailedError,
    ServiceUnavailableError,
    ServiceUnreachableError,
)
from profiler_service.client.following import OnProgress, Progress
from profiler_service.client.service import AsyncServiceClient, ServiceClient

__all__ = [
    "AccessRefusedError",
    "AsyncServiceClient",
    "ContractError",
    "NetworkSettingsError",
    "NotMeasuredYetError",
    "OnProgress",
    "Progress",
    "ServiceClient",
    "ServiceFailedError",
    "ServiceUnavailableError",
    "ServiceUnreachableError",
]
