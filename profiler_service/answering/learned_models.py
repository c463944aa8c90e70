"""Fits to what hosts have learned, and how good their predictions were, read from the store.

Knows neither HTTP nor how sweeps are measured.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Final

from profiler_service.kinds import CALLABLE
from profiler_service.latency_model.basis import Basis
from profiler_service.latency_model.calibration import Calibration
from profiler_service.latency_model.fit import Fit, fit
from profiler_service.latency_model.settings import MODEL, VERSION
from profiler_service.latency_model.statistics import Statistics, add_up
from profiler_service.plan.modes import MODES
from profiler_service.plan.spec import SweepSpec
from profiler_service.storage.model_records import ModelHeader, ModelKey
from profiler_service.storage.store import Store
from profiler_service.workload import VARY, Workload

MAX_RELATIVES = 8
"""So many models of the same kind with other fixed parameters are a model's relatives."""
_ALIKE = ("dtype", "backend", "sparsity", "direction", VARY)
"""Parameters that choose the kernels. Relatives agree in them."""

LEARNED_MODES: Final = tuple(name for name, mode in MODES.items() if mode.answers_for != "kernels")
"""Modes of sweeps that a model learns from. The axis of a comparison of kernels has no order."""

get_basis = functools.cache(Basis)
"""The features of points with so many axes."""


def is_learned_from(spec: SweepSpec) -> bool:
    """Whether a model learns from such sweeps.

    None does from a user's own code, which is another workload after each change.
    """
    return spec.mode in LEARNED_MODES and spec.workload.kind != CALLABLE.name


def load_fit(store: Store, key: ModelKey) -> Fit | None:
    """The fit to what the platform's hosts have learned of the workload; None if to nothing.

    Other fixed parameters of the same kind count, half trusted. Raises StoreError.
    """
    basis = get_basis(len(key.workload.axes))
    model = store.find_model(key, version=VERSION)
    relatives = _load_relatives(store, key, basis)
    if model is None and relatives is None:
        return None
    return fit(
        basis,
        Statistics.empty(basis.size, basis.num_axes) if model is None else model.statistics,
        spreads=None if model is None else model.header.spreads,
        relatives=relatives,
    )


def load_calibration(store: Store, key: ModelKey) -> Calibration:
    """How good earlier predictions of that kind were on that platform. Raises StoreError."""
    scored = store.list_scores(
        key.workload.kind,
        key.platform_key,
        key.protocol_key,
        limit=MODEL.calibration.scores,
    )
    return Calibration([each.score for each in scored])


@dataclass(frozen=True, kw_only=True, eq=False)
class ListedModel:
    """A model without its statistics, and how good predictions of its kind were."""

    header: ModelHeader
    calibration: Calibration


def list_models(
    store: Store, platform_key: str, protocol_key: str, *, most: int
) -> list[ListedModel]:
    """The models of a platform, those with the most visits first. Raises StoreError."""
    headers = store.find_model_headers(None, platform_key, protocol_key, version=VERSION)
    calibrations: dict[str, Calibration] = {}
    listed = []
    for header in headers[:most]:
        kind = header.key.workload.kind
        if kind not in calibrations:
            calibrations[kind] = load_calibration(store, header.key)
        listed.append(ListedModel(header=header, calibration=calibrations[kind]))
    return listed


def empty_fit(num_axes: int) -> Fit:
    """The fit to nothing: what is expected of every host."""
    basis = get_basis(num_axes)
    return fit(basis, Statistics.empty(basis.size, num_axes))


def _load_relatives(store: Store, key: ModelKey, basis: Basis) -> Fit | None:
    """The fit to the models that are alike; None if there are none.

    These are those of the workload with other fixed parameters, and the one of the platform that
    the hosts had before, if facts that were measured again have shown that the two agree.
    """
    headers = store.find_model_headers(
        key.workload.kind, key.platform_key, key.protocol_key, version=VERSION
    )
    alike = [each for each in headers if _is_relative(each.key.workload, key.workload)]
    keys = [each.key for each in alike[:MAX_RELATIVES]]
    before = store.find_predecessor(key.platform_key)
    if before is not None and before.is_inherited:
        keys.append(replace(key, platform_key=before.old_platform_key))
    models = [store.find_model(each, version=VERSION) for each in keys]
    found = [model for model in models if model is not None]
    if not found:
        return None
    spreads = (model.header.spreads for model in found)
    return fit(
        basis,
        add_up([model.statistics for model in found], basis.size, basis.num_axes),
        spreads=next((each for each in spreads if each is not None), None),
    )


def _is_relative(other: Workload, mine: Workload) -> bool:
    if other.key == mine.key or other.axes != mine.axes:
        return False
    theirs, own = dict(other.params), dict(mine.params)
    return all(theirs.get(name) == own.get(name) for name in _ALIKE)
