from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from profiler_service.networks.attention import bind_attention, has_attention


@pytest.mark.parametrize("mask", ["none", "causal", "dense"])
@pytest.mark.parametrize(
    ("backend", "chosen"),
    [("math", SDPBackend.MATH), ("fused", SDPBackend.FLASH_ATTENTION)],
)
def test_a_backend_is_the_kernel_that_torch_can_be_told_to_choose(
    backend: str, chosen: SDPBackend, mask: str
) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 5, 3, 7).transpose(1, 2) for _ in range(3))
    mask_ss = torch.randn(5, 5) if mask == "dense" else None
    is_causal = mask == "causal"
    operands = query, key, value, mask_ss
    with sdpa_kernel(chosen):
        expected = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask_ss, is_causal=is_causal
        )
    result = bind_attention(*operands, backend=backend, is_causal=is_causal)(*operands)
    # The same kernel: not a bit differs, and the result lies alike in memory.
    assert torch.equal(result, expected)
    assert result.stride() == expected.stride()


def test_the_kernels_are_different_ones() -> None:
    ones_bhsd = torch.ones(1, 2, 5, 7)
    operands = ones_bhsd, ones_bhsd, ones_bhsd, None
    math, fused = (bind_attention(*operands, backend=each) for each in ("math", "fused"))
    with torch.profiler.profile() as profile:
        math(*operands)
        fused(*operands)
    names = [event.key for event in profile.key_averages()]
    assert "aten::_scaled_dot_product_attention_math" in names
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in names


def test_the_fused_kernel_needs_a_cpu() -> None:
    assert has_attention("fused", "cpu", torch.float32)
    assert not has_attention("fused", "meta", torch.float32)


def test_an_unknown_backend_is_refused() -> None:
    ones = torch.ones(1, 1, 3, 3)
    with pytest.raises(ValueError, match="there are dense, math, fused, compiled"):
        bind_attention(ones, ones, ones, None, backend="packed")
