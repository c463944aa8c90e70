"""Builds the measured calls and their operands. Runs only in the measuring child.

A workload kind names its builder as "module:function". The child imports the function and
calls it once at every visit of a point:

    def build(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call

It takes its tensors from `operands` (`weight` and `input`, as many as it needs), and returns a
callable without arguments, which is timed. The callable must do the same work each time it is
called, must not move data between devices, and on CUDA must only queue work on the current stream
(it waits behind a delay, or is captured in a graph). Building is not timed, but happens at every
visit, so it should take microseconds. Everything runs under `torch.inference_mode`. If the builder
or its callable raises, that one point counts as failed, with the error as its reason.

Knows nothing of how calls are timed.
"""

from __future__ import annotations

import functools
import importlib
import math
import mmap
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final

import torch

from profiler_service.kinds.kernels import unfold
from profiler_service.kinds.products import LINEAR, count_nonzero, has_bias
from profiler_service.networks.products import Product, bind_product, csr_weight
from profiler_service.workload import Dims, ParamValue

# Shapes: B batch, I in_features, O out_features, S size of a square weight, N nonzero weights.

Call = Callable[[], object]
Made = Callable[..., torch.Tensor]
"""What a backend makes of weights before they are used: a product, or a compiled layer."""
Builder = Callable[["Operands", Dims, Mapping[str, ParamValue]], Call]

NUM_PLACES: Final = 128
"""Number of places within an arena at which an operand may begin."""
_BLOCK_ELEMENTS: Final = 1 << 20
_GROWTH: Final = 1.25
MAX_REMAPPED_BYTES: Final = 64 << 20
"""Larger arenas stay where they are. They fill every set of every cache alike, and mapping them
would take longer than many visits."""
MAX_KEPT_BYTES: Final = 256 << 20
MAX_KEPT: Final = 256
MAX_USES: Final = 64
"""Number of visits after which a kept object is made anew, at another place in memory."""


