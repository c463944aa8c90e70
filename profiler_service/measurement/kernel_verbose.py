"""Reads the names of kernels from what oneDNN and MKL print about their calls. Pure.

oneDNN names its kernel (`brg_matmul:avx512_core_bf16`) and the layout of the weights, which often
tells more than the name: `Acdb48a` is made of blocks of 48. MKL names the function and whether
operands are transposed, and nothing of the kernel inside.
(Source: oneDNN, "Verbose Mode"; oneMKL, "Using oneMKL Verbose Mode". The lines in the tests.)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Final

MAX_NAMES: Final = 6
"""A call of more kernels names the first ones, and how many others there are."""
MAX_NAME_CHARS: Final = 120
"""What is longer is cut off: a CUDA kernel's name may have thousands of characters."""

_MKL: Final = re.compile(r"MKL_VERBOSE ([A-Z][A-Z0-9_]*)\(((?:[A-Z],)*)")
_BLOCKED: Final = re.compile(r"[a-zA-Z]*\d\w*")
"""A layout in blocks; one without a number is only an order of axes."""
_PLACE_OF_LAYOUT: Final = 4
_DESCRIPTIONS: Final = 4
"""Places of the operands' description after `exec`: engine, primitive, kernel, kind, operands."""


def read_kernel(text: str) -> str:
    """The kernels that one call ran, in order, joined by ` + ` as `join_kernels` does.

    Empty if the text names none. Lines that have another form are passed over.
    """
    return join_kernels(name for line in text.splitlines() if (name := _read_line(line)))


def join_kernels(names: Iterable[str]) -> str:
    """The names as one, in order; equal neighbours count once.

    If more than MAX_NAMES are left, each name counts once: how often a call of thousands of
    products alternates between two kernels depends on its size.
    """
    cleaned = [_clean(each) for each, _ in itertools.groupby(names)]
    distinct = cleaned if len(cleaned) <= MAX_NAMES else list(dict.fromkeys(cleaned))
    kept = " + ".join(distinct[:MAX_NAMES])
    left_out = len(distinct) - MAX_NAMES
    return f"{kept} and {left_out} more" if left_out > 0 else kept


def _clean(name: str) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in name[: MAX_NAME_CHARS + 1])
    return shown if len(shown) <= MAX_NAME_CHARS else f"{shown[: MAX_NAME_CHARS - 1]}…"


def _read_line(line: str) -> str:
    if line.startswith(("onednn_verbose,", "dnnl_verbose,")):
        return _read_onednn(line.split(","))
    found = _MKL.match(line)
    if found is None:
        return ""
    function, flags = found.groups()
    return f"MKL {function}({flags.rstrip(',')})" if flags else f"MKL {function}"


def _read_onednn(fields: list[str]) -> str:
    """The primitive and its kernel: `convolution brg_conv_fwd:avx512_core (weights Acdb48a)`."""
    if "exec" not in fields[1:5] or "graph" in fields[1:5]:
        return ""
    described = fields[fields.index("exec") + 1 :]
    if len(described) <= _DESCRIPTIONS:
        return ""
    _, primitive, kernel, _, operands = described[: _DESCRIPTIONS + 1]
    layouts = dict.fromkeys(
        parts[_PLACE_OF_LAYOUT]
        for operand in operands.split(" ")
        if operand.startswith("wei")
        and len(parts := operand.split(":")) > _PLACE_OF_LAYOUT
        and _BLOCKED.fullmatch(parts[_PLACE_OF_LAYOUT])
    )
    weights = f" (weights {', '.join(layouts)})" if layouts else ""
    return f"{primitive} {kernel}{weights}"
