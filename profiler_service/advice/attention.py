"""Calls of attention in a user's model, as they are seen while the model runs.

Attention has no weights, so that no layer shows it. Sees scaled_dot_product_attention, called by
any module, and nn.MultiheadAttention. Reads shapes only; knows no workload but `attention`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Shapes: B batch, H heads, S sequence, E embed_dim, D head_dim.

FUNCTION = "scaled_dot_product_attention"
NEEDS_WEIGHTS = (
    "its attention gives its weights (need_weights=True), which no workload kind measures: with"
    " need_weights=False, torch runs a fused kernel"
)


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """One call of attention: sizes of its queries, or why no workload kind is like it."""

    batch: int = 1
    """Sequences."""
    heads: int = 1
    sequence: int = 1
    head_dim: int = 1
    mask: str = "none"
    """As in the workload kind `attention`: causal, none or dense."""
    dtype: str = "float32"
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """What tells the largest of several calls."""
        return self.batch * self.heads * self.sequence**2 * self.head_dim


class AttentionWatch(TorchFunctionMode):
    """Tells of each call of scaled_dot_product_attention while this mode is entered."""

    def __init__(self, tell: Callable[[AttentionCall], None]) -> None:
        super().__init__()
        self._tell = tell

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The function's own result."""
        given = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention:
            self._tell(_look_at_call(*args, **given))
        return func(*args, **given)


def _look_at_call(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **_: object,
) -> AttentionCall:
    """The call of attention of query_bhsd, key_bhsd and value_bhsd; B and H may be missing."""
    problem = _find_problem(query, key, value, dropout_p)
    if problem:
        return AttentionCall(problem=problem)
    sequence, head_dim = query.shape[-2:]
    heads = query.shape[-3] if query.dim() > 3 else 1
    notes: tuple[str, ...] = ()
    if attn_mask is not None and (attn_mask.dim() > 2 or attn_mask.dtype == torch.bool):
        kind = "boolean" if attn_mask.dtype == torch.bool else "added"
        shape = " × ".join(map(str, attn_mask.shape))
        notes = (f"its mask is {kind}, {shape}: measured with {sequence} × {sequence} numbers",)
    return AttentionCall(
        batch=query.shape[:-2].numel() // heads,
        heads=heads,
        sequence=sequence,
        head_dim=head_dim,
        mask="causal" if is_causal else "none" if attn_mask is None else "dense",
        dtype=_name_dtype(query),
        notes=notes,
    )


def _find_problem(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout_p: float
) -> str:
    """Why the workload kind `attention` can't express the call; empty if it can."""
    if any(each.is_nested for each in (query, key, value)):
        return "its sequences differ in length (nested tensors), which isn't measured"
    if not query.numel():
        return "it gets no queries"
    if query.shape[-2] != key.shape[-2]:
        return (
            f"{query.shape[-2]} queries and {key.shape[-2]} keys: only equal numbers are measured"
        )
    if query.shape[-1] != value.shape[-1]:
        return (
            f"heads of {query.shape[-1]} for keys and {value.shape[-1]} for values: only equal"
            " ones are measured"
        )
    if query.shape[:-2] != key.shape[:-2] or key.shape[:-2] != value.shape[:-2]:
        if query.dim() > 2 and key.dim() > 2 and query.shape[-3] != key.shape[-3]:
            return (
                f"grouped-query attention, {query.shape[-3]} heads of queries and"
                f" {key.shape[-3]} of keys: only equal numbers are measured"
            )
        return "its queries, keys and values differ in batch: only equal ones are measured"
    if dropout_p:
        return f"it drops {dropout_p:g} of the weights: only attention without dropout is measured"
    return ""


def _name_dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


_SIGNATURE = inspect.signature(nn.MultiheadAttention.forward)


def look_at_multihead(
    module: nn.MultiheadAttention, args: Sequence[object], kwargs: Mapping[str, object]
) -> AttentionCall | None:
    """The attention in one call of the module; None if its inputs aren't what it takes.

    As torch.nn.functional.multi_head_attention_forward does it: with need_weights, torch keeps all
    weights and runs no fused kernel; a mask besides is_causal counts only with a padding mask.
    """
    try:
        given = _SIGNATURE.bind(module, *args, **kwargs)
    except TypeError:
        return None
    given.apply_defaults()
    query, key, value = (given.arguments[name] for name in ("query", "key", "value"))
    tensors = query, key, value
    if not all(isinstance(each, torch.Tensor) and each.dim() in (2, 3) for each in tensors):
        return None
    if given.arguments["need_weights"]:
        return AttentionCall(problem=NEEDS_WEIGHTS)
    heads = module.num_heads
    if query.dim() == 3 and not module.batch_first:
        query, key, value = (each.transpose(0, 1) for each in tensors)
    extra = bool(module.bias_k is not None) + bool(module.add_zero_attn)
    sequence, keys = query.shape[-2], key.shape[-2] + extra
    if sequence != keys:
        return AttentionCall(
            problem=f"{sequence} queries and {keys} keys: only equal numbers are measured"
        )
    padding, mask = given.arguments["key_padding_mask"], given.arguments["attn_mask"]
    is_causal = given.arguments["is_causal"] and padding is None
    is_masked = padding is not None or mask is not None
    return AttentionCall(
        batch=query.shape[:-2].numel(),
        heads=heads,
        sequence=sequence,
        head_dim=module.embed_dim // heads,
        mask="causal" if is_causal else "dense" if is_masked else "none",
        dtype=_name_dtype(query),
    )
