"""A host and a sweep for the store's tests."""

from __future__ import annotations

import pytest

from profiler_service.storage.store import Host, Store, Sweep
from tests.storage.examples import PROTOCOL, create_platform, create_spec


@pytest.fixture
def host(store: Store) -> Host:
    """A registered host named `east`."""
    return store.register_host(
        "east", create_platform(), protocol=PROTOCOL, dtypes=["float32", "bfloat16"]
    )


@pytest.fixture
def sweep(store: Store, host: Host) -> Sweep:
    """A queued sweep on `east`."""
    return store.create_sweep(create_spec(), host=host.name)[0]
