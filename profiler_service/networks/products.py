"""Ways to carry out a product with a fixed weight: one kernel for each backend.

torch only. Knows nothing of networks, nor of how anything is measured. What each backend is,
and why: docs/decisions/0004-kernels-side-by-side.md.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812  the name that torch's own documentation uses

from profiler_service.errors import UnsupportedOnHostError

# Shapes: B batch, I in_features, O out_features, N nonzero weights.

Product = Callable[[torch.Tensor], torch.Tensor]
"""y_BO = x_BI · w_OIᵀ for a weight that it holds, plus b_O if it holds a bias; both contiguous."""


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


@functools.cache
def has_backend(backend: str, device_type: str, dtype: torch.dtype) -> bool:
    """Whether the backend multiplies `dtype` on such devices, found by multiplying.

    `compiled` isn't tried, because importing the compiler alone takes seconds. It counts as
    available if this torch can compile products in isolation.
    """
    if backend == "compiled":
        return "isolate_recompiles" in inspect.signature(torch.compile).parameters
    if backend == "packed" and device_type != "cpu":
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


class _FrozenProduct(torch.nn.Module):
    """A module for `torch.compile` to freeze: only a module's parameters count as constants."""

    def __init__(self, weight_oi: torch.Tensor, bias_o: torch.Tensor | None) -> None:
        super().__init__()
        self.weight_oi = torch.nn.Parameter(weight_oi.detach(), requires_grad=False)
        self.bias_o = (
            None if bias_o is None else torch.nn.Parameter(bias_o.detach(), requires_grad=False)
        )

    def forward(self, x_bi: torch.Tensor) -> torch.Tensor:
        return F.linear(x_bi, self.weight_oi, self.bias_o)


def _bind_compiled(weight_oi: torch.Tensor, bias_o: torch.Tensor | None, batch: int) -> Product:
    import torch._inductor.config as inductor  # importing it takes over a second

    # Isolated: products share the code of `forward`, and after eight shapes of one code torch
    # would run it uncompiled, without saying so. `fullgraph` raises instead.
    compiled: Product = torch.no_grad()(
        torch.compile(  # type: ignore[call-overload]  # lacks `isolate_recompiles`
            _FrozenProduct(weight_oi, bias_o).forward,
            dynamic=False,
            fullgraph=True,
            isolate_recompiles=True,
        )
    )
    shapes: set[torch.Size] = set()

    def product(x_bi: torch.Tensor) -> torch.Tensor:
        if x_bi.shape in shapes:
            return compiled(x_bi)
        # A global setting: as an option of `torch.compile` it comes too late, and nothing is
        # frozen.
        with inductor.patch(freezing=True), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations
            y_bo = compiled(x_bi)
        shapes.add(x_bi.shape)
        return y_bo

    product(weight_oi.new_zeros(batch, weight_oi.shape[1]))
    return product


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
        {"dense": _bind_dense, "packed": _bind_packed, "compiled": _bind_compiled, "csr": _bind_csr}
    )
)
