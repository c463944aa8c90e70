"""What `torch.compile` makes of a module with frozen weights, and whether it can.

torch only. Knows nothing of which modules there are, nor of how anything is measured.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import shutil
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

Compiled = Callable[..., torch.Tensor]


def can_compile() -> bool:
    """Whether this torch can compile modules in isolation from each other.

    Nothing is compiled, because importing the compiler alone takes seconds.
    """
    return "isolate_recompiles" in inspect.signature(torch.compile).parameters


def can_generate_code(device_type: str) -> bool:
    """Whether kernels of its own can be compiled: more than one call of a library.

    That needs a compiler of C++ and Python's header files on a CPU, and Triton on other devices.
    """
    if not can_compile():
        return False
    if device_type != "cpu":
        return importlib.util.find_spec("triton") is not None
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which(os.environ.get("CXX", "g++")) is not None and header.is_file()


def compile_frozen(
    module: nn.Module, first: torch.Tensor, *others: torch.Tensor | None, **options: bool
) -> Compiled:
    """The module's `forward`, compiled with its weights as constants, for inference.

    It is compiled here for operands such as these, and later for each other shape of the first
    one; the shapes of the others must follow from it. All calls get the same `options`. It is
    undefined whether later writes to the weights have an effect.
    """
    import torch._inductor.config as inductor  # importing it takes over a second

    # Isolated: modules share the code of `forward`, and after eight shapes of one code torch
    # would run it uncompiled, without saying so. `fullgraph` raises instead.
    compiled: Compiled = torch.no_grad()(
        torch.compile(  # type: ignore[call-overload]  # lacks `isolate_recompiles`
            module.forward,
            dynamic=False,
            fullgraph=True,
            isolate_recompiles=True,
        )
    )
    shapes: set[torch.Size] = set()

    def call(first: torch.Tensor, *others: torch.Tensor | None) -> torch.Tensor:
        if first.shape in shapes:
            return compiled(first, *others, **options)
        # A global setting: as an option of `torch.compile` it comes too late, and nothing is
        # frozen.
        with inductor.patch(freezing=True), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations
            result = compiled(first, *others, **options)
        shapes.add(first.shape)
        return result

    call(first, *others)
    return call
