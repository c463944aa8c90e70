"""Asks a GPU whether it is throttled, and how much of it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class GpuProbe:
    """Two questions to a GPU."""

    is_throttled: Callable[[], bool]
    """Whether heat or the power supply slows it down; False if the driver doesn't show that."""
    read_use: Callable[[], float | None]
    """Share of about the last second in which it worked for any process; None if not shown."""


def open_gpu_probe(uuid: str) -> GpuProbe:
    """The probe of the GPU `uuid`, by NVML.

    Without nvidia-ml-py (an optional dependency) or a driver that answers, it knows nothing.
    """
    blind = GpuProbe(is_throttled=lambda: False, read_use=lambda: None)
    try:
        import pynvml
    except ImportError:
        return blind
    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:
        return blind
    # Not the software power cap: a GPU under load may stay at it, and would lose every sample.
    reasons = (
        nvml.nvmlClocksThrottleReasonHwSlowdown
        | nvml.nvmlClocksThrottleReasonHwThermalSlowdown
        | nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
        | nvml.nvmlClocksEventReasonSwThermalSlowdown
    )

    def is_throttled() -> bool:
        return bool(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle) & reasons)

    def read_use() -> float | None:
        # Over the last sixth of a second to one second, which depends on the product.
        try:
            return float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
        except nvml.NVMLError:
            return None

    def is_shown(read: Callable[[], object]) -> bool:
        try:
            read()
        except nvml.NVMLError:
            return False
        return True

    return GpuProbe(
        is_throttled=is_throttled if is_shown(is_throttled) else blind.is_throttled,
        read_use=read_use,
    )
