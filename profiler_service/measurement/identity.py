"""Identities of this machine and of the device that is measured. Imports no torch."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.metadata
import uuid
from pathlib import Path
from typing import Final

CPU: Final = "cpu"
"""Identity of all processors of a machine together."""
_SOME_GPU: Final = "cuda"
_MACHINE_ID_PATHS: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


def find_device_id(device: str) -> str:
    """Identity of what will be measured for the setting `device`: `cpu`, or `GPU-` and its UUID.

    Only the driver is asked, so nothing is started on the device. It may be wrong for `auto`,
    where only torch can tell whether it uses the GPU: see `correct_device_id`.
    """
    if device == "cpu" or (device == "auto" and _is_torch_for_cpu()):
        return CPU
    cuda_uuid = find_cuda_uuid()
    if cuda_uuid is not None:
        return f"GPU-{cuda_uuid}"
    return _SOME_GPU if device == "cuda" else CPU


def correct_device_id(device_id: str, *, kind: str) -> str:
    """What `find_device_id` said, corrected: torch has opened a `kind` of device, cpu or cuda."""
    if kind == "cpu":
        return CPU
    return _SOME_GPU if device_id == CPU else device_id


def find_cuda_uuid() -> str | None:
    """UUID of the first GPU that CUDA shows to this process; None if there is none.

    Source: CUDA Driver API, cuDeviceGetUuid_v2. It opens no context on the GPU.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    get_uuid = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    device = ctypes.c_int()
    found = (ctypes.c_ubyte * 16)()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0) or get_uuid(found, device):
        return None
    return str(uuid.UUID(bytes=bytes(found)))


def _is_torch_for_cpu() -> bool:
    """Whether the installed torch says in its version that it is built without CUDA."""
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return True


def find_machine_id() -> str:
    """Identity of the installed system, which survives restarts; empty if it shows none.

    Hashed: it must not leave the machine as it is (Source: machine-id(5)). A copied disk copies it.
    """
    for path in _MACHINE_ID_PATHS:
        with contextlib.suppress(OSError):
            if text := path.read_text().strip():
                return hashlib.sha256(f"lhp {text}".encode()).hexdigest()[:32]
    return ""


def find_boot_id() -> str:
    """Identity of this machine from its start to its next one; a new one each time if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return uuid.uuid4().hex
