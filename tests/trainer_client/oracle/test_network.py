"""How the trainer's client reaches a service: proxies, and where sweeps are said to be."""

from __future__ import annotations

import sys

import pytest

from profiler_service.client import NetworkSettingsError
from tests.cli.stub import ANSWER, DONE, Events, Reply, make_sweep
from tests.client.conftest import Stub
from tests.trainer_client.conftest import MakeOracle
from trainer_client.oracle.http import ContractError, HttpLatencyOracle


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "socks5://proxy:1"])
def test_an_oracle_reaches_this_machine_without_the_proxy(
    make: MakeOracle, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy)
    assert make().query((1197, 317)).lhp == (1200, 320)


def test_a_socks_proxy_without_its_package_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1")
    with pytest.raises(NetworkSettingsError, match="SOCKS proxy") as raised:
        HttpLatencyOracle("http://far.example:8000")
    assert "socksio" in raised.value.hint


def test_an_absolute_location_stays_below_the_proxys_path(stub: Stub) -> None:
    at = "/at/lhp"
    sweep = make_sweep()
    for location in (f"{stub.url}/sweeps/s1", f"{stub.url}{at}/sweeps/s1", "/sweeps/s1"):
        stub.forget()
        stub.reply(f"GET {at}/lhp", Reply(sweep, 202, Location=location), ANSWER)
        stub.reply(f"GET {at}/sweeps/s1/events", Events(("end", DONE)))
        with HttpLatencyOracle(f"{stub.url}{at}") as oracle:
            assert oracle.query((1197, 317)).lhp == (1200, 320)
        assert {route.split()[1] for route, _, _ in stub.requests} == {
            f"{at}/lhp",
            f"{at}/sweeps/s1/events",
        }


@pytest.mark.parametrize("location", ["http://elsewhere.example/sweeps/s1", "..%2f..%2fadmin"])
def test_a_location_outside_is_refused(stub: Stub, location: str) -> None:
    stub.reply("GET /at/lhp/lhp", Reply(make_sweep(), 202, Location=location))
    with HttpLatencyOracle(f"{stub.url}/at/lhp") as oracle, pytest.raises(ContractError):
        oracle.query((1197, 317))
