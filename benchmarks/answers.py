"""An independent referee of the service's answers: asks over HTTP, then measures for itself.

Shares no code with the service and doesn't know how the service measures, stores or chooses;
only its documented HTTP interface. Measures on a CPU, on the machine that the service
measures on.

    python benchmarks/answers.py                     # starts a fresh service, asks, judges
    python benchmarks/answers.py --url http://127.0.0.1:8000
    python benchmarks/answers.py --self-check        # no service: checks the referee itself

Exit code: 0 if every goal is met, 1 if one is missed, 2 if no verdict was possible.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import gc
import json
import math
import os
import platform
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import torch

Dims = tuple[int, int]
"""(out_features, in_features) of a linear layer."""

BATCH = 16
FRESH_QUERY: Dims = (1197, 317)
FIRST_DIM, LAST_DIM = 100, 1300
RULES = (4, 8, 16, 32)
"""Rounding rules that the answers must keep up with: both dims up to a multiple of this."""
EXTRA_RULES = (64,)
"""Measured and reported, but no part of a goal."""

COLD_GOAL_S = 15.0
SLOWER_GOAL = 1.01
CONTROL_GOAL = 0.01
"""Largest error of the referee itself at which it can still judge a difference of 1 %."""
WAIT_S = 110
GIVE_UP_S = 300.0
START_LIMIT_S = 120.0
IDLE_LIMIT_S = 10.0

ROUNDS_PER_BLOCK = 5
MIN_BLOCKS = 30
"""Before the interval may end a measurement early."""
FEWEST_BLOCKS = 6
"""That have a finite interval: see `median_interval`."""
MIN_SECONDS = 1.0
HALF_WIDTH = 0.002
"""Of the watched interval, in log ratio: ends a measurement early."""
USABLE_HALF_WIDTH = 0.005
"""Wider than this can't tell 1 % from nothing: goes on for up to LONGEST times as long."""
LONGEST = 3
UNTIMED_CALLS, TIMED_CALLS = 2, 3
LINE_FLOATS = 16
"""float32 elements in a cache line of 64 bytes."""
PAGE_LINES = 64

REPOSITORY = Path(__file__).resolve().parent.parent


class RefereeError(Exception):
    """No verdict is possible: the service can't be asked, or the machine can't be measured."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Latency of one candidate over the latency of the queried point, with a 95 % interval."""

    dims: Dims
    estimate: float
    low: float
    high: float

    @property
    def speed(self) -> float:
        """Latency of the queried point over the candidate's: above 1 is faster."""
        return 1 / self.estimate


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The referee's own interleaved measurement around one queried point."""

    ratios: Mapping[str, Ratio]
    """By name: `answer`, `control`, and `up4`, `up8`, … for the rounding rules."""
    latency_s: float
    """Median latency of a call at the queried point."""
    blocks: Mapping[str, list[float]]
    """By name, each block's median of the rounds' log ratios: what the intervals rest on."""
    num_rounds: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the service said to one query."""

    dims: Dims
    wall_s: float
    cold: bool
    """Whether the curve behind the answer was measured after the query was sent."""
    answer: Dims
    claimed_speedup: float
    claimed_interval: tuple[float, float]
    platform: str
    body: Mapping[str, Any]
    """The whole answer, but for the host's name."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A query that got no usable answer."""

    dims: Dims
    wall_s: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One refereed query. `reply` is None in a self-check, which asks no service."""

    dims: Dims
    answer: Dims
    measurement: Measurement
    reply: Reply | None
    random: bool = True
    """False for the fixed first query, which doesn't enter the means."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A goal, what was measured, and whether it is met (None: not checked in this run)."""

    name: str
    wanted: str
    measured: str
    met: bool | None


# --- The referee's own measuring ------------------------------------------------------------


