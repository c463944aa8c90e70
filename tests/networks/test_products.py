from __future__ import annotations

import pytest
import torch

from profiler_service.errors import UnsupportedOnHostError
from profiler_service.networks.products import bind_product, csr_weight, has_backend

BACKENDS = ["dense", "packed", "compiled", "csr"]


def half_zero(rows: int, columns: int) -> torch.Tensor:
    """A weight in which every second value is zero."""
    torch.manual_seed(0)
    w_oi = torch.randn(rows, columns)
    w_oi.view(-1)[::2] = 0
    return w_oi


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [1, 16])
def test_every_backend_multiplies_alike(backend: str, batch: int) -> None:
    w_oi, x_bi = half_zero(37, 53), torch.randn(batch, 53)
    y_bo = bind_product(w_oi, backend=backend, batch=batch)(x_bi)
    torch.testing.assert_close(y_bo, x_bi @ w_oi.T, rtol=1e-4, atol=1e-4)
    assert y_bo.is_contiguous()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [1, 16])
def test_every_backend_adds_a_bias_as_torch_does(backend: str, batch: int) -> None:
    layer = torch.nn.Linear(53, 37).requires_grad_(False)
    x_bi = torch.randn(batch, 53)
    product = bind_product(layer.weight, backend=backend, batch=batch, bias_o=layer.bias)
    torch.testing.assert_close(product(x_bi), layer(x_bi), rtol=1e-4, atol=1e-4)
    without = bind_product(layer.weight, backend=backend, batch=batch)(x_bi)
    torch.testing.assert_close(product(x_bi) - without, layer.bias.expand(batch, 37))
    assert product(x_bi).is_contiguous()


def test_compiled_products_stay_compiled_however_many_there_are() -> None:
    # Torch gives up compiling one function after 8 shapes, and warns only in its log.
    torch._dynamo.utils.counters.clear()
    for size in range(20, 32):
        w_oi, x_bi = half_zero(size, size), torch.randn(2, size)
        product = bind_product(w_oi, backend="compiled", batch=2)
        torch.testing.assert_close(product(x_bi), x_bi @ w_oi.T, rtol=1e-4, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 12


def test_equally_shaped_compiled_products_keep_their_own_weights() -> None:
    first, second, x_bi = half_zero(8, 8), 2 * half_zero(8, 8), torch.randn(2, 8)
    products = [bind_product(w_oi, backend="compiled", batch=2) for w_oi in (first, second)]
    results = [product(x_bi) for product in products]
    torch.testing.assert_close(2 * results[0], results[1], rtol=1e-4, atol=1e-4)


def test_a_sparse_weight_of_parts_is_used_as_it_is() -> None:
    # Rows: [0, 3], [], [5, 0]: one nonzero in the first, none in the second, one in the third.
    value = torch.tensor([3.0, 5.0])
    w_oi = csr_weight(
        torch.tensor([0, 1, 1, 2], dtype=torch.int32),
        torch.tensor([1, 0], dtype=torch.int32),
        value,
        (3, 2),
    )
    product = bind_product(w_oi, backend="csr")
    assert product(torch.tensor([[1.0, 10.0]])).tolist() == [[30.0, 0.0, 5.0]]
    value[0] = 4
    assert product(torch.tensor([[1.0, 10.0]])).tolist() == [[40.0, 0.0, 5.0]]


def test_a_backend_that_torch_lacks_is_refused_by_name() -> None:
    # MKL has no sparse product of bfloat16, so torch has none on a CPU.
    assert has_backend("csr", "cpu", torch.float32)
    assert not has_backend("csr", "cpu", torch.bfloat16)
    with pytest.raises(UnsupportedOnHostError, match="no csr product of bfloat16 on cpu"):
        bind_product(half_zero(4, 4).bfloat16(), backend="csr")


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="there are dense, packed, compiled, csr"):
        bind_product(half_zero(4, 4), backend="dens")
