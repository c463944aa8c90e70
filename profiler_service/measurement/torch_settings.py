"""torch's own switches that change kernels or arithmetic: reads those that aren't at their default.

A switch at its default is no flag of a platform. So if a release of this project looks at one more
switch, a machine keeps its key unless somebody has changed that switch. Plug-ins, a `sitecustomize`
or a variable may change them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch


@dataclass(frozen=True, kw_only=True)
class Switch:
    """One of torch's switches."""

    flag: str
    """Name of the platform's flag."""
    read: Callable[[], object]
    default: object
    """Its value in a torch that nobody has configured."""


_MKLDNN: Final[Any] = torch.backends.mkldnn  # torch's stubs don't know its `matmul`


def float32_precision() -> str:
    """torch's precision of float32 products; `mixed` if libraries were given different ones."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # torch has no single word for it then
        return "mixed"


def _beside_precision(precision: str) -> str:
    """A library's own precision of float32; `none` if it is the common one, another flag."""
    is_common = float32_precision() in ("high", "medium") or precision == "ieee"
    return "none" if is_common else precision


def _usual_quantised_engine() -> str:
    """The library that torch takes for quantised products by itself."""
    supported = torch.backends.quantized.supported_engines
    return next((each for each in ("x86", "onednn", "qnnpack") if each in supported), "none")


SWITCHES: Final = (
    Switch(
        flag="deterministic_algorithms",
        read=torch.are_deterministic_algorithms_enabled,
        default=False,
    ),
    Switch(flag="mkldnn_enabled", read=lambda: torch.backends.mkldnn.enabled, default=True),
    Switch(
        flag="mkldnn_deterministic",
        read=lambda: torch.backends.mkldnn.deterministic,
        default=False,
    ),
    Switch(
        flag="mkldnn_fp32_precision",
        read=lambda: _beside_precision(_MKLDNN.matmul.fp32_precision),
        default="none",
    ),
    Switch(
        flag="cuda_fp32_precision",
        read=lambda: _beside_precision(torch.backends.cuda.matmul.fp32_precision),
        default="none",
    ),
    Switch(flag="cudnn_enabled", read=lambda: torch.backends.cudnn.enabled, default=True),
    Switch(flag="cudnn_benchmark", read=lambda: torch.backends.cudnn.benchmark, default=False),
    Switch(
        flag="cudnn_deterministic",
        read=lambda: torch.backends.cudnn.deterministic,
        default=False,
    ),
    Switch(
        flag="float16_reduced_reduction",
        read=lambda: torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        default=True,
    ),
    Switch(
        flag="bfloat16_reduced_reduction",
        read=lambda: torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        default=True,
    ),
    Switch(
        flag="float16_accumulation",
        read=lambda: torch.backends.cuda.matmul.allow_fp16_accumulation,
        default=False,
    ),
    Switch(
        flag="quantised_engine",
        read=lambda: torch.backends.quantized.engine,
        default=_usual_quantised_engine(),
    ),
)


def changed_switches() -> dict[str, str]:
    """The switches that aren't at their default, as flags of a platform."""
    flags = {}
    for switch in SWITCHES:
        with contextlib.suppress(AttributeError):  # an older torch doesn't have it
            value = switch.read()
            if value != switch.default:
                flags[switch.flag] = str(value).lower()
    return flags
