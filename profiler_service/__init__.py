"""Latency hysteresis points as a service: measures, stores and answers.

The public names below are imported when they are first used, so that `import profiler_service`
stays cheap, and needs no more than the base of the distribution.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler_service.client import AsyncServiceClient, ServiceClient
    from profiler_service.errors import LhpError
    from profiler_service.wire import (
        CrossoverAnswer,
        CurveDetail,
        LhpAnswer,
        SweepInfo,
        SweepRequest,
    )
    from profiler_service.workload import Parameter, Workload, WorkloadKind, parse_dims

    __version__: str

__all__ = [
    "AsyncServiceClient",
    "CrossoverAnswer",
    "CurveDetail",
    "LhpAnswer",
    "LhpError",
    "Parameter",
    "ServiceClient",
    "SweepInfo",
    "SweepRequest",
    "Workload",
    "WorkloadKind",
    "__version__",
    "parse_dims",
]

_MODULES = {
    "client": ("AsyncServiceClient", "ServiceClient"),
    "errors": ("LhpError",),
    "wire": ("CrossoverAnswer", "CurveDetail", "LhpAnswer", "SweepInfo", "SweepRequest"),
    "workload": ("Parameter", "Workload", "WorkloadKind", "parse_dims"),
}
"""The module in which each public name is defined."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        from profiler_service.distribution import find_version

        return find_version()
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