class Arena:
    """Memory that operands are views into, at another random place at each visit.

    Otherwise the alignment that an allocator happens to give to a size would look like an
    effect of the dimension (Source: ours). The arena grows for a larger operand and never
    shrinks, so nothing is allocated at a visit, and the use of the caches stays constant.

    `remap` moves it to other physical pages. Which sets of a cache the pages fall into is the
    same as long as they stay, and differs from process to process.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, rng: random.Random) -> None:
        self._device = device
        self._rng = rng
        # The alignment of real allocations: torch aligns to 64 bytes on a CPU, to 512 on CUDA.
        alignment_bytes = 512 if device.type == "cuda" else 64
        self.alignment = alignment_bytes // dtype.itemsize
        """Operands begin at multiples of this many elements."""
        self.memory = torch.empty(0, dtype=dtype, device=device)
        self._cursor = 0

    def start_visit(self) -> None:
        """Frees the whole arena: views given earlier may be overwritten."""
        self._cursor = 0

    def take(self, shape: tuple[int, ...]) -> torch.Tensor:
        """A contiguous view of `shape` that overlaps no other view of this visit."""
        count = math.prod(shape)
        start = self._cursor + self._rng.randrange(NUM_PLACES) * self.alignment
        if start + count > len(self.memory):
            self._grow(self._cursor + count + NUM_PLACES * self.alignment)
        self._cursor = -(-(start + count) // self.alignment) * self.alignment
        return self.memory[start : start + count].view(shape)

    @property
    def taken_bytes(self) -> int:
        """How much of it the views of this visit reach over."""
        return self._cursor * self.memory.itemsize

    def remap(self) -> None:
        """Moves the arena to newly mapped memory of the same size, unless it is very large."""
        count = len(self.memory)
        if 0 < count * self.memory.itemsize <= MAX_REMAPPED_BYTES:
            self._allocate(count)

    def _grow(self, count: int) -> None:
        self._allocate(int(count * _GROWTH))

    def _allocate(self, count: int) -> None:
        dtype = self.memory.dtype
        self.memory = self.memory[:0].clone()  # frees the old arena before the new one is allocated
        if self._device.type == "cpu":
            # Pages of its own: an allocator would give back those that were freed just now.
            pages = mmap.mmap(-1, count * dtype.itemsize)
            memory = torch.frombuffer(pages, dtype=dtype)
        else:
            memory = torch.empty(count, dtype=dtype, device=self._device)
        block = _normals(self._device)
        for start in range(0, len(memory), _BLOCK_ELEMENTS):
            part = memory[start : start + _BLOCK_ELEMENTS]
            part.copy_(block[: len(part)])
        self.memory = memory


@functools.cache
def _normals(device: torch.device) -> torch.Tensor:
    """The values that every arena of the device repeats: float32 [_BLOCK_ELEMENTS], 4 MiB.

    Drawn once: that takes as long as a fifth of a short batch, and each batch maps new memory.
    """
    block = torch.randn(_BLOCK_ELEMENTS, dtype=torch.float32, device=device)
    # No value near zero: a float16 below 6e-5 is denormal, and denormals are slow.
    return torch.copysign(block.abs().clamp_min_(1e-3), block)


class NonzeroPlaces:
    """Draws the places of the nonzeros of random sparse weights, quickly at each visit.

    Unstructured: each place is about as likely as any other. There are exactly as many nonzeros
    as asked for; a random number of them would look like noise of the timer. A long series of
    exponential gaps is drawn once, from a fixed seed. Every visit takes another part of it, so
    that no arrangement looks like an effect of the dimension.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._sums = torch.zeros(0, dtype=torch.float64)
        self._numbers = torch.zeros(0, dtype=torch.int32)

    def draw(self, count: int, size: int) -> torch.Tensor:
        """`count` different places below `size`, ascending: int32 [count], or int64 beyond 2³¹."""
        if len(self._sums) < count + 2:
            length = int((count + 2) * _GROWTH) + _BLOCK_ELEMENTS
            generator = torch.Generator().manual_seed(0)
            gaps = torch.empty(length, dtype=torch.float64).exponential_(generator=generator)
            self._sums = gaps.cumsum_(0)
            self._numbers = torch.arange(length, dtype=torch.int32)
        dtype = torch.int32 if size < 1 << 31 else torch.int64
        start = self._rng.randrange(len(self._sums) - count - 1)
        first, last = self._sums[start].item(), self._sums[start + count + 1].item()
        sums = self._sums[start + 1 : start + 1 + count] - first
        # Gaps are rounded down, plus one, so that no two places are the same.
        sums *= (size - count + 1) / (last - first)
        places = sums.to(dtype)
        return places.add_(self._numbers[:count])


