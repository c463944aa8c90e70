"""Every workload kind by name: built-in ones, and those of installed packages.

Third parties add kinds through the entry-point group `profiler_service.workloads`; no code
ever arrives over the network. Pure: a kind describes what is measured, and names the function
that builds the call.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from profiler_service.errors import UnknownWorkloadError
from profiler_service.kinds.callables import CALLABLE
from profiler_service.kinds.convolutions import CONV2D, DEPTHWISE_CONV2D
from profiler_service.kinds.kernels import (
    CONV2D_KERNELS,
    DEPTHWISE_CONV2D_KERNELS,
    HLSTM_KERNELS,
    HLSTM_LM_KERNELS,
    LINEAR_KERNELS,
    MLP_KERNELS,
    TRANSFORMER_BLOCK_KERNELS,
)
from profiler_service.kinds.layers import (
    ATTENTION,
    EMBEDDING,
    LM_HEAD,
    MLP,
    TRANSFORMER_BLOCK,
)
from profiler_service.kinds.networks import (
    DEEPSPEECH2,
    GRU,
    HLSTM,
    HLSTM_LM,
    LSTM,
    LSTM_LM,
)
from profiler_service.kinds.products import LINEAR, MATMUL
from profiler_service.suggestions import did_you_mean
from profiler_service.workload import WorkloadKind

__all__ = [
    "ATTENTION",
    "CALLABLE",
    "CONV2D",
    "CONV2D_KERNELS",
    "DEEPSPEECH2",
    "DEPTHWISE_CONV2D",
    "DEPTHWISE_CONV2D_KERNELS",
    "EMBEDDING",
    "ENTRY_POINT_GROUP",
    "GRU",
    "HLSTM",
    "HLSTM_KERNELS",
    "HLSTM_LM",
    "HLSTM_LM_KERNELS",
    "LINEAR",
    "LINEAR_KERNELS",
    "LM_HEAD",
    "LSTM",
    "LSTM_LM",
    "MATMUL",
    "MLP",
    "MLP_KERNELS",
    "TRANSFORMER_BLOCK",
    "TRANSFORMER_BLOCK_KERNELS",
    "LeftOut",
    "get_workload_kind",
    "kinds_left_out",
    "workload_kinds",
]

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "profiler_service.workloads"
_BUILT_IN = (
    LINEAR,
    MATMUL,
    LINEAR_KERNELS,
    LSTM,
    GRU,
    HLSTM,
    HLSTM_KERNELS,
    HLSTM_LM,
    HLSTM_LM_KERNELS,
    LSTM_LM,
    DEEPSPEECH2,
    CONV2D,
    CONV2D_KERNELS,
    DEPTHWISE_CONV2D,
    DEPTHWISE_CONV2D_KERNELS,
    ATTENTION,
    MLP,
    MLP_KERNELS,
    TRANSFORMER_BLOCK,
    TRANSFORMER_BLOCK_KERNELS,
    EMBEDDING,
    LM_HEAD,
)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An installed workload kind that can't be used, and why."""

    name: str
    """Name of its entry point; as a rule, that of the kind."""
    reason: str


def workload_kinds() -> Mapping[str, WorkloadKind]:
    """Every workload kind that hosts measure, by name: built-in ones, and installed packages' ones.

    A package whose entry point fails to import, isn't a WorkloadKind, or takes a name already used
    (that of a kind, or for a parameter that of an option) is left out and logged: one broken
    package must not stop the service. `kinds_left_out` lists it.
    """
    return _load()[0]


def kinds_left_out() -> Sequence[LeftOut]:
    """The kinds of installed packages that aren't among `workload_kinds`."""
    return _load()[1]


@functools.cache
def _load() -> tuple[Mapping[str, WorkloadKind], Sequence[LeftOut]]:
    kinds = {kind.name: kind for kind in _BUILT_IN}
    left_out = []
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        package = entry_point.dist.name if entry_point.dist else "a package"
        reason = ""
        try:
            kind = entry_point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a third party raises
            reason = f"{entry_point.value} of {package} failed to import: {error!r}"
        else:
            if not isinstance(kind, WorkloadKind):
                reason = f"{entry_point.value} of {package} isn't a WorkloadKind"
            elif kind.name in kinds or kind.name == CALLABLE.name:
                reason = (
                    f"{entry_point.value} of {package} takes the name {kind.name!r}, which is taken"
                )
            elif taken := kind.find_taken_names():
                reason = (
                    f"{entry_point.value} of {package} has a parameter or axis named {taken[0]!r},"
                    " which is an option of every question: it needs another name"
                )
        if reason:
            logger.warning("workload kind %s is left out: %s", entry_point.name, reason)
            left_out.append(LeftOut(name=entry_point.name, reason=reason))
        else:
            kinds[kind.name] = kind
    return kinds, tuple(left_out)


def get_workload_kind(name: str) -> WorkloadKind:
    """The workload kind called `name`, also `callable`. Raises UnknownWorkloadError."""
    if name == CALLABLE.name:
        return CALLABLE
    kinds = workload_kinds()
    if name not in kinds:
        broken = [f"{each.name} is left out: {each.reason}" for each in kinds_left_out()]
        raise UnknownWorkloadError(
            f"there is no workload {name!r}",
            hint=did_you_mean(name, kinds)
            + "; ".join([f"choose one of: {', '.join(sorted(kinds))}", *broken]),
        )
    return kinds[name]
