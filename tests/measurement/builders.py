"""Workload kinds for tests: their builders run in the measuring child, as a third party's do."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from profiler_service.measurement.operations import Call, Operands
from profiler_service.workload import Dims, ParamValue, Workload, WorkloadKind

KILLS_ITSELF = 13
KILLS_ITSELF_TOO = 14
ASKS_TOO_MUCH = 17
RAISES_LATER = 19
BLOCKS = 23
WAITS_FOR_THE_GPU = 29


def kind(name: str, function: str) -> WorkloadKind:
    return WorkloadKind(
        name=name,
        axes=("size",),
        parameters=(),
        builder=f"tests.measurement.builders:{function}",
        operand_bytes=lambda dims, params: 0,
        flops=lambda dims, params: 0,
    )


NOTHING = kind("nothing", "build_nothing")
TROUBLE = kind("trouble", "build_trouble")
SLOW = kind("slow", "build_slow")
MISSING = kind("missing", "build_what_is_not_there")
KINDS = {each.name: each for each in (NOTHING, TROUBLE, SLOW, MISSING)}


def workload(kind: WorkloadKind, **params: ParamValue) -> Workload:
    """Unlike `kind.describe`, lets tests pass what they like, such as a path."""
    return Workload(kind=kind.name, params=tuple(sorted(params.items())), axes=kind.axes)


def build_nothing(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    if "fifo" in params and dims == (1,):
        Path(str(params["fifo"])).write_text("the visit is under way")
    return int


def build_trouble(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    if "log" in params:
        with Path(str(params["log"])).open("a") as log:
            log.write(f"{dims[0]}\n")
    match dims[0]:
        case size if size in (KILLS_ITSELF, KILLS_ITSELF_TOO):
            return functools.partial(os.kill, os.getpid(), signal.SIGKILL)
        case size if size == ASKS_TOO_MUCH:
            return functools.partial(torch.empty, 1 << 58)
        case size if size == RAISES_LATER and _is_second_visit():
            raise RuntimeError("not twice\nand more lines")
        case size if size == BLOCKS:
            if "fifo" in params:
                Path(str(params["fifo"])).write_text("the visit is under way")
            return threading.Event().wait
    x = operands.input(dims[0])
    if dims[0] == WAITS_FOR_THE_GPU:
        return lambda: x.sum().item()  # can't be captured in a graph
    return functools.partial(torch.neg, x)


def build_slow(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """Each call notes itself in a file, and takes as many milliseconds as the workload says."""

    def call() -> None:
        with Path(str(params["log"])).open("a") as log:
            log.write(f"{dims[0]}\n")
        time.sleep(int(params["call_ms"]) / 1000)

    return call


@functools.cache
def _visits() -> list[None]:
    return []


def _is_second_visit() -> bool:
    _visits().append(None)
    return len(_visits()) == 2


def build_death(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    return functools.partial(os.kill, os.getpid(), signal.SIGSEGV)
