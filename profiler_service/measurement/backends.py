"""Finds which element types and which kernels a device has, by trying them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812  the name that torch's own documentation uses

from profiler_service.kinds.backends import HOST_BACKENDS
from profiler_service.networks.attention import has_attention
from profiler_service.networks.compilation import can_generate_code
from profiler_service.networks.convolutions import has_convolution
from profiler_service.networks.products import has_backend
from profiler_service.workload import DTYPE_SIZES_BYTES

Trial = Callable[[str, torch.dtype], bool]
_OF_LAYERS: Final[Mapping[str, Trial]] = {
    "packed_conv2d": lambda device, dtype: has_convolution("packed", device, dtype),
    "compiled_layer": lambda device, dtype: can_generate_code(device),
    "math": lambda device, dtype: has_attention("math", device, dtype),
    "fused": lambda device, dtype: has_attention("fused", device, dtype),
}


def probe_dtypes(device: str) -> tuple[str, ...]:
    """The element types that `device` can multiply."""
    working = []
    for name in DTYPE_SIZES_BYTES:
        with contextlib.suppress(RuntimeError):
            x = torch.ones(16, 64, dtype=getattr(torch, name), device=device)
            F.linear(x, x).cpu()
            working.append(name)
    return tuple(working)


def probe_backends(device: str, dtypes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each name in HOST_BACKENDS, the element types among `dtypes` that `device` has it for."""
    return {
        backend: tuple(name for name in dtypes if _has(backend, device, getattr(torch, name)))
        for backend in HOST_BACKENDS
    }


def _has(backend: str, device: str, dtype: torch.dtype) -> bool:
    if backend in _OF_LAYERS:
        return _OF_LAYERS[backend](device, dtype)
    return has_backend(backend, device, dtype)
