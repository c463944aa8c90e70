"""Ways to carry out a product with a fixed weight: one kernel for each backend.

torch only. Knows nothing of networks, nor of how anything is measured. What each backend is,
and why: docs/decisions/0004-kernels-side-by-side.md.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812  the name that torch's own documentation uses
from torch import nn

from profiler_service.errors import UnsupportedOnHostError
from profiler_service.networks.compilation import can_compile, compile_frozen
from profiler_service.networks.quantised import bind_int8_dynamic, bind_int8_weight_only

# Shapes: B batch, I in_features, O out_features, N nonzero weights.

Product = Callable[[torch.Tensor], torch.Tensor]
"""y_BO = x_BI · w_OIᵀ for a weight that it holds, plus b_O if it holds a bias; both contiguous."""

_ON_CPUS: Final = ("packed", "int8_dynamic", "int8_weight_only")
"""Backends that aren't tried on other devices."""


def bind_product(
    weight_oi: torch.Tensor,
    *,
    backend: str,
    batch: int = 16,
    bias_o: torch.Tensor | None = None,
) -> Product:
    """The product with this weight, plus the bias if there is one, for inference.

    - `dense`: `F.linear`, torch's own choice.
    - `packed`: the weight rearranged once for oneDNN, for inputs of `batch` rows (others work,
      too). CPU only.
    - `compiled`: `torch.compile` with the weight frozen; compiled here for `batch` rows, and
      later for each other shape of input. A call costs some 30 µs besides the kernel.
    - `csr`: the weight's nonzeros as compressed sparse rows. `weight_oi` may be sparse already
    (`csr_weight`). A dense one is converted, without its zeros.
    - `int8_dynamic`: a weight of 8 bits, quantised here, and an input that is quantised at each
    call. CPU and float32 only. `int8_weight_only`: only the weight is quantised. CPU only, and
    in_features that are multiples of 16. Their results differ from the others' by up to half a step
    of each weight and input.

    The product keeps weight and bias. It is undefined whether later writes to them have an
    effect. Raises UnsupportedOnHostError if torch lacks the backend for the weight's dtype and
    device; ValueError for an unknown one.
    """
    if backend not in _BINDERS:
        raise ValueError(f"there is no backend {backend!r}; there are {', '.join(_BINDERS)}")
    if not has_backend(backend, weight_oi.device.type, weight_oi.dtype):
        raise UnsupportedOnHostError(
            f"torch {torch.__version__} has no {backend} product of"
            f" {str(weight_oi.dtype).removeprefix('torch.')} on {weight_oi.device.type}",
            hint="choose another backend or dtype",
        )
    return _BINDERS[backend](weight_oi, bias_o, batch)


def bind_linears(module: nn.Module, *, backend: str, batch: int) -> None:
    """Replaces every `nn.Linear` within the module by its product through the backend.

    `batch` is the number of rows that each gets: of all sequences together. Raises what
    `bind_product` raises.
    """
    for name, each in list(module.named_modules()):
        if isinstance(each, nn.Linear):
            product = bind_product(each.weight, backend=backend, batch=batch, bias_o=each.bias)
            module.set_submodule(name, _BoundLinear(product))


class _BoundLinear(nn.Module):
    """A product as a module."""

    def __init__(self, product: Product) -> None:
        super().__init__()
        self.product = product

    def forward(self, x_bi: torch.Tensor) -> torch.Tensor:
        return self.product(x_bi)


@functools.cache
def has_backend(backend: str, device_type: str, dtype: torch.dtype) -> bool:
    """Whether the backend multiplies `dtype` on such devices, found by multiplying.

    `compiled` isn't tried, because importing the compiler alone takes seconds. It counts as
    available if this torch can compile products in isolation.
    """
    if backend == "compiled":
        return can_compile()
    if backend in _ON_CPUS and device_type != "cpu":
        return False
    ones = torch.ones(16, 16, dtype=dtype, device=device_type)
    try:
        _BINDERS[backend](ones, None, 16)(ones).cpu()
    except (RuntimeError, AttributeError):
        return False
    return True


def csr_weight(
    crow: torch.Tensor, column: torch.Tensor, value: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    """The sparse weight w_OI made of these parts, not copied: int32 [O + 1], int32 [N], [N].

    The indices have 32 bits, as in MKL's interface: torch would convert longer ones at every
    product. The parts aren't checked.
    """
    with warnings.catch_warnings():
        # "Sparse CSR tensor support is in beta state", once a process.
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(crow, column, value, shape, check_invariants=False)


def _bind_dense(weight_oi: torch.Tensor, bias_o: torch.Tensor | None, batch: int) -> Product:
    return functools.partial(F.linear, weight=weight_oi, bias=bias_o)


def _bind_packed(weight_oi: torch.Tensor, bias_o: torch.Tensor | None, batch: int) -> Product:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_oi.detach(), batch)
    product = torch.ops.mkldnn._linear_pointwise.default
    return lambda x_bi: product(x_bi, packed, bias_o, "none", [], "")


class _FrozenProduct(nn.Module):
    """A module for `torch.compile` to freeze: only a module's parameters count as constants."""

    def __init__(self, weight_oi: torch.Tensor, bias_o: torch.Tensor | None) -> None:
        super().__init__()
        self.weight_oi = nn.Parameter(weight_oi.detach(), requires_grad=False)
        self.bias_o = None if bias_o is None else nn.Parameter(bias_o.detach(), requires_grad=False)

    def forward(self, x_bi: torch.Tensor) -> torch.Tensor:
        return F.linear(x_bi, self.weight_oi, self.bias_o)


def _bind_compiled(weight_oi: torch.Tensor, bias_o: torch.Tensor | None, batch: int) -> Product:
    zeros_bi = weight_oi.new_zeros(batch, weight_oi.shape[1])
    return compile_frozen(_FrozenProduct(weight_oi, bias_o), zeros_bi)


def _bind_csr(weight_oi: torch.Tensor, bias_o: torch.Tensor | None, batch: int) -> Product:
    if weight_oi.layout is torch.strided:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            sparse_oi = weight_oi.detach().to_sparse_csr()
        sparse_oi = csr_weight(
            sparse_oi.crow_indices().int(),
            sparse_oi.col_indices().int(),
            sparse_oi.values(),
            (weight_oi.shape[0], weight_oi.shape[1]),
        )
    else:
        sparse_oi = weight_oi
    return functools.partial(_csr_product, sparse_oi, bias_o)


def _csr_product(
    sparse_oi: torch.Tensor, bias_o: torch.Tensor | None, x_bi: torch.Tensor
) -> torch.Tensor:
    """y_BO, computed as y_OB = w_OI · x_IB: each weight is then read once for the whole batch.

    Three to four times as fast as `F.linear` with a sparse weight, both transpositions
    included.
    """
    x_ib = x_bi.t().contiguous()
    y_ob = sparse_oi @ x_ib if bias_o is None else torch.addmm(bias_o.unsqueeze(1), sparse_oi, x_ib)
    return y_ob.t().contiguous()


_BINDERS: Final[Mapping[str, Callable[[torch.Tensor, torch.Tensor | None, int], Product]]] = (
    MappingProxyType(
        {
            "dense": _bind_dense,
            "packed": _bind_packed,
            "compiled": _bind_compiled,
            "csr": _bind_csr,
            "int8_dynamic": bind_int8_dynamic,
            "int8_weight_only": bind_int8_weight_only,
        }
    )
)
