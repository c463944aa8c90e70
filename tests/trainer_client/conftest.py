"""What the trainer's tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from profiler_service.errors import HostAwayError
from tests.cli.stub import Reply
from tests.client import conftest as client
from tests.client.conftest import Stub, Time
from trainer_client.oracle.http import HttpLatencyOracle

closed_url = client.closed_url
listening_stub = client.listening_stub
no_pauses = client.no_pauses
stub = client.stub
time = client.time

AWAY = Reply.of_error(HostAwayError("host 'anvil' isn't there", hint="start its worker"))

MakeOracle = Callable[..., HttpLatencyOracle]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Networks of a few units: threads would wait for each other, in processes of tests, too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make(stub: Stub, time: Time) -> Iterator[MakeOracle]:
    """Makes oracles of the stub, or of another `url`, which pause without waiting."""
    made: list[HttpLatencyOracle] = []

    def make(url: str | None = None, **options: Any) -> HttpLatencyOracle:
        oracle = HttpLatencyOracle(url or stub.url, clock=time.clock, sleep=time.sleep, **options)
        made.append(oracle)
        return oracle

    yield make
    for oracle in made:
        oracle.close()
