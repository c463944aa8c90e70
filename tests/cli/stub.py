"""A stand-in for the service: answers with wire models as each test arranges it.

Runs under a real uvicorn on a real port, so that the command line's own HTTP is tested.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from profiler_service.api.problems import problem_response
from profiler_service.errors import LhpError
from profiler_service.wire import (
    AxisRange,
    BinInfo,
    CurveDetail,
    CurveInfo,
    CurvePage,
    CurvePoints,
    EvidenceInfo,
    FailedPoint,
    Health,
    HostInfo,
    LhpAnswer,
    PlatformInfo,
    Problem,
    ProgressInfo,
    RaceInfo,
    RaceStageInfo,
    SweepInfo,
)

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
MATMUL = "matmul[backend=dense,batch=16,dtype=float32]"
LINEAR = "linear[backend=dense,batch=16,dtype=float32]"

ANSWER = LhpAnswer(
    dims=[1197, 317],
    lhp=[1200, 320],
    is_lhp=False,
    grow_by=[3, 3],
    latency_s=120e-6,
    lhp_latency_s=116e-6,
    speedup=1.034,
    speedup_interval=(1.029, 1.039),
    verdict="faster",
    prefer="fastest",
    workload=LINEAR,
    platform="f00d",
    host="anvil",
    curve="c7",
    measured_at=NOW,
    num_samples=400,
    stale=False,
)

KEPT = ANSWER.model_copy(
    update={
        "dims": [6, 5],
        "lhp": [6, 5],
        "grow_by": [0, 0],
        "is_lhp": True,
        "speedup": 1.0,
        "speedup_interval": (1.0, 1.0),
        "latency_s": 35e-6,
    }
)


PLATFORM = PlatformInfo(
    key="f00d",
    device="cpu",
    device_model="Example 9000",
    memory_bytes=8 << 30,
    driver="6.1",
    framework="torch 2.13.0+cpu",
    libraries={},
    threads=1,
    cpus=1,
    flags={},
)

HOST = HostInfo(
    name="anvil",
    platform="f00d",
    protocol="perf_counter-warm-v1",
    dtypes=["float32", "bfloat16"],
    registered_at=NOW,
    last_seen_at=NOW,
    present=True,
)

# size:     256   257   258   259   260   261 (failed)
# latency:   20    30    30    25    28     -   µs
# 256 has nothing larger as fast as its 20, and 259 nothing as fast as its 25: LHPs. 257 and
# 258 are dominated by 259. 260 is the last one measured; its rival is said to be unknown.
# Redundancy: 1 - 2/5 = 60 %; were the undecided one an LHP, 1 - 3/5 = 40 %. 1 of the 5 points
# that didn't fail is undecided: 20 %. Rivals are the best larger points: 25/20, 25/30, 28/25.
CURVE = CurveDetail(
    id="c7",
    sweep="s1",
    host="anvil",
    workload=MATMUL,
    axis_names=["size"],
    axes=[AxisRange(first=256, last=261)],
    mode="grid",
    platform="f00d",
    protocol="perf_counter-warm-v1",
    num_points=6,
    num_measured=5,
    num_failures=1,
    num_lhps=2,
    num_undecided=1,
    undecided=0.2,
    redundancy=0.6,
    measured_at=NOW,
    stale=False,
    evidence=EvidenceInfo(rounds=12),
    points=CurvePoints(
        dims=[[256], [257], [258], [259], [260]],
        latency_s=[20e-6, 30e-6, 30e-6, 25e-6, 28e-6],
        low_s=[19e-6, 29e-6, 29e-6, 24e-6, 27e-6],
        high_s=[21e-6, 31e-6, 31e-6, 26e-6, 29e-6],
        num_samples=[9, 9, 9, 9, 9],
        status=["lhp", "dominated", "dominated", "lhp", "undecided"],
        rival=[[259], [259], [259], [260], None],
        ratio=[1.25, 0.833, 0.833, 1.12, None],
        ratio_low=[1.2, 0.8, 0.8, 1.1, None],
        ratio_high=[1.3, 0.86, 0.86, 1.14, None],
    ),
    lhps=[[256], [259]],
    bins=[BinInfo(first=256, last=256), BinInfo(first=257, last=259)],
    failures=[FailedPoint(dims=[261], reason="out of memory")],
)

# A race for 256 along the same axis: 259 beats it by a tenth, 258 and 257 were dropped before.
# size:      256   257   258   259   260
# latency:    28    30    29  25.2    31   µs
RACED = CURVE.model_copy(
    update={
        "mode": "race",
        "num_lhps": 0,
        "undecided": None,
        "redundancy": None,
        "lhps": [],
        "bins": [],
        "points": CurvePoints(
            dims=[[256], [257], [258], [259], [260]],
            latency_s=[28e-6, 30e-6, 29e-6, 25.2e-6, 31e-6],
            low_s=[27.5e-6, 29e-6, 28.5e-6, 25e-6, None],
            high_s=[28.5e-6, 31e-6, 29.5e-6, 25.4e-6, None],
            num_samples=[90, 6, 26, 90, 1],
            status=["dominated", "undecided", "undecided", "undecided", "undecided"],
            rival=[[259], None, None, None, None],
            ratio=[0.9, None, None, None, None],
            ratio_low=[0.89, None, None, None, None],
            ratio_high=[0.91, None, None, None, None],
        ),
    }
)


def make_stage(
    name: str, visits: int, field: int, why: str, *, kept: list[int], dropped: list[int]
) -> RaceStageInfo:
    """A stage of RACE, at a tenth of a millisecond a visit; points are sizes."""
    fields = {
        "name": name,
        "num_visits": visits,
        "seconds": visits * 1e-4,
        "field_size": [field],
        "kept_size": [len(kept)],
        "kept": [[size] for size in kept],
        "dropped": [[size] for size in dropped],
        "why": why,
    }
    return RaceStageInfo.model_validate(fields)


RACE = RaceInfo(
    sweep="s1",
    asked=[256],
    noise=0.02,
    stages=[
        make_stage("narrow", 40, 6, "slower by the fit", kept=[259, 258, 257], dropped=[]),
        make_stage("contest", 24, 3, "larger median", kept=[259, 258], dropped=[257]),
        make_stage("contest", 60, 2, "larger median", kept=[259], dropped=[258]),
        make_stage("confirm", 100, 1, "faster than the queried point", kept=[259], dropped=[]),
    ],
)

HEADER = CurveInfo.model_validate(CURVE.model_dump(include=set(CurveInfo.model_fields)))


def make_sweep(**changes: object) -> SweepInfo:
    """A running sweep of CURVE's grid, with `changes`."""
    fields: dict[str, object] = {
        "id": "s1",
        "state": "running",
        "mode": "grid",
        "workload": MATMUL,
        "axes": [{"first": 256, "last": 261}],
        "num_points": 6,
        "host": "anvil",
        "created_at": NOW,
        "started_at": NOW,
        "finished_at": None,
        "cancel_requested": False,
        "progress": ProgressInfo(fraction=0.25, stage="round 3 of 12", num_samples=18, seconds=0.5),
        "error": "",
        "curve": None,
    }
    return SweepInfo.model_validate(fields | changes)


