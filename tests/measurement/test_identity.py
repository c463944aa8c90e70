"""Which device and which machine: what is known before anything is opened."""

from __future__ import annotations

import ctypes
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiler_service.measurement import identity
from profiler_service.measurement.identity import (
    CPU,
    correct_device_id,
    find_boot_id,
    find_cuda_uuid,
    find_device_id,
    find_machine_id,
)

UUID = uuid.UUID("9a1b2c3d-0000-1111-2222-333344445555")


class FakeCuda:
    """As much of the CUDA driver as is used, with one GPU; `failing` is a call that fails."""

    def __init__(self, *, failing: str = "") -> None:
        self._failing = failing

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 100 if self._failing == "cuInit" else 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = 7
        return 101 if self._failing == "cuDeviceGet" or ordinal != 0 else 0

    def cuDeviceGetUuid_v2(self, found: Any, device: ctypes.c_int) -> int:  # noqa: N802
        assert device.value == 7
        found[:] = list(UUID.bytes)
        return 0


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a driver (None: there is none) and a torch of that version."""

    def install(driver: FakeCuda | None, *, torch: str) -> None:
        def load(name: str) -> FakeCuda:
            assert name == "libcuda.so.1"
            if driver is None:
                raise OSError(f"{name}: cannot open shared object file")
            return driver

        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr("importlib.metadata.version", lambda _: torch)

    return install


@pytest.mark.parametrize(
    ("device", "driver", "torch", "expected"),
    [
        ("cpu", FakeCuda(), "2.13.0", CPU),
        ("auto", FakeCuda(), "2.13.0", f"GPU-{UUID}"),
        ("cuda", FakeCuda(), "2.13.0", f"GPU-{UUID}"),
        ("auto", FakeCuda(), "2.13.0+cpu", CPU),
        ("auto", None, "2.13.0", CPU),
        ("auto", FakeCuda(failing="cuInit"), "2.13.0", CPU),
        ("auto", FakeCuda(failing="cuDeviceGet"), "2.13.0", CPU),
        # A GPU of another make, or none: torch will tell.
        ("cuda", None, "2.13.0", "cuda"),
    ],
)
def test_the_device_is_known_before_torch_opens_it(
    install: Callable[..., None],
    device: str,
    driver: FakeCuda | None,
    torch: str,
    expected: str,
) -> None:
    install(driver, torch=torch)
    assert find_device_id(device) == expected


@pytest.mark.parametrize(
    ("expected", "kind", "corrected"),
    [
        (CPU, "cpu", CPU),
        (f"GPU-{UUID}", "cuda", f"GPU-{UUID}"),
        # torch is built without CUDA, though its version doesn't say so.
        (f"GPU-{UUID}", "cpu", CPU),
        (CPU, "cuda", "cuda"),
    ],
)
def test_what_torch_has_opened_decides(expected: str, kind: str, corrected: str) -> None:
    assert correct_device_id(expected, kind=kind) == corrected


@pytest.mark.gpu
def test_the_gpu_is_the_one_that_torch_measures_on() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    assert find_cuda_uuid() == str(torch.cuda.get_device_properties(0).uuid)


def test_a_machine_keeps_its_identity_and_does_not_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, empty = tmp_path / "machine-id", tmp_path / "empty"
    empty.touch()
    monkeypatch.setattr(identity, "_MACHINE_ID_PATHS", (tmp_path / "none", empty, path))
    assert find_machine_id() == ""
    path.write_text("0123456789abcdef0123456789abcdef\n")
    found = find_machine_id()
    assert found == find_machine_id()
    assert found == hashlib.sha256(b"lhp 0123456789abcdef0123456789abcdef").hexdigest()[:32]
    path.write_text("another\n")
    assert find_machine_id() != found


def test_the_boot_has_one_identity() -> None:
    assert find_boot_id() == find_boot_id() != ""
