"""Ways to carry out a convolution with fixed weights: one kernel for each backend.

torch only. Knows nothing of how anything is measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from profiler_service.networks.compilation import can_generate_code, compile_frozen

# Shapes: B batch, O out_channels, I in_channels, G groups, K kernel, R rows and C columns.

Convolution = Callable[[torch.Tensor], torch.Tensor]
"""y_borc of x_birc for weights and biases that it holds, in the layout of x_birc."""


def bind_convolution(
    weight_oikk: torch.Tensor,
    bias_o: torch.Tensor,
    *,
    backend: str,
    image_birc: torch.Tensor,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Convolution:
    """The convolution of images such as `image_birc`, for inference.

    - `dense`: `conv2d`, torch's own choice.
    - `packed`: weights rearranged once for oneDNN. It takes and returns `channels_last` images, so
      others are rearranged at each call, and back. CPU only.
    - `compiled`: `torch.compile` with frozen weights.

    It keeps the weights. It is undefined whether later writes to them have an effect. Raises
    ValueError for an unknown backend; what torch raises if it lacks one.
    """
    if backend == "dense":
        return functools.partial(
            functional.conv2d,
            weight=weight_oikk,
            bias=bias_o,
            stride=stride,
            padding=padding,
            groups=groups,
        )
    if backend == "compiled":
        layer = _Convolution(weight_oikk, bias_o, stride=stride, padding=padding, groups=groups)
        return compile_frozen(layer, image_birc)
    if backend != "packed":
        raise ValueError(f"there is no backend {backend!r}; there are dense, packed, compiled")
    sizes = [padding] * 2, [stride] * 2, [1, 1], groups
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weight_oikk.detach(), *sizes, list(image_birc.shape)
    )
    convolve = torch.ops.mkldnn._convolution_pointwise.default
    if image_birc.is_contiguous(memory_format=torch.channels_last):
        return lambda x_birc: convolve(x_birc, packed, bias_o, *sizes, "none", [], "")
    return lambda x_birc: convolve(x_birc, packed, bias_o, *sizes, "none", [], "").contiguous()


@functools.cache
def has_convolution(backend: str, device_type: str, dtype: torch.dtype) -> bool:
    """Whether the backend convolves `dtype` on such devices, found by convolving.

    `compiled` isn't tried: it counts as available if kernels can be compiled at all.
    """
    if backend == "compiled":
        return can_generate_code(device_type)
    if backend == "packed" and device_type != "cpu":
        return False
    image_birc = torch.ones(1, 16, 8, 8, dtype=dtype, device=device_type)
    weight_oikk = torch.ones(16, 16, 3, 3, dtype=dtype, device=device_type)
    try:
        convolution = bind_convolution(
            weight_oikk, weight_oikk[:, 0, 0, 0], backend=backend, image_birc=image_birc
        )
        convolution(image_birc).cpu()
    except (RuntimeError, AttributeError):
        return False
    return True


class _Convolution(nn.Module):
    """A module for `torch.compile` to freeze: only a module's parameters count as constants."""

    def __init__(
        self,
        weight_oikk: torch.Tensor,
        bias_o: torch.Tensor,
        *,
        stride: int,
        padding: int,
        groups: int,
    ) -> None:
        super().__init__()
        self.weight_oikk = nn.Parameter(weight_oikk.detach(), requires_grad=False)
        self.bias_o = nn.Parameter(bias_o.detach(), requires_grad=False)
        self.stride, self.padding, self.groups = stride, padding, groups

    def forward(self, x_birc: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(
            x_birc,
            self.weight_oikk,
            self.bias_o,
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
        )
