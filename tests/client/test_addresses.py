"""The address of a service, and the way to it: paths, proxies, certificates, tokens."""

from __future__ import annotations

import socket
import sys
import threading

import httpx
import pytest

from profiler_service import errors
from profiler_service.client import ContractError, NetworkSettingsError
from profiler_service.client.address import Address
from profiler_service.wire import GridAxisRange, SweepRequest
from tests.cli.stub import ANSWER, CURVE, DONE, HOST, PLATFORM, RACE, Events, Reply, make_sweep
from tests.client.conftest import Make, Stub

RUNNING = make_sweep()
REQUEST = SweepRequest(workload="matmul", axes=[GridAxisRange(first=256, last=261)])
DIMS = {"dims": "1197,317"}


# Reading an address


@pytest.mark.parametrize(
    "text",
    [
        *("anvil:8000", "ftp://anvil", "http://anvil:port", "http://", "", "http://\udcff"),
        *("http://anvil/?x=1", "http://anvil/#x", "/lhp", "http://a..b"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidRequestError, match="is no address of a service") as raised:
        Address.parse(text)
    assert "http://HOST:PORT" in raised.value.hint


@pytest.mark.parametrize("options", [{"attempts": 0}, {"timeout_s": 0}, {"quiet_s": float("nan")}])
def test_a_client_that_cant_work_isnt_made(make: Make, options: dict[str, float]) -> None:
    with pytest.raises(errors.InvalidRequestError, match="not all positive"):
        make(**options)


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://127.1.2.3", True),
        ("http://[::1]:8000", True),
        ("http://localhost:8000", True),
        ("http://LOCALHOST", True),
        ("http://localhost.:8000", True),
        ("http://lhp.localhost", True),
        ("http://127.255.255.254", True),
        ("http://[::ffff:127.0.0.1]", True),
        ("http://128.0.0.1", False),
        ("http://[::2]", False),
        ("http://localhost.example", False),
        ("http://notlocalhost", False),
        ("http://127.0.0.1.example", False),
        ("http://[::ffff:10.0.0.1]", False),
        ("http://anvil", False),
    ],
)
def test_this_machine_is_told_from_others(url: str, is_loopback: bool) -> None:
    assert Address.parse(url).is_loopback == is_loopback


def test_an_address_for_people_has_no_password() -> None:
    address = Address.parse("http://me:secret@proxy/lhp/")
    assert str(address) == "http://proxy/lhp"
    assert address.join("/docs") == "http://proxy/lhp/docs"


@pytest.mark.parametrize("base", ["http://proxy", "http://proxy/lhp", "http://proxy/a/b"])
@pytest.mark.parametrize(
    "location",
    [
        "sweeps/s1",  # relative to the request's own address
        "/sweeps/s1",  # of a service that doesn't know the proxy's prefix
        "BASE/sweeps/s1",  # of one that does
        "PATH/sweeps/s1",
        "http://proxy/sweeps/s1",
    ],
)
def test_a_location_is_understood_however_it_is_written(base: str, location: str) -> None:
    address = Address.parse(base)
    location = location.replace("BASE", base).replace("PATH", base.removeprefix("http://proxy"))
    for asked in (f"{base}/lhp?dims=5,6", f"{base}/sweeps"):
        assert address.resolve(location, asked=httpx.URL(asked)) == "/sweeps/s1"


@pytest.mark.parametrize(
    "location",
    [
        *("https://proxy/sweeps/s1", "http://proxy:81/sweeps/s1", "http://evil/sweeps/s1", ""),
        *("//evil", "http://127.0.0.1:8000/sweeps/s1", "http://proxy@evil/sweeps/s1"),
        # A proxy would leave the service's path.
        *("%2e%2e/admin", "/lhp/%2E%2e/admin", "/lhp/..%2fadmin", "/lhp/x%5c..%5cadmin"),
    ],
)
def test_a_location_elsewhere_is_refused(location: str) -> None:
    with pytest.raises(ContractError):
        Address.parse("http://proxy/lhp").resolve(location, asked=httpx.URL("http://proxy/lhp/lhp"))


# Under a path


