"""Predictions of windows from what a platform's hosts have learned. They measure nothing.

Knows neither HTTP nor how a model is fitted.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cachetools import LRUCache

from profiler_service.analysis.lhp import Prefer
from profiler_service.answering.learned_models import (
    empty_fit,
    is_learned_from,
    load_calibration,
    load_fit,
)
from profiler_service.grid import Grid
from profiler_service.kinds import CALLABLE
from profiler_service.latency_model.calibration import Calibration
from profiler_service.latency_model.fit import Fit
from profiler_service.latency_model.predict import (
    Landscape,
    Prediction,
    choose_pair,
    predict_landscape,
    start_race,
)
from profiler_service.latency_model.settings import VERSION
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.window import find_refused
from profiler_service.storage.model_records import ModelKey
from profiler_service.storage.store import Host, Store
from profiler_service.workload import Workload

MAX_MODELS = 16
"""So many models are kept in memory: about 10 MB each for two axes."""
MOST_AT_ONCE = 16_384
"""Of more points than this, a thread predicts: the event loop has others to answer."""
FRESH_S = 1.0
"""A model that was looked for in the store so recently is taken as it is."""

OLD_S = 60.0
"""One that nobody has asked for in so long is looked for before it is used again."""
LOADING = "load a latency model"
"""Name of a task that reads a model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedModel:
    """What a platform's hosts have learned of a workload, and how good predictions were."""

    fit: Fit
    calibration: Calibration
    is_empty: bool
    """Whether nothing was learned, not even of relatives."""
    updated_at: dt.datetime | None
    """When it learned last, of this workload itself."""
    sources: tuple[bool, Mapping[str, int]]
    """Whether it inherits from an earlier platform, and the generation of each model of this one
    that it may rest on, by the key of its workload."""
    read_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictedWindow:
    """What is predicted of a window."""

    landscape: Landscape
    prediction: Prediction
    model: LearnedModel


class Predictions:
    """Predicts windows. Keeps the models that are asked for in memory. For one event loop."""

    def __init__(
        self,
        store: Store,
        *,
        is_on: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """If it isn't on, nothing is known of any window, and no race gets anything."""
        self._store = store
        self._clock = clock
        self._is_on = is_on
        self._models: LRUCache[ModelKey, LearnedModel] = LRUCache(MAX_MODELS)
        self._loading: dict[ModelKey, asyncio.Task[LearnedModel]] = {}

    async def predict(
        self,
        workload: Workload,
        window: Grid,
        *,
        platform_key: str,
        protocol_key: str,
        prefer: Prefer = "fastest",
        slack: float = 0.0,
    ) -> PredictedWindow:
        """The prediction from what is in memory, if it is; it is renewed for the next question.

        What is older than OLD_S is renewed before.

        Raises StoreError if it must be read.
        """
        key = ModelKey(workload=workload, platform_key=platform_key, protocol_key=protocol_key)
        model = await self._find(key, is_fresh=False)
        if window.size <= MOST_AT_ONCE and prefer == "fastest":
            return _predict(model, workload, window, prefer, slack)
        return await asyncio.to_thread(_predict, model, workload, window, prefer, slack)

    async def prepare(self, spec: SweepSpec, host: Host) -> SweepSpec:
        """The spec of a race, with what the host's model says of its window. Raises StoreError."""
        if not self._is_on or not MODES[spec.mode].is_race or not is_learned_from(spec):
            return spec
        model = await self._find(
            ModelKey(
                workload=spec.workload,
                platform_key=host.platform_key,
                protocol_key=host.protocol_key,
            ),
            is_fresh=True,
        )
        if model.is_empty:
            return spec
        return await asyncio.to_thread(_start, spec, model)

    async def _find(self, key: ModelKey, *, is_fresh: bool) -> LearnedModel:
        model = self._models.get(key)
        now_s = self._clock()
        if model is not None and now_s < model.read_s + FRESH_S:
            return model
        if key not in self._loading:
            task = asyncio.create_task(self._load(key, model, now_s), name=LOADING)
            self._loading[key] = task
            task.add_done_callback(lambda each: self._loading.pop(key, None))
            # Its error may stay unread: an older model is good enough.
            task.add_done_callback(lambda each: each.cancelled() or each.exception())
        if model is not None and not is_fresh and now_s < model.read_s + OLD_S:
            return model
        return await asyncio.shield(self._loading[key])

    async def _load(self, key: ModelKey, before: LearnedModel | None, now_s: float) -> LearnedModel:
        model = await asyncio.to_thread(_load, self._store, key, before, now_s, is_on=self._is_on)
        self._models[key] = model
        return model


def _predict(
    model: LearnedModel, workload: Workload, window: Grid, prefer: Prefer, slack: float
) -> PredictedWindow:
    landscape = predict_landscape(
        model.fit, window, refused=find_refused(workload, window).tolist()
    )
    prediction = choose_pair(model.fit, landscape, model.calibration, prefer=prefer, slack=slack)
    return PredictedWindow(landscape=landscape, prediction=prediction, model=model)


def _load(
    store: Store, key: ModelKey, before: LearnedModel | None, now_s: float, *, is_on: bool
) -> LearnedModel:
    """The model as the store has it: the one before, if nothing has changed."""
    is_learned = is_on and key.workload.kind != CALLABLE.name
    headers = (
        store.find_model_headers(
            key.workload.kind, key.platform_key, key.protocol_key, version=VERSION
        )
        if is_learned
        else []
    )
    before_change = store.find_predecessor(key.platform_key)
    is_inheriting = before_change is not None and before_change.is_inherited
    sources = (is_inheriting, {each.key.workload.key: each.generation for each in headers})
    calibration = load_calibration(store, key)
    if before is not None and before.sources == sources:
        return replace(before, calibration=calibration, read_s=now_s)
    own = [header for header in headers if header.key == key]
    found = load_fit(store, key) if is_learned else None
    fitted = found or empty_fit(len(key.workload.axes))
    # Made now, not when somebody waits.
    _ = fitted.mean, fitted.covariance
    return LearnedModel(
        fit=fitted,
        calibration=calibration,
        is_empty=found is None,
        updated_at=own[0].updated_at if own else None,
        sources=sources,
        read_s=now_s,
    )


def _start(spec: SweepSpec, model: LearnedModel) -> SweepSpec:
    refused = find_refused(spec.workload, spec.grid).tolist()
    landscape = predict_landscape(model.fit, spec.grid, refused=refused)
    return replace(spec, learned=start_race(model.fit, landscape, model.calibration))