def round_up(dims: Dims, multiple: int) -> Dims:
    """`dims`, each raised to the next multiple of `multiple`."""
    out_features, in_features = (-(-dim // multiple) * multiple for dim in dims)
    return out_features, in_features


def median_interval(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval on the median by order statistics (the sign test, inverted).

    Assumes independent values, but no distribution. Fewer than six values give the infinite
    interval: their extremes already miss the median more often than one time in twenty.
    """
    n = len(values)
    # Largest k with P(Binomial(n, 1/2) < k) <= 2.5 %, in whole numbers: exact for any n.
    k, term, total = 0, 1, 0
    while 40 * (total + term) <= 1 << n:
        total += term
        term = term * (n - k) // (k + 1)
        k += 1
    if k == 0:
        return -math.inf, math.inf
    ordered = np.sort(values)
    return float(ordered[k - 1]), float(ordered[n - k])


def ratio_of_blocks(dims: Dims, blocks: Sequence[float]) -> Ratio:
    """The ratio that the blocks' log ratios speak for, and its interval."""
    low, high = median_interval(blocks)
    return Ratio(
        dims=dims,
        estimate=math.exp(float(np.median(blocks))),
        low=math.exp(low),
        high=math.exp(high),
    )


@contextlib.contextmanager
def measuring_conditions(*, threads: int, cpus: int) -> Iterator[None]:
    """Pins this thread to the last `cpus` processors it may use; no garbage collection."""
    before = os.sched_getaffinity(0)
    if cpus > len(before):
        raise RefereeError(f"the platform has {cpus} processors, this process only {len(before)}")
    collecting = gc.isenabled()
    # Before the first product: torch's own threads inherit the affinity of this one.
    os.sched_setaffinity(0, sorted(before)[-cpus:])
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        if collecting:
            gc.enable()
        torch.set_flush_denormal(False)
        os.sched_setaffinity(0, before)


def _placed(values: torch.Tensor, shape: Dims, rng: random.Random) -> torch.Tensor:
    """A new tensor of `shape`, starting at a random cache line of a page."""
    size = shape[0] * shape[1]
    place = rng.randrange(PAGE_LINES) * LINE_FLOATS
    room = torch.empty(size + PAGE_LINES * LINE_FLOATS)
    return room[place : place + size].copy_(values[:size]).view(shape)


def _visit(x: torch.Tensor, weight: torch.Tensor) -> int:
    """Median time of the timed calls, nanoseconds."""
    linear, now = torch.nn.functional.linear, time.perf_counter_ns
    for _ in range(UNTIMED_CALLS):
        linear(x, weight)
    times = []
    for _ in range(TIMED_CALLS):
        start = now()
        linear(x, weight)
        times.append(now() - start)
    return sorted(times)[TIMED_CALLS // 2]


def _half_width(block_logs: Sequence[npt.NDArray[np.float64]], index: int) -> float:
    low, high = median_interval([float(block[index]) for block in block_logs])
    return (high - low) / 2


def measure(
    dims: Dims,
    candidates: Mapping[str, Dims],
    *,
    watch: Sequence[str],
    max_seconds: float,
    seed: int,
    threads: int,
    cpus: int,
) -> Measurement:
    """Ratios of all candidates to `dims`, from rounds that visit each once in random order.

    Every block of rounds has newly placed operands, so that placement averages out; a block
    is one value to the statistics, as its rounds share their placement. Ends when the
    intervals of the candidates `watch` are narrow, or after `max_seconds`, or after LONGEST
    times that where they still are too wide to be of use. Candidates of equal dims share
    one measurement, and those equal to `dims` are 1 by definition; only `control` is always
    a copy of its own.
    """
    rng = random.Random(seed)
    # Points to visit: `dims` first, then each distinct candidate.
    points = [dims]
    position: dict[str, int] = {}
    for name, candidate in candidates.items():
        if name == "control" or candidate not in points:
            points.append(candidate)
            position[name] = len(points) - 1
        else:
            position[name] = points.index(candidate)
    watched = [position[name] for name in watch]
    largest = max(out * inner for out, inner in [*points, *((BATCH, p[1]) for p in points)])
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(largest, generator=generator)

    block_logs: list[npt.NDArray[np.float64]] = []
    own_times_ns: list[int] = []
    operands: list[tuple[torch.Tensor, torch.Tensor]] = []
    with measuring_conditions(threads=threads, cpus=cpus):
        started = time.perf_counter()
        next_check_s = min(MIN_SECONDS, max_seconds)
        while True:
            # The old operands live until the new ones stand, so they can't share a place.
            placed = {}
            for index in rng.sample(range(len(points)), len(points)):
                out_features, in_features = points[index]
                placed[index] = (
                    _placed(values, (BATCH, in_features), rng),
                    _placed(values, (out_features, in_features), rng),
                )
            operands = [placed[index] for index in range(len(points))]
            times_ns = np.empty((ROUNDS_PER_BLOCK, len(points)))
            for row in times_ns:
                for index in rng.sample(range(len(points)), len(points)):
                    row[index] = _visit(*operands[index])
            own_times_ns.extend(int(t) for t in times_ns[:, 0])
            logs = np.log(times_ns)
            block_logs.append(np.median(logs - logs[:, :1], axis=0))

            elapsed = time.perf_counter() - started
            if elapsed < next_check_s or len(block_logs) < FEWEST_BLOCKS:
                continue
            next_check_s = elapsed + 0.25
            width = max(_half_width(block_logs, index) for index in watched)
            if elapsed >= max_seconds:
                if width < USABLE_HALF_WIDTH or elapsed >= LONGEST * max_seconds:
                    break
            elif len(block_logs) >= MIN_BLOCKS and width < HALF_WIDTH:
                break
    columns = np.array(block_logs)
    blocks = {name: [float(v) for v in columns[:, i]] for name, i in position.items()}
    return Measurement(
        ratios={name: ratio_of_blocks(candidates[name], blocks[name]) for name in candidates},
        latency_s=float(np.median(own_times_ns)) * 1e-9,
        blocks=blocks,
        num_rounds=len(own_times_ns),
        seconds=elapsed,
    )


def referee(
    dims: Dims, answer: Dims, *, max_seconds: float, seed: int, threads: int, cpus: int
) -> Measurement:
    """The ratios of the answer, of every rounding rule and of a second copy of `dims`."""
    candidates = {"answer": answer, "control": dims}
    candidates |= {f"up{rule}": round_up(dims, rule) for rule in (*RULES, *EXTRA_RULES)}
    return measure(
        dims,
        candidates,
        watch=["answer", "control"],
        max_seconds=max_seconds,
        seed=seed,
        threads=threads,
        cpus=cpus,
    )


# --- The service, by HTTP only --------------------------------------------------------------


def redact(text: str) -> str:
    """`text` without this machine's name and without local paths."""
    for secret, name in (
        (tempfile.gettempdir(), "TMP"),
        (sys.prefix, "VENV"),
        (str(REPOSITORY), "."),
        (str(Path.home()), "~"),
        (platform.node(), "HOST"),
    ):
        if len(secret) > 1:
            text = text.replace(secret, name)
    return text


@contextlib.contextmanager
def fresh_service(command: Path) -> Iterator[tuple[str, float]]:
    """The URL of a service with an empty database, and the seconds it took to be ready.

    `command` is the console script `lhp`. The service is ended on leaving, however that
    comes about.
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
    """Ends the service, and whatever is left of its process group."""
    service.terminate()
    try:
        service.wait(timeout=20)
    except subprocess.TimeoutExpired:
        print("the service did not end on SIGTERM in 20 s: killing it", file=sys.stderr)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(service.pid, signal.SIGKILL)
    service.wait()


def ask(client: httpx.Client, dims: Dims) -> Reply | Failure:
    """The service's answer to one query, and how long the query took, waiting included."""
    sent_at = dt.datetime.now(dt.UTC)
    started = time.perf_counter()
    while True:
        response = client.get("/lhp", params={"dims": f"{dims[0]},{dims[1]}", "wait": WAIT_S})
        wall_s = time.perf_counter() - started
        if response.status_code != 202 or wall_s > GIVE_UP_S:
            break
        time.sleep(1)
    if response.status_code != 200:
        reason = f"status {response.status_code}: {redact(response.text[:300])}"
        return Failure(dims=dims, wall_s=wall_s, reason=reason)
    try:
        return read_answer(response.json(), dims=dims, wall_s=wall_s, sent_at=sent_at)
    except (KeyError, TypeError, ValueError) as error:
        return Failure(dims=dims, wall_s=wall_s, reason=f"not an answer as documented: {error!r}")


def read_answer(
    body: dict[str, Any], *, dims: Dims, wall_s: float, sent_at: dt.datetime
) -> Reply | Failure:
    """The answer in `body`, or the failure that it is where it breaks the contract."""
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
    return Reply(
        dims=dims,
        wall_s=wall_s,
        cold=measured_at >= sent_at,
        answer=(out_features, in_features),
        claimed_speedup=float(body["speedup"]),
        claimed_interval=(low, high),
        platform=str(body["platform"]),
        body={key: value for key, value in body.items() if key != "host"},
    )


def wait_until_idle(client: httpx.Client, *, limit_s: float) -> str:
    """Id of the newest sweep, once none is queued or running (empty: there was never one).

    Raises RefereeError where one still is after `limit_s`.
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
            raise RefereeError(f"the service is measuring {busy} sweeps: let it come to rest")
        time.sleep(0.1)


def find_platform(client: httpx.Client, key: str) -> Mapping[str, Any]:
    """The platform that the answers were measured on. Raises RefereeError if not a CPU."""
    found: dict[str, Any] = client.get(f"/platforms/{key}").raise_for_status().json()
    if found["device"] != "cpu":
        raise RefereeError(f"the service measures on {found['device']}; this referee on a CPU")
    return found


# --- Verdicts -------------------------------------------------------------------------------


def mean_speeds(trials: Sequence[Trial]) -> dict[str, float]:
    """By candidate, the mean over queries of the queried point's latency over its own."""
    names = trials[0].measurement.ratios
    return {
        name: float(np.mean([t.measurement.ratios[name].speed for t in trials])) for name in names
    }


def speed_difference(
    trials: Sequence[Trial], rule: str, *, seed: int
) -> tuple[float, float, float]:
    """Mean speed of the answers minus that of `rule`, and its 95 % bootstrap interval.

    Resamples queries, keeping each query's pair together.
    """
    pairs = np.array(
        [t.measurement.ratios["answer"].speed - t.measurement.ratios[rule].speed for t in trials]
    )
    picks = np.random.default_rng(seed).integers(len(pairs), size=(10_000, len(pairs)))
    low, high = np.quantile(pairs[picks].mean(axis=1), [0.025, 0.975])
    return float(pairs.mean()), float(low), float(high)


def judge(
    trials: Sequence[Trial],
    failures: Sequence[Failure],
    *,
    fresh: Reply | Failure | None,
    seed: int,
) -> list[Goal]:
    """The goals with what was measured. `fresh` is the first query of a fresh service.

    The slowest answer is looked for among all trials, the means among the random queries.
    """
    goals = []
    if fresh is None:
        measured, met = "not checked: no fresh service", None
    elif isinstance(fresh, Failure):
        measured, met = f"no answer: {fresh.reason}", False
    else:
        measured = f"{fresh.wall_s:.1f} s" + ("" if fresh.cold else " (not cold)")
        met = fresh.cold and fresh.wall_s < COLD_GOAL_S
    goals.append(
        Goal(
            name=f"cold answer to {show(FRESH_QUERY)}, from ready",
            wanted=f"< {COLD_GOAL_S:.0f} s",
            measured=measured,
            met=met,
        )
    )
    if failures:
        goals.append(
            Goal(
                name="queries answered",
                wanted="all",
                measured=f"{len(failures)} not: {failures[0].reason}",
                met=False,
            )
        )
    counted = [t for t in trials if t.random]
    if not counted:
        return goals
    worst = max(trials, key=lambda t: t.measurement.ratios["answer"].estimate)
    ratio = worst.measurement.ratios["answer"]
    goals.append(
        Goal(
            name="slowest answer, latency over its queried point's",
            wanted=f"≤ {SLOWER_GOAL:.2f}",
            measured=f"{ratio.estimate:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]"
            f" ({show(worst.dims)} → {show(worst.answer)})",
            met=ratio.estimate <= SLOWER_GOAL,
        )
    )
    speeds = mean_speeds(counted)
    best = max((f"up{rule}" for rule in RULES), key=lambda rule: speeds[rule])
    difference, low, high = speed_difference(counted, best, seed=seed)
    goals.append(
        Goal(
            name="mean speed of the answers",
            wanted=f"≥ {speeds[best]:.4f} (best rule: multiples of {best[2:]})",
            measured=f"{speeds['answer']:.4f}, difference {difference:+.4f}"
            f" [{low:+.4f}, {high:+.4f}]",
            met=difference >= 0,
        )
    )
    goals.append(judge_control(trials))
    return goals


def judge_control(trials: Sequence[Trial]) -> Goal:
    """Whether the referee's own error is small enough to judge by."""
    controls = [t.measurement.ratios["control"].estimate for t in trials]
    return Goal(
        name="control: a second copy of the queried point over the first",
        wanted=f"1 ± {CONTROL_GOAL:.2f}, each",
        measured=f"{min(controls):.4f} to {max(controls):.4f},"
        f" median {float(np.median(controls)):.4f}",
        met=all(abs(control - 1) <= CONTROL_GOAL for control in controls),
    )


def judge_known_effect(*, max_seconds: float, seed: int, threads: int, cpus: int) -> Goal:
    """Whether the referee sees a known effect: 64 more output features on 512 × 512."""
    base, larger = (512, 512), (576, 512)
    found = measure(
        base,
        {"larger": larger},
        watch=["larger"],
        max_seconds=max_seconds,
        seed=seed,
        threads=threads,
        cpus=cpus,
    ).ratios["larger"]
    extra = larger[0] / base[0] - 1
    # Between half and one and a half times the extra work: fixed costs, caches and tiles keep
    # latency from being just proportional to the number of operations.
    low, high = 1 + 0.5 * extra, 1 + 1.5 * extra
    return Goal(
        name=f"known effect: {show(larger)} over {show(base)}, {1 + extra:.3f} times the FLOP",
        wanted=f"{low:.3f} to {high:.3f}, interval above 1",
        measured=f"{found.estimate:.4f} [{found.low:.4f}, {found.high:.4f}]",
        met=low <= found.estimate <= high and found.low > 1,
    )


# --- Report ---------------------------------------------------------------------------------


def show(dims: Dims) -> str:
    """`dims` as people write them."""
    return f"{dims[0]},{dims[1]}"


def describe_machine() -> dict[str, str]:
    """What the figures depend on: processor, memory, kernel, versions; no names of hosts."""
    model = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{model}, {os.cpu_count()} logical,"
        f" {len(os.sched_getaffinity(0))} usable here",
        "memory": f"{memory_bytes / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": f"{torch.__version__} ({torch.backends.cpu.get_cpu_capability()})",
        "load average before": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def describe_commit() -> str:
    """The commit checked out, and whether tracked files differ from it."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git checkout)"
    return commit + (" with local changes" if changes else "")


def table_of_trials(trials: Sequence[Trial]) -> list[str]:
    """A Markdown table: one line a query, speeds relative to the queried point."""
    rules = [f"up{rule}" for rule in (*RULES, *EXTRA_RULES)]
    heads = ["query", "µs", "answer", "answered in", "claimed speed", "measured speed"]
    heads += [f"×{rule[2:]}" for rule in rules] + ["control", "rounds"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for trial in trials:
        ratios, reply = trial.measurement.ratios, trial.reply
        answer = ratios["answer"]
        took = claimed = "—"
        if reply is not None:
            took = f"{reply.wall_s:.1f} s" + ("" if reply.cold else " (warm)")
            low, high = reply.claimed_interval
            claimed = f"{reply.claimed_speedup:.3f} [{low:.3f}, {high:.3f}]"
        cells = [
            show(trial.dims) + ("" if trial.random else " (fresh)"),
            f"{trial.measurement.latency_s * 1e6:.1f}",
            show(trial.answer) if trial.answer != trial.dims else "same",
            took,
            claimed,
            f"{answer.speed:.3f} [{1 / answer.high:.3f}, {1 / answer.low:.3f}]",
            *(f"{ratios[rule].speed:.3f}" for rule in rules),
            f"{ratios['control'].speed:.4f}",
            str(trial.measurement.num_rounds),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def summary(trials: Sequence[Trial], failures: Sequence[Failure]) -> list[str]:
    """Markdown list: mean speeds, query times, moves, coverage of the claimed intervals."""
    lines = [f"- No answer to {show(f.dims)} ({f.wall_s:.1f} s): {f.reason}" for f in failures]
    counted = [t for t in trials if t.random]
    if not counted:
        return lines
    speeds = mean_speeds(counted)
    named = ", ".join(f"×{rule} {speeds[f'up{rule}']:.4f}" for rule in (*RULES, *EXTRA_RULES))
    lines.append(f"- Mean speed: answers {speeds['answer']:.4f}; rounding up to {named}.")
    moved = [t for t in counted if t.answer != t.dims]
    lines.append(f"- Moved away from the queried point: {len(moved)} of {len(counted)} answers.")
    above = sum(t.measurement.ratios["answer"].low > 1 for t in moved)
    lines.append(f"- Moved answers whose interval lies wholly on the slower side: {above}.")
    holds = sum(
        t.measurement.ratios["control"].low <= 1 <= t.measurement.ratios["control"].high
        for t in trials
    )
    lines.append(f"- Control intervals that contain 1: {holds} of {len(trials)}.")
    replies = [t.reply for t in counted if t.reply is not None]
    cold = [reply.wall_s for reply in replies if reply.cold]
    if cold:
        lines.append(
            f"- Cold queries: {len(cold)} of {len(replies)}, median {np.median(cold):.1f} s,"
            f" longest {max(cold):.1f} s."
        )
    claims = [(t.reply, t.measurement.ratios["answer"]) for t in moved if t.reply is not None]
    if claims:
        points = overlaps = 0
        for reply, ratio in claims:
            low, high = reply.claimed_interval
            points += low <= ratio.speed <= high
            overlaps += low <= 1 / ratio.low and 1 / ratio.high <= high
        lines.append(
            f"- Claimed 95 % intervals of moved answers: {points} of {len(claims)} contain the"
            f" referee's estimate, {overlaps} overlap its interval."
        )
    return lines


def goal_table(goals: Sequence[Goal]) -> list[str]:
    """A Markdown table: one line a goal."""
    marks = {True: "yes", False: "**no**", None: "—"}
    return [
        "| goal | wanted | measured | met |",
        "| --- | --- | --- | --- |",
        *(f"| {g.name} | {g.wanted} | {g.measured} | {marks[g.met]} |" for g in goals),
    ]


def build_report(
    *,
    command: str,
    commit: str,
    machine: Mapping[str, str],
    notes: Sequence[str],
    goals: Sequence[Goal],
    trials: Sequence[Trial],
    failures: Sequence[Failure],
    date: str,
) -> str:
    """The whole report, Markdown."""
    lines = [
        f"# Answers, refereed: {date}",
        "",
        f"    {command}",
        "",
        f"- commit: {commit}",
        *(f"- {name}: {value}" for name, value in machine.items()),
        *(f"- {note}" for note in notes),
        "",
        "## Goals",
        "",
        *goal_table(goals),
        "",
        "## Summary",
        "",
        *summary(trials, failures),
        "",
        "## Queries",
        "",
        "Speeds are the queried point's latency over the candidate's: above 1 is faster. ×4 and"
        " so on: both dims rounded up to that multiple. Intervals: 95 %.",
        "",
        *table_of_trials(trials),
    ]
    return "\n".join(lines) + "\n"


# --- Main -----------------------------------------------------------------------------------


@contextlib.contextmanager
def busy_processor() -> Iterator[None]:
    """Keeps the first usable processor busy, which is not among those measured on."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise RefereeError("--busy needs a second processor")
    # Ends by itself when this process is killed.
    loop = (
        "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\n"
        "while os.getppid() == int(sys.argv[2]): sum(range(100_000))"
    )
    process = subprocess.Popen([sys.executable, "-c", loop, str(usable[0]), str(os.getpid())])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found."""

    trials: list[Trial]
    failures: list[Failure]
    goals: list[Goal]
    notes: list[str]


def draw_queries(count: int, seed: int) -> list[Dims]:
    """`count` queries, both dims uniform from FIRST_DIM to LAST_DIM inclusive."""
    rng = random.Random(seed)
    return [
        (rng.randint(FIRST_DIM, LAST_DIM), rng.randint(FIRST_DIM, LAST_DIM)) for _ in range(count)
    ]


def run_self_check(*, queries: int, seed: int, max_seconds: float) -> Outcome:
    """Judges "round up to 8" in place of a service, and a known effect."""
    cpus = max(1, len(os.sched_getaffinity(0)) - 1)
    trials = []
    for number, dims in enumerate(draw_queries(queries, seed)):
        answer = round_up(dims, 8)
        found = referee(
            dims,
            answer,
            max_seconds=max_seconds,
            seed=seed + number,
            threads=cpus,
            cpus=cpus,
        )
        trials.append(Trial(dims=dims, answer=answer, measurement=found, reply=None))
        tell(trials[-1])
    known = judge_known_effect(max_seconds=max_seconds, seed=seed, threads=cpus, cpus=cpus)
    return Outcome(
        trials=trials,
        failures=[],
        goals=[judge_control(trials), known],
        notes=["self-check: no service; in place of answers, dims rounded up to multiples of 8"],
    )


def run_service(*, url: str | None, queries: int, seed: int, max_seconds: float) -> Outcome:
    """Asks the service at `url`, or a fresh one of its own, and judges its answers."""
    trials: list[Trial] = []
    failures: list[Failure] = []
    notes: list[str] = []
    fresh: Reply | Failure | None = None
    asked = [(dims, True) for dims in draw_queries(queries, seed)]
    with contextlib.ExitStack() as stack:
        if url is None:
            url, start_s = stack.enter_context(fresh_service(Path(sys.executable).parent / "lhp"))
            notes.append(f"fresh service, empty database: ready {start_s:.1f} s after its start")
            asked.insert(0, (FRESH_QUERY, False))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=WAIT_S + 30))
        for number, (dims, is_random) in enumerate(asked):
            reply = ask(client, dims)
            if not is_random:
                fresh = reply
            if isinstance(reply, Failure):
                failures.append(reply)
                print(f"{show(dims)}: {reply.reason}", file=sys.stderr)
                continue
            measured_on = find_platform(client, reply.platform)
            threads, cpus = int(measured_on["threads"]), int(measured_on["cpus"])
            newest = wait_until_idle(client, limit_s=IDLE_LIMIT_S)
            found = referee(
                dims,
                reply.answer,
                max_seconds=max_seconds,
                seed=seed + number,
                threads=threads,
                cpus=cpus,
            )
            if wait_until_idle(client, limit_s=0) != newest:
                raise RefereeError("the service measured something else meanwhile: keep it idle")
            note = (
                f"platform {reply.platform}: {threads} threads on {cpus} processors,"
                f" {measured_on['framework']}"
            )
            if note not in notes:
                notes.append(note)
            trials.append(
                Trial(
                    dims=dims,
                    answer=reply.answer,
                    measurement=found,
                    reply=reply,
                    random=is_random,
                )
            )
            tell(trials[-1])
    return Outcome(
        trials=trials,
        failures=failures,
        goals=judge(trials, failures, fresh=fresh, seed=seed),
        notes=notes,
    )


def tell(trial: Trial) -> None:
    """Prints one line of progress."""
    ratios = trial.measurement.ratios
    took = "" if trial.reply is None else f"answered in {trial.reply.wall_s:.1f} s, "
    print(
        f"{show(trial.dims)} → {show(trial.answer)}: {took}speed {ratios['answer'].speed:.4f},"
        f" control {ratios['control'].speed:.4f},"
        f" {trial.measurement.num_rounds} rounds in {trial.measurement.seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description="Independent referee of the service's answers.")
    parser.add_argument("--url", help="ask this service; left out: start a fresh one")
    parser.add_argument("--queries", type=int, help="random queries (20; 2 in a self-check)")
    parser.add_argument("--seed", type=int, help="of queries and rounds; left out: a new one")
    parser.add_argument("--max-seconds", type=float, default=6.0, help="measuring per query")
    parser.add_argument("--out", type=Path, help="folder for the report and the raw figures")
    parser.add_argument("--busy", action="store_true", help="keep the first processor busy")
    parser.add_argument("--self-check", action="store_true", help="check the referee, no service")
    options = parser.parse_args(arguments)
    if options.queries is None:
        options.queries = 2 if options.self_check else 20
    if options.seed is None:
        options.seed = secrets.randbelow(1_000_000)
    if options.queries < 1 or options.seed < 0 or not 0 < options.max_seconds < 3600:
        parser.error("--queries from 1, --seed from 0, --max-seconds between 0 and 3600")
    if options.self_check and options.url:
        parser.error("--self-check asks no service: leave out --url")
    return options


def command_of(options: argparse.Namespace) -> str:
    """The command that repeats the run, without names of hosts and without local paths."""
    parts = ["python benchmarks/answers.py"]
    parts += ["--self-check"] if options.self_check else []
    parts += ["--url URL"] if options.url else []
    parts += [f"--queries {options.queries} --seed {options.seed}"]
    parts += [f"--max-seconds {options.max_seconds:g}"] if options.max_seconds != 6.0 else []
    parts += ["--busy"] if options.busy else []
    parts += ["--out DIR"] if options.out else []
    return " ".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, after printing the report."""
    options = parse_arguments(arguments)
    # Gathered first: the load average must not be of this run's own making.
    machine, commit = describe_machine(), describe_commit()
    date = dt.datetime.now(dt.UTC).date().isoformat()
    try:
        with contextlib.ExitStack() as stack:
            if options.busy:
                stack.enter_context(busy_processor())
            if options.self_check:
                outcome = run_self_check(
                    queries=options.queries, seed=options.seed, max_seconds=options.max_seconds
                )
            else:
                outcome = run_service(
                    url=options.url,
                    queries=options.queries,
                    seed=options.seed,
                    max_seconds=options.max_seconds,
                )
    except (RefereeError, httpx.HTTPError) as error:
        print(f"no verdict: {redact(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: no verdict", file=sys.stderr)
        return 130
    command = command_of(options)
    report = build_report(
        command=command,
        commit=commit,
        machine=machine,
        notes=[*outcome.notes, *(["first processor kept busy"] if options.busy else [])],
        goals=outcome.goals,
        trials=outcome.trials,
        failures=outcome.failures,
        date=date,
    )
    print(report)
    if options.out is not None:
        raw = {
            "date": date,
            "command": command,
            "commit": commit,
            "machine": machine,
            "notes": outcome.notes,
            "goals": [asdict(goal) for goal in outcome.goals],
            "failures": [asdict(failure) for failure in outcome.failures],
            "trials": [asdict(trial) for trial in outcome.trials],
        }
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"answers-{date}.md").write_text(report)
        (options.out / f"answers-{date}.json").write_text(json.dumps(raw, indent=1) + "\n")
    return 0 if all(goal.met is not False for goal in outcome.goals) else 1


def _exit_on_signal(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    # As an exception, so that the service is ended on the way out.
    signal.signal(signal.SIGTERM, _exit_on_signal)
    sys.exit(main())
