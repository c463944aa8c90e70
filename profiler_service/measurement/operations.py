"""The measured calls, and the operands that they work on. Runs in the measuring child only.

A workload kind names its builder as "module:function". The child imports the function and
calls it once at every visit of a point:

    def build(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call

It takes its tensors from `operands` (`weight` and `input`, as many as it needs), and returns
a callable without arguments: the thing that is timed. The callable must do the same work each
time it is called, must not move data between devices, and on CUDA must only queue work on the
current stream (it is captured in a graph). Building is not timed, but happens at every visit,
so it should take microseconds. Everything runs under `torch.inference_mode`. Whatever the
builder or its callable raises becomes the failure of that one point.

Knows nothing of how calls are timed.
"""

from __future__ import annotations

import functools
import importlib
import math
import random
from collections.abc import Callable, Mapping
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812  the name that torch's own documentation uses

from profiler_service.workload import Dims, ParamValue

# Shapes: B batch, I in_features, O out_features, S size of a square weight.

Call = Callable[[], object]
Builder = Callable[["Operands", Dims, Mapping[str, ParamValue]], Call]

NUM_PLACES: Final = 128
"""Number of places within an arena at which an operand may begin."""
_BLOCK_ELEMENTS: Final = 1 << 20
_GROWTH: Final = 1.25


class Arena:
    """Memory that operands are views into, at another random place at each visit.

    Otherwise the alignment that an allocator happens to give to a size would pose as an
    effect of the dimension (Source: ours). It grows when a larger operand comes and never
    shrinks: nothing is allocated at a visit, and the cache footprint stays constant.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, rng: random.Random) -> None:
        self._device = device
        self._rng = rng
        # Where real allocations begin: torch aligns to 64 bytes on a CPU, to 512 on CUDA.
        alignment_bytes = 512 if device.type == "cuda" else 64
        self.alignment = alignment_bytes // dtype.itemsize
        """Operands begin at multiples of this many elements."""
        self.memory = torch.empty(0, dtype=dtype, device=device)
        self._cursor = 0

    def start_visit(self) -> None:
        """Makes all of the arena free again: views given earlier may be overwritten."""
        self._cursor = 0

    def take(self, shape: tuple[int, ...]) -> torch.Tensor:
        """A contiguous view of `shape`, disjoint from the others taken in this visit."""
        count = math.prod(shape)
        start = self._cursor + self._rng.randrange(NUM_PLACES) * self.alignment
        if start + count > len(self.memory):
            self._grow(self._cursor + count + NUM_PLACES * self.alignment)
        self._cursor = -(-(start + count) // self.alignment) * self.alignment
        return self.memory[start : start + count].view(shape)

    def _grow(self, count: int) -> None:
        dtype = self.memory.dtype
        self.memory = self.memory[:0].clone()  # frees the old arena before the new one comes
        memory = torch.empty(int(count * _GROWTH), dtype=dtype, device=self._device)
        block = torch.randn(min(len(memory), _BLOCK_ELEMENTS), device=self._device)
        # No value near zero: a float16 below 6e-5 is denormal, and denormals are slow.
        block = torch.copysign(block.abs().clamp_min_(1e-3), block).to(dtype)
        for start in range(0, len(memory), _BLOCK_ELEMENTS):
            part = memory[start : start + _BLOCK_ELEMENTS]
            part.copy_(block[: len(part)])
        self.memory = memory


class Operands:
    """Where builders get their tensors from: one arena for weights, one for inputs."""

    def __init__(self, dtype: str, device: str, rng: random.Random) -> None:
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.device = torch.device(device)
        self.weights = Arena(self.dtype, self.device, rng)
        self.inputs = Arena(self.dtype, self.device, rng)

    def start_visit(self) -> None:
        """Gives all memory back: what a builder took at the last visit is void."""
        self.weights.start_visit()
        self.inputs.start_visit()

    def weight(self, *shape: int) -> torch.Tensor:
        """A weight of `shape` filled with random normals, of the workload's dtype and device."""
        return self.weights.take(shape)

    def input(self, *shape: int) -> torch.Tensor:
        """An input of `shape` filled with random normals, of the workload's dtype and device."""
        return self.inputs.take(shape)


def build_linear(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call y_BO = x_BI · w_OIᵀ of a fully connected layer without bias.

    `dims` is (out_features, in_features); the result is allocated by torch at each call, as
    it would be in a model.
    """
    out_features, in_features = dims
    w_oi = operands.weight(out_features, in_features)
    x_bi = operands.input(int(params["batch"]), in_features)
    return functools.partial(F.linear, x_bi, w_oi)


def build_matmul(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call y_BS = x_BS · w_SSᵀ: a square weight times a batch of vectors.

    Fig. 2 of Yin et al. doesn't say how its product is stored. This is `linear` with equal
    dimensions: the weight in rows of inputs, one vector a row, as layers of a model have it.
    """
    (size,) = dims
    return build_linear(operands, (size, size), params)


def load_builder(path: str) -> Builder:
    """The builder named "module:function".

    Raises ImportError, AttributeError or ValueError where there is no such function.
    """
    module, separator, function = path.partition(":")
    if not separator:
        raise ValueError(f"builder {path!r} isn't written as module:function")
    builder: Builder = getattr(importlib.import_module(module), function)
    return builder
