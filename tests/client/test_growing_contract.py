"""A newer service may add fields anywhere: an older client goes on working."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from profiler_service.errors import UnknownHostError
from profiler_service.wire import (
    CurvePage,
    FasterBackend,
    GridAxisRange,
    ParameterInfo,
    Problem,
    SparsePoint,
    SweepRequest,
    WorkloadInfo,
)
from tests.cli.stub import (
    ANSWER,
    CURVE,
    DONE,
    HEADER,
    HOST,
    PLATFORM,
    RACE,
    Events,
    Reply,
    make_sweep,
)
from tests.cli.test_crossover import ANSWER as CROSSOVER
from tests.client.conftest import Make, Stub

FASTER = FasterBackend(backend="packed", speedup=2.0, speedup_interval=(1.9, 2.1), curve="c8")
FULL_ANSWER = ANSWER.model_copy(update={"faster_backend": FASTER})
SPARSE = SparsePoint(sparsity=0.5, latency_s=1e-3, ratio=1.5, ratio_interval=(1.4, 1.6))
FULL_CROSSOVER = CROSSOVER.model_copy(update={"sparse": [SPARSE]})
PARAMETER = ParameterInfo(
    name="batch", default=16, description="", choices=[], minimum=1, maximum=9
)
WORKLOAD = WorkloadInfo(name="linear", description="", axes=["n"], parameters=[PARAMETER])
RUNNING = make_sweep()
REQUEST = SweepRequest(workload="matmul", axes=[GridAxisRange(first=256, last=261)])

# Of these the keys are data: names of parameters, libraries, dtypes, labels.
KEYS_ARE_DATA = {"libraries", "flags", "backends", "failures", "labels", "label"}


def grow(value: Any, name: str = "") -> Any:
    """The value with a field more in each of its objects, at every level."""
    if isinstance(value, list):
        return [grow(each, name) for each in value]
    if isinstance(value, dict) and name not in KEYS_ARE_DATA:
        grown = {key: grow(each, key) for key, each in value.items()}
        return grown | {"of_the_future": {"of_the_future": [1]}}
    return value


def grown(body: Any, status: int = 200, **headers: str) -> Reply:
    """The reply of a newer service."""
    plain = Reply(body, status)
    reply = Reply(json.dumps(grow(json.loads(plain.content))), status, **headers)
    reply.media_type = plain.media_type
    return reply


def event(name: str, body: Any) -> tuple[str, str]:
    return name, grown(body).content.decode()


# Each operation, the replies to it, and what comes of it.
OPERATIONS: list[tuple[Callable[[Any], Any], dict[str, Reply], Any]] = [
    (
        lambda client: client.ask_lhp({"dims": "1197,317"}, wait_s=60),
        {"GET /lhp": grown(FULL_ANSWER)},
        FULL_ANSWER,
    ),
    (
        lambda client: client.ask_crossover({"dims": "1500,1400"}, wait_s=60),
        {"GET /crossover": grown(FULL_CROSSOVER)},
        FULL_CROSSOVER,
    ),
    (
        lambda client: client.measure(REQUEST, wait_s=60),
        {
            "POST /sweeps": grown(RUNNING, 202, Location="/sweeps/s1"),
            "GET /sweeps/s1/events": Events(event("progress", RUNNING), event("end", DONE)),
            "GET /curves/c7": grown(CURVE),
        },
        CURVE,
    ),
    (lambda client: client.create_sweep(REQUEST), {"POST /sweeps": grown(DONE)}, (DONE, False)),
    (lambda client: client.follow_sweep(RUNNING), {"GET /sweeps/s1": grown(DONE)}, DONE),
    (lambda client: client.get_sweep("s1"), {"GET /sweeps/s1": grown(RUNNING)}, RUNNING),
    (lambda client: client.cancel_sweep("s1"), {"POST /sweeps/s1/cancel": grown(DONE)}, DONE),
    (lambda client: client.get_race("s1"), {"GET /sweeps/s1/race": grown(RACE)}, RACE),
    (
        lambda client: client.list_curves({}),
        {"GET /curves": grown(CurvePage(items=[HEADER], next_cursor=None))},
        CurvePage(items=[HEADER], next_cursor=None),
    ),
    (lambda client: client.get_curve("c7"), {"GET /curves/c7": grown(CURVE)}, CURVE),
    (
        lambda client: client.get_curve_header("c7", host="anvil"),
        {"GET /curves": grown(CurvePage(items=[HEADER], next_cursor=None))},
        HEADER,
    ),
    (lambda client: client.list_hosts(), {"GET /hosts": grown([HOST])}, [HOST]),
    (lambda client: client.list_workloads(), {"GET /workloads": grown([WORKLOAD])}, [WORKLOAD]),
    (lambda client: client.list_platforms(), {"GET /platforms": grown([PLATFORM])}, [PLATFORM]),
    (lambda client: client.get_platform("k"), {"GET /platforms/k": grown(PLATFORM)}, PLATFORM),
]


@pytest.mark.parametrize(("operation", "replies", "result"), OPERATIONS)
def test_fields_of_the_future_are_ignored(
    make: Make,
    stub: Stub,
    operation: Callable[[Any], Any],
    replies: dict[str, Reply],
    result: Any,
) -> None:
    for route, reply in replies.items():
        assert b"of_the_future" in reply.content or isinstance(reply, Events)
        stub.reply(route, reply)
    assert operation(make()) == result


def test_problems_may_grow_too(make: Make, stub: Stub) -> None:
    problem = Problem(
        type="/problems/unknown-host", title="T", status=404, detail="no host", hint="ask another"
    )
    stub.reply("GET /hosts", grown(problem, 404))
    with pytest.raises(UnknownHostError, match="no host") as raised:
        make().list_hosts()
    assert raised.value.hint == "ask another"
