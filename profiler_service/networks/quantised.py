"""Products of a weight in 8 bits, by torch's own kernels for CPUs.

torch only. Knows nothing of how anything is measured. Which kernel each is, and why:
docs/decisions/0004-kernels-side-by-side.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Final

import torch

# Shapes: B batch, I in_features, O out_features.

QuantisedProduct = Callable[[torch.Tensor], torch.Tensor]
LARGEST: Final = 127
"""Of the whole numbers that stand for weights. The smallest is -LARGEST: zero stays zero."""
WEIGHT_ONLY_MULTIPLE: Final = 16
"""torch's kernel reads so many inputs at once, and reads on behind a row that has another number:
it gives wrong results or crashes."""


def quantise(weight_oi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight as whole numbers, int8 [O, I], and the step of each row, [O] of its dtype.

    A weight is about its number times the step of its row: within half a step, and the rounding of
    the step itself.
    """
    weight = weight_oi.detach().float()
    tiny = torch.finfo(torch.float16).tiny  # a row of zeros has a step, too
    step_o = (weight.abs().amax(1) / LARGEST).clamp_(min=tiny).to(weight_oi.dtype)
    numbers = (weight / step_o.float().unsqueeze(1)).round_().clamp_(-LARGEST, LARGEST)
    return numbers.to(torch.int8), step_o


def bind_int8_dynamic(
    weight_oi: torch.Tensor, bias_o: torch.Tensor | None, batch: int
) -> QuantisedProduct:
    """The product that quantises its input at each call, as torch's dynamically quantised Linear.

    Inputs have 7 bits, as there: products of 8 bits may overflow on processors without VNNI. Raises
    RuntimeError if torch lacks it, as for all dtypes but float32.
    """
    if weight_oi.dtype != torch.float32:
        raise RuntimeError(f"torch has no dynamically quantised product of {weight_oi.dtype}")
    numbers_oi, step_o = quantise(weight_oi)
    with warnings.catch_warnings():
        # Tensors of quantised dtypes are deprecated. The kernel takes its weight as nothing else.
        warnings.simplefilter("ignore", UserWarning)
        quantised_oi = torch._make_per_channel_quantized_tensor(
            numbers_oi, step_o.double(), torch.zeros(len(step_o), dtype=torch.int64), 0
        )
        packed = torch.ops.quantized.linear_prepack(quantised_oi, bias_o)
    product = torch.ops.quantized.linear_dynamic.default
    return lambda x_bi: product(x_bi, packed, True)


def bind_int8_weight_only(
    weight_oi: torch.Tensor, bias_o: torch.Tensor | None, batch: int
) -> QuantisedProduct:
    """The product that multiplies its input, as it is, by whole numbers and steps.

    Raises ValueError if the in_features aren't a multiple of WEIGHT_ONLY_MULTIPLE; RuntimeError if
    torch lacks it.
    """
    if weight_oi.shape[1] % WEIGHT_ONLY_MULTIPLE:
        raise ValueError(
            f"in_features must be a multiple of {WEIGHT_ONLY_MULTIPLE}, not {weight_oi.shape[1]}"
        )
    numbers_oi, step_o = quantise(weight_oi)
    if bias_o is None:
        return lambda x_bi: torch._weight_int8pack_mm(x_bi, numbers_oi, step_o)
    return lambda x_bi: torch._weight_int8pack_mm(x_bi, numbers_oi, step_o).add_(bias_o)
