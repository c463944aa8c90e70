from __future__ import annotations

import pytest
import torch
from torch import nn

from profiler_service.networks.convolutions import bind_convolution, has_convolution

BACKENDS = ["dense", "packed", "compiled"]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_convolves_as_torch_does(
    backend: str, layout: torch.memory_format, groups: int
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups).requires_grad_(False)
    x_birc = torch.randn(2, 4, 7, 6).to(memory_format=layout)
    assert layer.bias is not None
    convolution = bind_convolution(
        layer.weight.to(memory_format=layout),
        layer.bias,
        backend=backend,
        image_birc=x_birc,
        stride=2,
        padding=1,
        groups=groups,
    )
    for each_birc in (x_birc, torch.randn_like(x_birc)):
        y_borc = convolution(each_birc)
        torch.testing.assert_close(y_borc, layer(each_birc), rtol=1e-4, atol=1e-4)
        assert y_borc.is_contiguous(memory_format=layout)


def test_packed_convolutions_need_a_cpu() -> None:
    assert has_convolution("packed", "cpu", torch.float32)
    assert not has_convolution("packed", "meta", torch.float32)


def test_an_unknown_backend_is_refused() -> None:
    ones = torch.ones(1, 1, 3, 3)
    with pytest.raises(ValueError, match="there are dense, packed, compiled"):
        bind_convolution(ones, ones[0, 0, 0, :1], backend="csr", image_birc=ones)
