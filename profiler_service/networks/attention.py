"""Ways to carry out attention: one kernel for each backend.

torch only. Knows nothing of how anything is measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from profiler_service.networks.compilation import can_generate_code, compile_frozen

# Shapes: B batch, H heads, S sequence, D head_dim.

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""y_bhsd of q_bhsd, k_bhsd, v_bhsd and mask_ss, which is added to the scores."""


def bind_attention(
    query_bhsd: torch.Tensor,
    key_bhsd: torch.Tensor,
    value_bhsd: torch.Tensor,
    mask_ss: torch.Tensor | None,
    *,
    backend: str,
    is_causal: bool = False,
) -> Attention:
    """The attention of operands such as these.

    - `dense`: `scaled_dot_product_attention`, torch's own choice.
    - `math`: two products, with all scores between them.
    - `fused`: torch's kernel for CPUs, which never holds all scores. CPU only.
    - `compiled`: `torch.compile`.

    `math` and `fused` are the operators that `scaled_dot_product_attention` itself calls: a choice
    by `torch.nn.attention.sdpa_kernel` around each call would take longer than small calls.

    Raises ValueError for an unknown backend; AttributeError if this torch has none of the name.
    """
    if backend == "dense":
        return functools.partial(functional.scaled_dot_product_attention, is_causal=is_causal)
    if backend == "compiled":
        operands = query_bhsd, key_bhsd, value_bhsd, mask_ss
        return compile_frozen(_Attention(), *operands, is_causal=is_causal)
    if backend == "math":
        math = torch.ops.aten._scaled_dot_product_attention_math.default
        return lambda query, key, value, mask: math(query, key, value, mask, 0.0, is_causal)[0]
    if backend == "fused":
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        return lambda query, key, value, mask: fused(
            query, key, value, 0.0, is_causal, attn_mask=mask
        )[0]
    raise ValueError(f"there is no backend {backend!r}; there are dense, math, fused, compiled")


@functools.cache
def has_attention(backend: str, device_type: str, dtype: torch.dtype) -> bool:
    """Whether the backend attends in `dtype` on such devices, found by attending.

    `compiled` isn't tried: it counts as available if kernels can be compiled at all.
    """
    if backend == "compiled":
        return can_generate_code(device_type)
    ones_bhsd = torch.ones(1, 2, 16, 16, dtype=dtype, device=device_type)
    operands = ones_bhsd, ones_bhsd, ones_bhsd, None
    try:
        bind_attention(*operands, backend=backend)(*operands).cpu()
    except (RuntimeError, AttributeError):
        return False
    return True


class _Attention(nn.Module):
    """`scaled_dot_product_attention` as a module, for `torch.compile`."""

    def forward(
        self,
        query_bhsd: torch.Tensor,
        key_bhsd: torch.Tensor,
        value_bhsd: torch.Tensor,
        mask_ss: torch.Tensor | None,
        *,
        is_causal: bool,
    ) -> torch.Tensor:
        return functional.scaled_dot_product_attention(
            query_bhsd, key_bhsd, value_bhsd, attn_mask=mask_ss, is_causal=is_causal
        )
