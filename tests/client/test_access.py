"""Where the client takes the token from, and to whom it sends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from profiler_service.errors import (
    InsufficientScopeError,
    InvalidRequestError,
    LhpError,
    UnauthenticatedError,
)
from profiler_service.wire import TokenRequest
from tests.cli.stub import Reply
from tests.client.conftest import Make, Stub

TOKEN = f"lhp_{'1' * 32}_{'A' * 43}"


def test_the_token_comes_from_the_environment_unless_one_is_given(
    make: Make, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LHP_TOKEN", f" {TOKEN}\n")  # as read from a file
    for given in (None, "mine", ""):
        make(token=given).ask_lhp({"dims": "1,2"}, wait_s=5)
    sent = [headers.get("authorization") for headers in stub.headers]
    assert sent == [f"Bearer {TOKEN}", "Bearer mine", None]


def test_a_password_in_the_address_is_sent_only_without_a_token(
    make: Make, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LHP_TOKEN", TOKEN)
    url = stub.url.replace("http://", "http://me:pw@")
    for given in (None, "mine", ""):
        make(url, token=given).ask_lhp({"dims": "1,2"}, wait_s=5)
    sent = [headers.get("authorization") for headers in stub.headers]
    # The bytes of "me:pw" are 6d 65 3a and 70 77: in Base64 bWU6 and cHc=.
    assert sent == [f"Bearer {TOKEN}", "Bearer mine", "Basic bWU6cHc="]


@pytest.mark.parametrize("token", ["a\nX-Evil: 1", "schlüssel", "a\0b"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(make: Make, token: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        make(token=token)
    assert token not in str(refused.value)
    assert "LHP_TOKEN" in refused.value.hint


@pytest.fixture
def redirecting_url(stub: Stub) -> Iterator[str]:
    """A service that sends every request on to the stub, which is another one."""

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(307)
            self.send_header("Location", f"{stub.url}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Redirecting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_redirect_takes_no_token_elsewhere(make: Make, stub: Stub, redirecting_url: str) -> None:
    with pytest.raises(LhpError):
        make(redirecting_url, token=TOKEN).ask_lhp({"dims": "1,2"}, wait_s=5)
    assert stub.headers == []


@pytest.mark.parametrize("kind", [UnauthenticatedError, InsufficientScopeError])
def test_a_refusal_keeps_its_class_and_its_hint(
    make: Make, stub: Stub, kind: type[LhpError]
) -> None:
    stub.reply("POST /tokens", Reply.of_error(kind("no", hint="do this")))
    with pytest.raises(kind) as refused:
        make().create_token(TokenRequest(name="x", scopes=["read"]))
    assert refused.value.hint == "do this"
