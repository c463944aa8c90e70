"""Sends what the user's command has measured to the service. Measures nothing itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Literal

from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
from profiler_service.client import ServiceClient
from profiler_service.errors import ConflictError, LhpError, NotReadyError
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import Progress, RaceTerms, SweepSpec
from profiler_service.processes.own_code import OwnBench
from profiler_service.wire import (
    MAX_REASON,
    GridAxisRange,
    OwnBatch,
    OwnFailure,
    OwnSweepEnd,
    OwnSweepRequest,
    PlatformFields,
    ProtocolFields,
    SweepInfo,
)

PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0)
"""Pauses before a batch is sent again, if the service doesn't answer: it may be restarting."""
MAX_REASONS_BYTES: Final = 150_000
"""Room for the reasons of all failures of a batch: with 8,192 visits, it fits one request."""
CURVE_S: Final = 600.0
"""How long to wait for the curve of a sweep that has ended."""


class Posting:
    """A sweep of own code on the service: opened with its first batch, then fed, then ended."""

    def __init__(
        self,
        client: ServiceClient,
        spec: SweepSpec,
        bench: OwnBench,
        machine: str,
        *,
        on_away: Callable[[], object] = lambda: None,
    ) -> None:
        """`on_away` is called when the service doesn't answer, before each pause."""
        self._client = client
        self._spec = spec
        self._bench = bench
        self._machine = machine
        self._on_away = on_away
        self._sweep: SweepInfo | None = None
        self._num_kept = 0

    @property
    def is_open(self) -> bool:
        """Whether the service knows the sweep."""
        return self._sweep is not None

    def keep(self, number: int, samples: Samples, progress: Progress) -> bool:
        """Sends the batch. False if the sweep is over, because somebody has cancelled it.

        Raises what the client raises.
        """
        if self._sweep is None:
            measurer = self._bench.measurer
            request = make_request(
                self._spec,
                machine=self._machine,
                platform=measurer.platform,
                protocol=measurer.protocol,
            )
            self._sweep = self._client.open_own_sweep(request)
        batch = make_batch(number, samples, progress)
        try:
            self._sweep = self._add(self._sweep.id, batch)
        except ConflictError:
            self._sweep = self._client.get_sweep(self._sweep.id)
            if not self._sweep.is_final:
                raise
            return False
        self._num_kept += 1
        return not self._sweep.cancel_requested

    def _add(self, sweep_id: str, batch: OwnBatch) -> SweepInfo:
        for pause_s in PAUSES_S:
            try:
                return self._client.add_own_batch(sweep_id, batch)
            except LhpError as error:
                if not error.is_transient:
                    raise
            self._on_away()
            time.sleep(pause_s)
        return self._client.add_own_batch(sweep_id, batch)

    def end(self, state: Literal["done", "cancelled"]) -> SweepInfo:
        """The sweep with its curve. Waits while the service makes it, for CURVE_S at most."""
        assert self._sweep is not None, "a sweep with a sample was opened"
        deadline_s = time.monotonic() + CURVE_S
        while not self._sweep.is_final:
            try:
                self._sweep = self._client.end_own_sweep(self._sweep.id, OwnSweepEnd(state=state))
            except NotReadyError:
                if time.monotonic() >= deadline_s:
                    raise
        return self._sweep

    def explain(self, error: LhpError) -> None:
        """Adds to the error's hint what of the sweep is kept, and what is lost."""
        if self._sweep is None or self._sweep.is_final:
            return
        sweep_id, kept = self._sweep.id, f"{self._num_kept} batches are kept"
        if not error.is_transient:
            try:
                ended = self.end("cancelled")
            except LhpError:
                pass  # said below
            else:
                error.hint = _join(error.hint, f"{kept}, as sweep {ended.id}")
                return
        error.hint = _join(
            error.hint,
            f"{kept}, as sweep {sweep_id}; the batch measured last is lost, and the command can't"
            " go on with the sweep. The service makes a curve of what it has after 30 minutes, or"
            f" two minutes after `lhp cancel {sweep_id}`",
        )


def _join(hint: str, more: str) -> str:
    return f"{hint}; {more}" if hint else more


def make_request(
    spec: SweepSpec, *, machine: str, platform: Platform, protocol: TimingProtocol
) -> OwnSweepRequest:
    """The request from which the service reads the same `spec` again."""
    mode, terms, default = MODES[spec.mode], spec.terms, RaceTerms()
    assert mode.name != "kernels", "those are of products"
    return OwnSweepRequest(
        params=dict(spec.workload.params),
        axes=[
            GridAxisRange(first=each.first, last=each.last, step=each.step, second=each.second)
            for each in spec.grid.axes
        ],
        mode=mode.name,
        budget=spec.budget_s,
        margin=None if terms.margin is None else _to_text(terms.margin),
        settle=terms.settle_s if mode.is_race and terms.settle_s != default.settle_s else None,
        slack=_to_text(terms.slack) if terms.slack else None,
        seed=spec.seed,
        machine=machine,
        platform=PlatformFields(
            device=platform.device,  # type: ignore[arg-type]  # one of its literals
            device_model=platform.device_model,
            memory_bytes=platform.memory_bytes,
            driver=platform.driver,
            framework=platform.framework,
            libraries=dict(platform.libraries),
            threads=platform.threads,
            cpus=platform.cpus,
            flags=dict(platform.flags),
        ),
        protocol=ProtocolFields(
            timer=protocol.timer,
            cache=protocol.cache,  # type: ignore[arg-type]
            version=protocol.version,
        ),
    )


def _to_text(share: float) -> str:
    """The share with as many decimals as the service reads."""
    return f"{share:.9f}"


def make_batch(number: int, samples: Samples, progress: Progress) -> OwnBatch:
    """The batch as it is sent. Every bit of the samples arrives; reasons may be shortened."""
    lost_s = samples.lost_s
    reason_bytes = min(MAX_REASON, MAX_REASONS_BYTES // max(1, len(samples.failures)))
    return OwnBatch(
        number=number,
        point=samples.point.tolist(),
        round=samples.round.tolist(),
        time_s=samples.time_s.tolist(),
        latency_s=samples.latency_s.tolist(),
        unstable=samples.unstable.tolist(),
        lost_s=None
        if lost_s is None
        else [None if math.isnan(each) else max(each, 0.0) for each in lost_s.tolist()],
        calls=samples.calls,
        child=samples.child,
        num_discarded=samples.num_discarded,
        seconds=samples.seconds,
        others_s=samples.use.others_s,
        watched_s=samples.use.watched_s,
        failures=[
            OwnFailure(point=point, reason=_shorten(reason, reason_bytes))
            for point, reason in samples.failures.items()
        ],
        fraction=progress.fraction,
        stage=progress.stage[:100],
    )


def _shorten(reason: str, size_bytes: int) -> str:
    """The reason in UTF-8 of that size at most. What has no UTF-8, such as odd names, becomes ?."""
    return reason.encode(errors="replace")[:size_bytes].decode(errors="ignore")
