"""The service, only over HTTP: starts a fresh one, and asks it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.answers.dims import BATCH, Dims
from benchmarks.answers.machine import RefereeError, redact

WAIT_S = 110
GIVE_UP_S = 300.0
START_LIMIT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The service's answer to one query."""

    dims: Dims
    wall_s: float
    cold: bool
    """Whether the curve behind the answer was measured after the query was sent."""
    answer: Dims
    claimed_speedup: float
    claimed_interval: tuple[float, float]
    settled: bool | None
    """Whether the service says that it knows the answer closely enough."""
    margin: float | None
    """Nothing larger is more than this share faster than the answer, says the service."""
    slack: float | None
    """How much slower still counts as no slower, a share, says the service."""
    measuring_s: float | None
    children: int
    """Measuring processes that confirmed the answer, by its facts; 1 if it names none."""
    platform: str
    body: Mapping[str, Any]
    """The whole answer without the host's name."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A query without a usable answer."""

    dims: Dims
    wall_s: float
    reason: str


@contextlib.contextmanager
def fresh_service(command: Path, **settings: str) -> Iterator[tuple[str, float]]:
    """The URL of a service with an empty database, and the seconds it took to be ready.

    `command` is the console script `lhp`, `settings` are further environment variables. The service
    is ended when the context ends, also after an error.
    """
    if not command.exists():
        raise RefereeError("no `lhp` beside this Python: install the package first")
    with tempfile.TemporaryDirectory(prefix="lhp-answers-") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        url = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "LHP_DATABASE_URL": f"sqlite:///{folder}/lhp.sqlite",
            "LHP_LISTEN": "127.0.0.1",
            "LHP_PORT": str(port),
            "LHP_URL": url,
            # Another service of this machine may measure, too; not at the same time.
            "LHP_PARTITION": Path(folder).name,
            **settings,
        }
        log = Path(folder) / "log"
        with log.open("wb") as output:
            upgrade = subprocess.run(
                [command, "db", "upgrade"],
                env=environment,
                stdout=output,
                stderr=output,
                timeout=START_LIMIT_S,
                check=False,
            )
            if upgrade.returncode:
                raise RefereeError(f"`lhp db upgrade` failed:\n{_tail(log)}")
            started = time.perf_counter()
            service = subprocess.Popen(
                [command, "serve"],
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                _wait_until_ready(url, service, log)
                yield url, time.perf_counter() - started
            finally:
                _end(service)


def _tail(log: Path) -> str:
    return redact("\n".join(log.read_text(errors="replace").splitlines()[-20:]))


def _wait_until_ready(url: str, service: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        if service.poll() is not None:
            raise RefereeError(f"`lhp serve` ended with {service.returncode}:\n{_tail(log)}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        if time.monotonic() > deadline:
            raise RefereeError(f"`lhp serve` is not ready in {START_LIMIT_S:.0f} s:\n{_tail(log)}")
        time.sleep(0.02)


def _end(service: subprocess.Popen[bytes]) -> None:
    """Ends the service, and all that is left of its process group."""
    service.terminate()
    try:
        service.wait(timeout=20)
    except subprocess.TimeoutExpired:
        print("the service did not end on SIGTERM in 20 s: killing it", file=sys.stderr)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(service.pid, signal.SIGKILL)
    service.wait()


def ask(client: httpx.Client, dims: Dims, **parameters: str) -> Reply | Failure:
    """The service's answer to one query, and the time of the query, including waiting.

    `parameters` are further query parameters, such as `prefer`.
    """
    sent_at = dt.datetime.now(dt.UTC)
    started = time.perf_counter()
    while True:
        asked = {"dims": f"{dims[0]},{dims[1]}", "wait": str(WAIT_S), **parameters}
        try:
            response = client.get("/lhp", params=asked)
        except httpx.TimeoutException as error:
            wall_s = time.perf_counter() - started
            return Failure(dims=dims, wall_s=wall_s, reason=f"no response: {error!r}")
        wall_s = time.perf_counter() - started
        if response.status_code != 202 or wall_s > GIVE_UP_S:
            break
        time.sleep(1)
    if response.status_code != 200:
        reason = f"status {response.status_code}: {redact(response.text[:300])}"
        return Failure(dims=dims, wall_s=wall_s, reason=reason)
    try:
        body = response.json()
        return read_answer(
            body,
            dims=dims,
            wall_s=wall_s,
            sent_at=sent_at,
            children=_count_children(client, dims, body.get("facts") or ()),
        )
    except (KeyError, TypeError, ValueError) as error:
        return Failure(dims=dims, wall_s=wall_s, reason=f"not an answer as documented: {error!r}")


def _count_children(client: httpx.Client, dims: Dims, facts: Collection[str]) -> int:
    """The number of measuring processes that took these facts' pairs, at least 1."""
    if not facts:
        return 1
    about = {"dims": f"{dims[0]},{dims[1]}", "limit": "500"}
    items = client.get("/facts", params=about).raise_for_status().json()["items"]
    return max(1, sum(int(fact["num_children"]) for fact in items if fact["id"] in facts))


def read_answer(
    body: dict[str, Any], *, dims: Dims, wall_s: float, sent_at: dt.datetime, children: int = 1
) -> Reply | Failure:
    """The answer in `body`; a failure if it breaks the contract."""
    out_features, in_features = (int(dim) for dim in body["lhp"])
    workload = str(body["workload"])
    wrong = ""
    if tuple(body["dims"]) != dims:
        wrong = f"answers another query: {body['dims']}"
    elif out_features < dims[0] or in_features < dims[1]:
        wrong = f"lhp {body['lhp']} is smaller than the query on an axis"
    elif not all(part in workload for part in ("linear[", f"batch={BATCH}", "dtype=float32")):
        wrong = f"answers for workload {workload}"
    elif body["stale"]:
        wrong = "the answer is stale: of another platform than this host has now"
    if wrong:
        return Failure(dims=dims, wall_s=wall_s, reason=wrong)
    low, high = (float(bound) for bound in body["speedup_interval"])
    measured_at = dt.datetime.fromisoformat(str(body["measured_at"]))
    if measured_at.tzinfo is None:
        raise ValueError("measured_at has no time zone")
    evidence: dict[str, Any] = body.get("evidence") or {}

    def said(name: str) -> Any:
        return body.get(name, evidence.get(name))

    return Reply(
        dims=dims,
        wall_s=wall_s,
        cold=measured_at >= sent_at,
        answer=(out_features, in_features),
        claimed_speedup=float(body["speedup"]),
        claimed_interval=(low, high),
        settled=said("settled"),
        margin=said("margin"),
        slack=said("slack"),
        measuring_s=evidence.get("seconds"),
        children=children,
        platform=str(body["platform"]),
        body={key: value for key, value in body.items() if key != "host"},
    )


def wait_until_idle(client: httpx.Client, *, limit_s: float) -> str:
    """Id of the newest sweep when none is queued or running; empty if there was never one.

    Raises RefereeError if one still is after `limit_s`.
    """
    deadline = time.monotonic() + limit_s
    while True:
        busy = 0
        for state in ("queued", "running"):
            response = client.get("/sweeps", params={"state": state}).raise_for_status()
            busy += sum(sweep["state"] == state for sweep in response.json()["items"])
        if not busy:
            newest = client.get("/sweeps").raise_for_status().json()["items"][:1]
            return str(newest[0]["id"]) if newest else ""
        if time.monotonic() > deadline:
            raise RefereeError(f"the service is measuring {busy} sweeps: wait until it is idle")
        time.sleep(0.1)


def find_platform(client: httpx.Client, key: str) -> Mapping[str, Any]:
    """The platform that the answers were measured on. Raises RefereeError if not a CPU."""
    found: dict[str, Any] = client.get(f"/platforms/{key}").raise_for_status().json()
    if found["device"] != "cpu":
        raise RefereeError(f"the service measures on {found['device']}; this referee on a CPU")
    return found