DONE = make_sweep(state="done", finished_at=NOW, curve="c7")


class Reply:
    """An HTTP reply: a model or text, a status, headers."""

    def __init__(
        self, body: BaseModel | list[BaseModel] | str, status: int = 200, **headers: str
    ) -> None:
        self.status = status
        self.headers = headers
        if isinstance(body, str):
            self.content, self.media_type = body.encode(), "text/html"
        elif isinstance(body, list):
            self.content = b"[" + b",".join(m.model_dump_json().encode() for m in body) + b"]"
            self.media_type = "application/json"
        else:
            self.content, self.media_type = body.model_dump_json().encode(), "application/json"

    @classmethod
    def problem(cls, status: int, detail: str, hint: str, **fields: str) -> Reply:
        """A problem of that status; `type` and `see` as further `fields`."""
        problem = Problem(title="Problem", status=status, detail=detail, hint=hint, **fields)
        return cls(problem, status)

    @classmethod
    def of_error(cls, error: LhpError) -> Reply:
        """The problem that the real service makes of the error."""
        response = problem_response(error)
        reply = cls("", response.status_code, **response.headers)
        reply.content, reply.media_type = bytes(response.body), str(response.media_type)
        del reply.headers["content-length"], reply.headers["content-type"]
        return reply

    @classmethod
    def accepted(cls, sweep: SweepInfo, status: int = 202) -> Reply:
        """What the service says of a sweep that will bring the answer."""
        return cls(sweep, status, Location=f"/sweeps/{sweep.id}")