@pytest.mark.parametrize("location", ["/sweeps/s1", "/at/lhp/sweeps/s1", "sweeps/s1"])
def test_every_request_keeps_the_path_of_the_address(make: Make, stub: Stub, location: str) -> None:
    at = "/at/lhp"
    stub.reply(f"GET {at}/lhp", Reply(RUNNING, 202, Location=location), ANSWER)
    stub.reply(f"POST {at}/sweeps", Reply(RUNNING, 201, Location=location))
    stub.reply(f"GET {at}/sweeps/s1/events", Events(("progress", RUNNING)), Events(("end", DONE)))
    stub.reply(f"GET {at}/sweeps/s1", RUNNING)
    stub.reply(f"POST {at}/sweeps/s1/cancel", DONE)
    stub.reply(f"GET {at}/sweeps/s1/race", RACE)
    stub.reply(f"GET {at}/curves/c7", CURVE)
    stub.reply(f"GET {at}/hosts", [HOST])
    stub.reply(f"GET {at}/platforms/f00d", PLATFORM)
    client = make(f"{stub.url}{at}/")
    assert client.ask_lhp(DIMS, wait_s=60) == ANSWER
    assert client.measure(REQUEST, wait_s=60) == CURVE
    assert client.follow_sweep(RUNNING) == DONE
    assert client.cancel_sweep("s1") == DONE
    assert client.get_race("s1") == RACE
    assert client.list_hosts() == [HOST]
    assert client.get_platform("f00d") == PLATFORM
    assert all(route.split()[1].startswith(at) for route, _, _ in stub.requests)


def test_ids_dont_lead_to_other_resources(make: Make, stub: Stub) -> None:
    with pytest.raises(errors.NotFoundError):
        make().get_curve("../hosts?x")
    ((route, query, _),) = stub.requests
    assert route != "GET /hosts" and query == {}


# Defaults and tokens


def test_the_clients_host_and_platform_go_with_questions_that_name_no_place(
    make: Make, stub: Stub
) -> None:
    client = make(host="anvil", platform="f00d")
    client.ask_lhp(DIMS, wait_s=60)
    client.ask_lhp({**DIMS, "host": "forge"}, wait_s=60)
    make().ask_lhp(DIMS, wait_s=60)
    sent = [(each.get("host"), each.get("platform")) for each, _ in stub.sent("GET /lhp")]
    assert sent == [("anvil", "f00d"), ("forge", None), (None, None)]
    stub.reply("POST /sweeps", Reply(RUNNING, 201))
    client.create_sweep(REQUEST)
    client.create_sweep(REQUEST.model_copy(update={"host": "forge"}))
    bodies = [SweepRequest.model_validate_json(body) for _, body in stub.sent("POST /sweeps")]
    assert [each.host for each in bodies] == ["anvil", "forge"]


def test_the_token_is_sent_with_every_request_where_there_is_one(make: Make, stub: Stub) -> None:
    stub.reply("GET /sweeps/s1/events", Events(("end", DONE)))
    for token in ("sesame", None):
        client = make(token=token)
        client.list_hosts()
        client.follow_sweep(RUNNING)
    given = [headers.get("authorization") for headers in stub.headers]
    assert given == ["Bearer sesame", "Bearer sesame", None, None]


# Proxies and certificates


@pytest.mark.parametrize(
    ("environment", "url", "said", "hint"),
    [
        ({"ALL_PROXY": "socks5://proxy:1"}, "http://far:1", "SOCKS proxy", "socksio"),
        ({"HTTP_PROXY": "::::"}, "http://far:1", "can't be used", "HTTP_PROXY"),
        ({"ALL_PROXY": "gopher://x"}, "http://far:1", "can't be used", "ALL_PROXY"),
        ({"SSL_CERT_FILE": "/nowhere"}, "https://far:1", "can't be used", "SSL_CERT_FILE"),
        # Certificates matter on this machine, too.
        ({"SSL_CERT_FILE": "/nowhere"}, "https://localhost:1", "can't be used", "SSL_CERT_FILE"),
    ],
)
def test_settings_that_cant_be_used_are_named(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    url: str,
    said: str,
    hint: str,
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NetworkSettingsError, match=said) as raised:
        make(url)
    assert hint in raised.value.hint


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY", "http_proxy", "all_proxy"])
def test_this_machine_is_asked_without_a_proxy(
    make: Make, stub: Stub, monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    for proxy in ("socks5://proxy:1", "http://127.0.0.1:1"):
        monkeypatch.setenv(variable, proxy)
        assert make(f"http://{name}:{stub.port}").list_hosts() == [HOST]


def test_other_machines_are_asked_through_the_proxy(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"[{HOST.model_dump_json()}]".encode()
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def be_the_proxy() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                connection.sendall(body)

        thread = threading.Thread(target=be_the_proxy)
        thread.start()
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert make("http://far.example:8000/lhp").list_hosts() == [HOST]
        thread.join()
    assert asked[0].startswith(b"GET http://far.example:8000/lhp/hosts HTTP/1.1\r\n")


def test_what_cant_be_sent_is_refused(make: Make) -> None:
    with pytest.raises(errors.InvalidRequestError, match="can't be sent") as raised:
        make().ask_lhp({**DIMS, "workload": "\udcff"}, wait_s=1)
    assert "UTF-8" in raised.value.hint
