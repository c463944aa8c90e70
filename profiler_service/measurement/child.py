"""The measuring child process: takes orders, visits points, writes samples to shared memory.

Only `child_process.ChildProcess` starts it. Knows neither storage nor planners.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import queue
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

from profiler_service.distribution import install_command
from profiler_service.errors import LhpError, MeasurementFailedError
from profiler_service.measurement.copies import Copies
from profiler_service.measurement.exchange import (
    NOWHERE,
    PAIR,
    Block,
    Finished,
    KernelNamed,
    NameOrder,
    Order,
    PointFailed,
    Ready,
    Refused,
    Setup,
)
from profiler_service.workload import Dims, ParamValue, unfold

if TYPE_CHECKING:
    from profiler_service.measurement.devices import Device
    from profiler_service.measurement.kernel_reading import KernelReader
    from profiler_service.measurement.operations import Builder, Call, Operands
    from profiler_service.measurement.timer import Sample

# The words of torch's allocators, CUDA, cuBLAS and cuDNN: not all raise torch.OutOfMemoryError.
_NO_MEMORY: Final = re.compile(r"out of memory|can't allocate memory|_ALLOC_FAILED")


def main(connection_fd: int, block_fd: int) -> None:
    """Carries out orders from the connection until the other end closes it."""
    # Only the parent decides when to stop. A service manager sends SIGTERM to every process. Here
    # it would end a visit, and the visit's point would count as failed.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(
        OSError
    ):  # if memory runs out, the kernel should end this process first, not the service
        Path("/proc/self/oom_score_adj").write_text("1000")
    connection = Connection(connection_fd)
    block = Block(block_fd)
    orders: queue.SimpleQueue[Setup | Order | NameOrder] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, orders), daemon=True).start()
    setup = orders.get()
    assert isinstance(setup, Setup)
    try:
        # Not at the top of the file: importing torch takes seconds, reads the number of threads
        # from the environment, and may fail. It may take place on any processor, so that it doesn't
        # disturb another child that measures.
        import torch

        os.sched_setaffinity(0, setup.cpus)

        from profiler_service.measurement.backends import probe_backends, probe_dtypes
        from profiler_service.measurement.devices import open_device

        device = open_device(setup.device, cpus=setup.cpus, cache=setup.cache)
        dtypes = probe_dtypes(device.name)
        backends = probe_backends(device.name, dtypes)
    except ImportError as error:
        connection.send(
            Refused(
                message=f"measuring needs torch, which can't be imported: {error}",
                hint=f"{install_command('measure')} (then try again)",
            )
        )
        return
    except (MeasurementFailedError, RuntimeError) as error:
        connection.send(Refused(message=str(error), hint=getattr(error, "hint", "")))
        return
    with torch.inference_mode(setup.is_inference):
        connection.send(
            Ready(
                platform=device.platform(),
                protocol=device.protocol,
                dtypes=dtypes,
                backends=backends,
                gpu_uuid=device.gpu_uuid,
            )
        )
        gc.freeze()  # so that the garbage collector doesn't search torch's objects at every order
        runner = OrderRunner(device, block, connection.send)
        while True:
            order = orders.get()
            if isinstance(order, NameOrder):
                runner.name_kernels(order)
            else:
                assert isinstance(order, Order)
                runner.carry_out(order)


def _receive(connection: Connection, orders: queue.SimpleQueue[Setup | Order | NameOrder]) -> None:
    # A separate thread notices at once that the parent has ended, even if it was killed.
    try:
        while True:
            orders.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)


class VisitStoppedError(Exception):
    """The visit under way was broken off, because the parent told the child to stop."""


class OrderRunner:
    """Carries out orders on one device."""

    def __init__(self, device: Device, block: Block, send: Callable[[object], None]) -> None:
        self._device = device
        self._block = block
        self._send = send
        self._operands: Operands | None = None
        self._kernels: KernelReader | None = None
        self._warmed: set[Hashable] = set()
        """What this process has called."""

    def carry_out(self, order: Order) -> None:
        """Makes the order's visits. Then reports that the order is finished or refused."""
        from profiler_service.measurement.operations import load_builder

        try:
            build = load_builder(order.builder)
        except (ImportError, AttributeError, ValueError) as error:
            self._send(Refused(message=f"the builder {order.builder} is missing: {error}"))
            return
        if self._operands is not None:
            self._operands.start_visit()
            self._operands.remap()
        gc.collect()
        gc.disable()
        try:
            self._visit(order, build)
        finally:
            gc.enable()
        self._block.under_way = NOWHERE
        self._send(Finished())

    def name_kernels(self, order: NameOrder) -> None:
        """Names the kernels of the order's points, one call each, until its time is over.

        Points that can't be called, or whose kernels nobody names, are left out. Then reports that
        the order is finished or refused.
        """
        from profiler_service.measurement.kernel_reading import open_kernel_reader
        from profiler_service.measurement.operations import load_builder

        try:
            build = load_builder(order.builder)
        except (ImportError, AttributeError, ValueError) as error:
            self._send(Refused(message=f"the builder {order.builder} is missing: {error}"))
            return
        if self._kernels is None:
            self._kernels = open_kernel_reader(self._device.name)
        ends_s = time.perf_counter() + order.limit_s
        last_s, memory_ran_out = 0.0, False
        for place, dims in enumerate(order.dims.tolist()):
            begun_s = time.perf_counter()
            is_late = last_s > order.limit_s if place < PAIR else begun_s + last_s > ends_s
            if self._block.stop or memory_ran_out or is_late:
                break
            try:
                name = self._name(order, build, tuple(dims), self._kernels)
            except Exception as error:  # calls of other packages may raise anything
                if not self._device.is_usable():
                    raise SystemExit(1) from error
                memory_ran_out = find_memory_error(error) is not None
            else:
                if name:
                    self._send(KernelNamed(place=place, name=name))
                last_s = time.perf_counter() - begun_s
        if memory_ran_out:
            self._release_memory()
        self._send(Finished())

    def _name(self, order: NameOrder, build: Builder, dims: Dims, kernels: KernelReader) -> str:
        operands = self._operands_for(order.params)
        operands.start_visit()
        return kernels.read(build(operands, *unfold(order.axes, dims, order.params)))

    def _operands_for(self, params: Mapping[str, ParamValue]) -> Operands:
        from profiler_service.measurement.operations import Operands

        dtype = str(params.get("dtype", "float32"))
        if self._operands is None or str(self._operands.dtype) != f"torch.{dtype}":
            self._operands = None  # frees the old arenas before new ones are allocated
            self._operands = Operands(dtype, self._device.name, random.Random())
        return self._operands

    def _visit(self, order: Order, build: Builder) -> None:
        block = self._block
        failed: set[int] = set()
        visits = zip(order.point.tolist(), order.dims.tolist(), strict=True)
        for visit, (point, dims) in enumerate(visits):
            if block.stop:
                return
            if point in failed:
                continue
            block.under_way = visit
            memory_ran_out = False
            try:
                block.put(visit, self._take_sample(order, build, tuple(dims)))
            except VisitStoppedError:
                return
            except Exception as error:  # calls of other packages may raise anything
                failed.add(point)
                memory_ran_out = find_memory_error(error) is not None
                self._send(PointFailed(point=point, reason=describe(error)))
                if not self._device.is_usable():
                    # No other point can be measured in this process. A new process will measure
                    # them.
                    raise SystemExit(1) from error
            if memory_ran_out:
                self._release_memory()

    def _release_memory(self) -> None:
        """Call it when the error is handled: its traceback keeps tensors alive."""
        self._operands = None
        gc.collect()
        self._device.release_memory()

    def _take_sample(self, order: Order, build: Builder, dims: Dims) -> Sample:
        operands = self._operands_for(order.params)
        operands.start_visit()
        where = unfold(order.axes, dims, order.params)
        call = build(operands, *where)
        self._block.prepared_s += operands.preparation_s
        self._check_stop()  # preparing a large weight may take longer than a call
        key = order.builder, tuple(sorted(order.params.items())), dims
        is_warm = order.warms_once and key in self._warmed
        sample = self._device.sample(
            call,
            calls=order.calls,
            warmup_calls=0 if is_warm else order.warmup_calls,
            check_stop=self._check_stop,
            copies=Copies(
                make=functools.partial(_build_copy, build, operands, *where),
                size_bytes=operands.taken_bytes,
            )
            if self._device.protocol.cache == "flushed"
            else None,
            is_captured=order.is_captured,
        )
        self._warmed.add(key)
        prepared_s = self._block.prepared_s
        return replace(sample, started_s=sample.started_s - prepared_s) if prepared_s else sample

    def _check_stop(self) -> None:
        if self._block.stop:
            raise VisitStoppedError


def _build_copy(
    build: Builder, operands: Operands, dims: Dims, params: Mapping[str, ParamValue]
) -> Call:
    """Another call of the visit, whose operands lie beside those of the first one."""
    if operands.are_kept:
        raise MeasurementFailedError(
            "the call keeps its weights from visit to visit, so they can't be evicted from the"
            " cache before each call",
            hint="set LHP_CACHE=warm",
        )
    return build(operands, dims, params)


def describe(error: BaseException) -> str:
    """One line that says what was raised. If memory ran out, says that, whatever error followed."""
    error = find_memory_error(error) or error
    lines = str(error).strip().splitlines()
    if lines and isinstance(error, LhpError):
        return lines[0]  # a sentence already
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def find_memory_error(error: BaseException) -> BaseException | None:
    """The out-of-memory error: this one or one of its causes; None if memory didn't run out."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MemoryError) or _NO_MEMORY.search(str(found)):
            return found
        found = found.__cause__ or found.__context__
    return None