class Events(Reply):
    """A stream of server-sent events, which then ends, or stays open without a word."""

    def __init__(self, *events: tuple[str, BaseModel | str], stays_open: bool = False) -> None:
        super().__init__("")
        self.media_type = "text/event-stream"
        self.lines = [
            f"event: {name}\ndata: {body if isinstance(body, str) else body.model_dump_json()}\n\n"
            for name, body in events
        ]
        self.stays_open = stays_open

    async def stream(self) -> AsyncIterator[str]:
        """The events; and then, perhaps, nothing until the client goes away."""
        yield ": ping\n\n"
        for line in self.lines:
            yield line
        if self.stays_open:
            await asyncio.Event().wait()


class StubService:
    """Gives the replies arranged for each "METHOD /path", in turn; the last one stays."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.at_request: Callable[[str], None] = lambda route: None
        """Called with "METHOD /path" at each request, before it is answered."""
        self._replies: dict[str, list[Reply]] = defaultdict(list)
        self._changed = threading.Condition()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.port = 0
        self._arrange()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """Makes it as it was when it was new: asked nothing yet, and with its first replies."""
        with self._changed:
            self.requests.clear()
            self._replies.clear()
        self.at_request = lambda route: None
        self._arrange()

    def _arrange(self) -> None:
        self.reply("GET /curves", CurvePage(items=[HEADER], next_cursor=None))
        self.reply("GET /curves/c7", CURVE)
        self.reply("GET /platforms/f00d", PLATFORM)
        self.reply("GET /platforms", [PLATFORM])
        self.reply("GET /hosts", [HOST])
        self.reply("GET /healthz", Health(status="ok"))

    def reply(self, route: str, *replies: Reply | BaseModel | list[BaseModel]) -> None:
        """Arranges the replies to "METHOD /path" in place of those from before."""
        with self._changed:
            self._replies[route] = [r if isinstance(r, Reply) else Reply(r) for r in replies]

    def sent(self, route: str) -> Iterable[tuple[dict[str, str], bytes]]:
        """Query and body of every request to "METHOD /path" so far."""
        with self._changed:
            return [(query, body) for asked, query, body in self.requests if asked == route]

    def wait_for(self, route: str) -> None:
        """Returns once "METHOD /path" has been asked at least once."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: any(asked == route for asked, _, _ in self.requests), timeout=30
            )

    async def _answer(self, request: Request) -> Response:
        route = f"{request.method} {request.url.path}"
        body = await request.body()
        self.at_request(route)
        with self._changed:
            self.requests.append((route, dict(request.query_params), body))
            self._changed.notify_all()
            replies = self._replies[route]
            if not replies:
                reply = Reply.problem(404, f"there is no {request.url.path}", "look elsewhere")
            else:
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, Events):
            return StreamingResponse(reply.stream(), media_type=reply.media_type)
        return Response(
            reply.content, reply.status, headers=reply.headers, media_type=reply.media_type
        )

    def start(self) -> None:
        """Listens, on the same port as before if it did before."""
        app = FastAPI()
        app.add_api_route("/{path:path}", self._answer, methods=["GET", "POST", "PATCH", "DELETE"])
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._server = _Server(uvicorn.Config(app, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()
        assert self._server.ready.wait(30)

    def stop(self) -> None:
        """Ends the server, its connections included."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
