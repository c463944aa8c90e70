"""Real services with tokens: listening wider, HTTPS, proxies, revocation by another process."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from profiler_service.access.caller import Caller
from profiler_service.storage.store import Store
from tests.processes.connecting import wait_until
from tests.processes.test_serve import Start, read_greeting


def bootstrap(start_lhp: Start) -> str:
    """The token that `lhp tokens bootstrap` prints, and nothing else, on stdout."""
    process = start_lhp("tokens", "bootstrap", "ops", "--expires", "1h")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    token = out.strip()
    assert token.startswith("lhp_") and token not in err
    return token


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_with_a_token_it_listens_wider_and_asks_for_it(start_lhp: Start, tmp_path: Path) -> None:
    token = bootstrap(start_lhp)
    process = start_lhp("serve", "--listen", "0.0.0.0", "--port", "0", "--no-worker")
    url, _ = read_greeting(process)
    url = url.replace("0.0.0.0", "127.0.0.1")
    assert httpx.get(f"{url}/hosts").status_code == 401
    allowed = httpx.get(f"{url}/hosts", headers=bearer(token))
    assert allowed.status_code == 200
    for response in (allowed, httpx.get(f"{url}/nowhere"), httpx.get(f"{url}/healthz")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    # The command sends LHP_TOKEN, and says what to do without it.
    listing = start_lhp("tokens", "list", LHP_URL=url, LHP_TOKEN=f" {token}\n")
    out, err = listing.communicate(timeout=60)
    assert listing.returncode == 0, err
    assert "ops" in out and "admin" in out and token not in out
    refused = start_lhp("hosts", LHP_URL=url)
    _, err = refused.communicate(timeout=60)
    assert (refused.returncode, "LHP_TOKEN" in err) == (1, True)
    # Another process revokes it.
    store = Store.open(f"sqlite:///{tmp_path / 'data' / 'lhp' / 'lhp.sqlite'}")
    store.revoke_token(token.split("_", 2)[1], by=Caller())
    store.close()
    wait_until(lambda: httpx.get(f"{url}/hosts", headers=bearer(token)).status_code == 401)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert "listening without HTTPS" in err
    assert token.split("_", 2)[2] not in err


def test_it_serves_https_behind_a_proxy(start_lhp: Start, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl, to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key)),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    tls = {"LHP_SSL_CERTFILE": str(certificate), "LHP_SSL_KEYFILE": str(key)}
    proxied = {**tls, "LHP_TRUSTED_PROXIES": "127.0.0.1"}
    serve = ("serve", "--port", "0", "--no-worker")
    refused = start_lhp(*serve, **proxied)  # others may reach it through the proxy
    assert "refusing to serve a proxy" in refused.communicate(timeout=60)[1]
    token = bootstrap(start_lhp)
    process = start_lhp(*serve, **proxied)
    url, _ = read_greeting(process)
    assert url.startswith("https://")
    context = ssl.create_default_context(cafile=str(certificate))
    with httpx.Client(base_url=url, verify=context, headers=bearer(token)) as client:
        # The client writes the first address, the proxy the last.
        forwarded = {"x-forwarded-for": "198.51.100.1, 203.0.113.7"}
        body = {"name": "ci", "scopes": ["read"]}
        assert client.post("/tokens", json=body, headers=forwarded).status_code == 201
        [made, *_] = client.get("/audit").json()["items"]
        assert made["address"] == "203.0.113.7"
        # A request that is refused half-way ends with TLS, too.
        assert client.get("/hosts", headers={"x": "y" * 40_000}).status_code == 431


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"LHP_SSL_CERTFILE": "/nowhere.pem"}, "can't be used"),
        ({"LHP_SSL_KEYFILE": "/nowhere.pem"}, "no certificate"),
        ({"LHP_TRUSTED_PROXIES": "0.0.0.0/0"}, "everybody"),
        ({"LHP_RATE_LIMIT": "many"}, "1000/second"),
    ],
)
def test_what_cant_be_set_up_is_told_in_one_line(
    start_lhp: Start, given: dict[str, str], said: str
) -> None:
    process = start_lhp("serve", "--port", "0", "--no-worker", **given)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (1, 2)
    assert said in err and "Traceback" not in err
