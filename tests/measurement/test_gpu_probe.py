from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from profiler_service.measurement.gpu_probe import open_gpu_probe


class FakeNvml(ModuleType):
    """As much of pynvml as is used, with one GPU, `GPU-1-2`."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, reasons: int = 0, unsupported: str = "") -> None:
        super().__init__("pynvml")
        self.nvmlClocksThrottleReasonHwSlowdown = 8
        self.nvmlClocksThrottleReasonHwThermalSlowdown = 64
        self.nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 128
        self.nvmlClocksEventReasonSwThermalSlowdown = 32
        self._reasons = reasons
        self._unsupported = unsupported

    def _check(self, name: str) -> None:
        if name == self._unsupported:
            raise self.NVMLError("Not Supported")

    def nvmlInit(self) -> None:  # noqa: N802
        self._check("nvmlInit")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        assert uuid == "GPU-1-2"
        return "handle"

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:  # noqa: N802
        assert handle == "handle"
        self._check("reasons")
        return self._reasons

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:  # noqa: N802
        assert handle == "handle"
        self._check("use")
        return SimpleNamespace(gpu=37, memory=99)  # percent of time, of computing and of memory


@pytest.mark.parametrize(
    ("reasons", "throttled"),
    # None; hardware, thermal (hardware, software), power brake; idle and the power cap don't count.
    [(0, False), (8, True), (64, True), (32, True), (128, True), (1, False), (4, False)],
)
def test_gpu_probe_tells_throttling(
    reasons: int, throttled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(reasons=reasons))
    assert open_gpu_probe("1-2").is_throttled() is throttled


@pytest.mark.parametrize(
    ("unsupported", "throttled"), [("nvmlInit", False), ("reasons", False), ("use", True)]
)
def test_gpu_probe_shows_what_the_driver_does(
    unsupported: str, throttled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(reasons=8, unsupported=unsupported))
    assert open_gpu_probe("1-2").is_throttled() is throttled


@pytest.mark.parametrize(
    ("unsupported", "use"), [("", 0.37), ("reasons", 0.37), ("use", None), ("nvmlInit", None)]
)
def test_gpu_probe_tells_how_much_is_used(
    unsupported: str, use: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(unsupported=unsupported))
    assert open_gpu_probe("1-2").read_use() == use


def test_gpu_probe_without_nvml_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it raises ImportError
    probe = open_gpu_probe("1-2")
    assert (probe.is_throttled(), probe.read_use()) == (False, None)
