"""The service's fixtures: what decides answers is tested through the service, too."""

from tests.api.conftest import (
    anyio_backend,
    both_client,
    client,
    settings,
    sqlite_store,
    sqlite_url,
    sqlite_worker,
    worker,
)

__all__ = [
    "anyio_backend",
    "both_client",
    "client",
    "settings",
    "sqlite_store",
    "sqlite_url",
    "sqlite_worker",
    "worker",
]