class Operands:
    """Gives builders their tensors, from one arena for weights and one for inputs."""

    def __init__(self, dtype: str, device: str, rng: random.Random) -> None:
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.device = torch.device(device)
        self.weights = Arena(self.dtype, self.device, rng)
        self.inputs = Arena(self.dtype, self.device, rng)
        self.indices = Arena(torch.int32, self.device, rng)
        self._places = NonzeroPlaces(rng)
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self.preparation_s = 0.0
        """Seconds of this visit in which its builder made what is kept for later visits: they don't
        count as time of measuring."""
        self.are_kept = False
        """Whether the builder of this visit returned something that other visits use as well."""

    def start_visit(self) -> None:
        """Frees all memory. Tensors taken at the last visit must not be used any more."""
        self.preparation_s = 0.0
        self.are_kept = False
        self.weights.start_visit()
        self.inputs.start_visit()
        self.indices.start_visit()

    @property
    def taken_bytes(self) -> int:
        """Size of the operands of this visit so far, with the gaps between them."""
        return sum(each.taken_bytes for each in (self.weights, self.inputs, self.indices))

    def remap(self) -> None:
        """Moves all memory to newly mapped pages. Products that are kept stay where they are."""
        for arena in (self.weights, self.inputs, self.indices):
            arena.remap()

    def weight(self, *shape: int) -> torch.Tensor:
        """A weight of `shape` filled with random normals, of the workload's dtype and device."""
        return self.weights.take(shape)

    def input(self, *shape: int) -> torch.Tensor:
        """An input of `shape` filled with random normals, of the workload's dtype and device."""
        return self.inputs.take(shape)

    def sparse_weight(self, rows: int, columns: int, count: int) -> torch.Tensor:
        """A weight of `count` nonzeros at random places, in compressed sparse rows."""
        places = self._places.draw(count, rows * columns)
        starts = torch.arange(rows + 1, dtype=places.dtype) * columns
        crow = self.indices.take((rows + 1,))
        crow.copy_(torch.searchsorted(places, starts, out_int32=True))
        column = self.indices.take((count,))
        column.copy_(places.remainder_(columns))
        return csr_weight(crow, column, self.weights.take((count,)), (rows, columns))

    def product(self, rows: int, columns: int, params: Mapping[str, ParamValue]) -> Product:
        """The product with a weight of `rows` × `columns`, by the workload's backend.

        A bias is added if the workload has one.

        Each visit has another weight at another place, and the backend prepares it anew. `compiled`
        is the exception: compiling takes 60 ms, so a compiled product is kept (at most MAX_KEPT of
        them, and MAX_KEPT_BYTES) for at most MAX_USES visits.
        """
        backend, batch = str(params.get("backend", "dense")), int(params["batch"])
        if backend == "csr":
            weight_oi = self.sparse_weight(rows, columns, count_nonzero(rows, columns, params))
        else:
            weight_oi = self.weight(rows, columns)
        bias_o = self.weight(rows) if has_bias(params) else None
        if backend != "compiled":
            return bind_product(weight_oi, backend=backend, batch=batch, bias_o=bias_o)
        return self.keep(
            (rows, columns, batch, bias_o is not None),
            lambda: bind_product(
                weight_oi.clone(),
                backend=backend,
                batch=batch,
                bias_o=None if bias_o is None else bias_o.clone(),
            ),
            size_bytes=2 * rows * columns * self.dtype.itemsize,
        )

    def keep(self, key: Hashable, make: Callable[[], Made], *, size_bytes: int) -> Made:
        """The result of `make`, or that of an earlier visit with an equal key.

        For objects that take long to make. They must own their memory. The least recently used
        ones are dropped first.
        """
        self.are_kept = True
        kept = self._kept.pop(key, None)
        if kept is None or kept.num_uses == MAX_USES:
            kept = _Kept(made=make(), size_bytes=size_bytes)
        kept.num_uses += 1
        self._kept[key] = kept
        while len(self._kept) > 1 and (
            len(self._kept) > MAX_KEPT
            or sum(each.size_bytes for each in self._kept.values()) > MAX_KEPT_BYTES
        ):
            self._kept.popitem(last=False)
        return kept.made


@dataclass(kw_only=True)
class _Kept:
    made: Made
    size_bytes: int
    num_uses: int = 0


def build_linear(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call y_BO = x_BI · w_OIᵀ of a fully connected layer, plus b_O if it has a bias.

    `dims` is (out_features, in_features); the result is allocated by torch at each call, as
    it would be in a model.
    """
    out_features, in_features = dims
    product = operands.product(out_features, in_features, params)
    return functools.partial(product, operands.input(int(params["batch"]), in_features))


def build_matmul(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call y_BS = x_BS · w_SSᵀ: a square weight times a batch of vectors.

    Fig. 2 of Yin et al. doesn't say how its product is stored. This is `linear` with equal
    dimensions: the weight in rows of inputs, one vector a row, as layers of a model have it.
    """
    (size,) = dims
    return build_linear(operands, (size, size), params)


def build_kernel(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The call of `linear` by the kernel of that number: see `kinds.kernels`."""
    return build_linear(operands, *unfold(LINEAR, dims, params))


def load_builder(path: str) -> Builder:
    """The builder named "module:function".

    Raises ImportError, AttributeError or ValueError if there is no such function.
    """
    module, separator, function = path.partition(":")
    if not separator:
        raise ValueError(f"builder {path!r} isn't written as module:function")
    builder: Builder = getattr(importlib.import_module(module), function)
    return builder
