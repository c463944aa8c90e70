"""Every workload kind by name: built-in ones, and those of installed packages.

Third parties add kinds through the entry-point group `profiler_service.workloads`; no code
ever arrives over the network. Pure: kinds describe what is measured, and name what builds it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
from collections.abc import Mapping

from profiler_service.errors import UnknownWorkloadError
from profiler_service.kinds.kernels import LINEAR_KERNELS
from profiler_service.kinds.networks import DEEPSPEECH2, HLSTM, HLSTM_LM, LSTM
from profiler_service.kinds.products import LINEAR, MATMUL
from profiler_service.workload import WorkloadKind

__all__ = [
    "DEEPSPEECH2",
    "ENTRY_POINT_GROUP",
    "HLSTM",
    "HLSTM_LM",
    "LINEAR",
    "LINEAR_KERNELS",
    "LSTM",
    "MATMUL",
    "get_workload_kind",
    "workload_kinds",
]

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "profiler_service.workloads"
_BUILT_IN = (LINEAR, MATMUL, LINEAR_KERNELS, LSTM, HLSTM, HLSTM_LM, DEEPSPEECH2)


@functools.cache
def workload_kinds() -> Mapping[str, WorkloadKind]:
    """Every workload kind by name: built-in ones, and those of installed packages.

    A package whose entry point fails to import, isn't a WorkloadKind, or takes a name
    already used is logged and left out: one broken package must not stop the service.
    """
    kinds = {kind.name: kind for kind in _BUILT_IN}
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            kind = entry_point.load()
        except Exception as error:  # noqa: BLE001  whatever a third party's import raises
            logger.warning("workload package %s failed to import: %r", entry_point.value, error)
            continue
        if not isinstance(kind, WorkloadKind) or kind.name in kinds:
            logger.warning("workload entry point %s is left out: %r", entry_point.value, kind)
            continue
        kinds[kind.name] = kind
    return kinds


def get_workload_kind(name: str) -> WorkloadKind:
    """The workload kind called `name`. Raises UnknownWorkloadError."""
    kinds = workload_kinds()
    if name not in kinds:
        raise UnknownWorkloadError(
            f"there is no workload {name!r}", hint=f"choose one of: {', '.join(sorted(kinds))}"
        )
    return kinds[name]
