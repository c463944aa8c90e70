"""The size and form of the input that a layer of a model receives.

Reads sizes only; runs nothing. Knows no workload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from profiler_service.advice.attention import AttentionCall, look_at_multihead

# Shapes: T time steps, B batch, I input_size, in_features or in_channels, R rows and C columns of
# an image, E embed_dim; … any dimensions.

CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Size and form of the input that a layer received."""

    batch: int
    """Rows, tokens, images or sequences."""
    steps: int = 1
    height: int = 0
    """Rows of an image; 0 if the input is no image, or nothing is known about it."""
    width: int = 0
    layout: str = CHANNELS_FIRST
    keys: int = 0
    """Of attention: tokens of the keys; 0 if nothing is known about them."""
    projections: str = "together"
    """Of nn.MultiheadAttention: whether query, key and value are one tensor (`together`), only the
    last two (`key_value`), or neither (`each`)."""
    attention: AttentionCall | None = None
    """Of nn.MultiheadAttention: what it does between its projections."""

    @property
    def size(self) -> int:
        """What tells the largest of several calls."""
        return self.batch * self.steps * max(self.height * self.width, 1)


def look_at(
    layer: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Seen | None:
    """Size and form of the input of one call; None if it has no plain tensor."""
    inputs = (*args, *kwargs.values())
    given = next(
        (each for each in inputs if isinstance(each, (torch.Tensor, PackedSequence))), None
    )
    if given is None or (isinstance(given, torch.Tensor) and given.is_nested):
        return None
    if isinstance(given, PackedSequence):
        return Seen(batch=int(given.batch_sizes[0]), steps=len(given.batch_sizes))
    if isinstance(layer, nn.RNNBase):
        if given.dim() not in (2, 3):
            return None
        if given.dim() == 2:  # x_ti
            return Seen(batch=1, steps=given.shape[0])
        first, second = given.shape[:2]  # x_bti or x_tbi
        return (
            Seen(batch=first, steps=second)
            if layer.batch_first
            else Seen(batch=second, steps=first)
        )
    if isinstance(layer, nn.Embedding):  # tokens_…
        return Seen(batch=given.numel())
    if isinstance(layer, nn.Conv2d):  # x_birc or x_irc
        if given.dim() not in (3, 4):
            return None
        images = given if given.dim() == 4 else given[None]
        return Seen(
            batch=images.shape[0],
            height=images.shape[2],
            width=images.shape[3],
            layout=_find_layout(images, layer.weight),
        )
    if isinstance(layer, nn.MultiheadAttention):
        return _look_at_attention(layer, given, args, kwargs)
    return Seen(batch=given.shape[:-1].numel())  # x_…i


def _find_layout(images_birc: torch.Tensor, weight_oirc: torch.Tensor) -> str:
    """The layout in which torch convolves: channels last if either operand lies so."""
    lies_so = any(
        each.is_contiguous(memory_format=torch.channels_last) and not each.is_contiguous()
        for each in (images_birc, weight_oirc)
    )
    return CHANNELS_LAST if lies_so else CHANNELS_FIRST


def _look_at_attention(
    layer: nn.MultiheadAttention,
    query: torch.Tensor,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> Seen:
    """Which of query_…e, key_…e and value_…e are one tensor, and so are projected together."""
    given = {**dict(zip(("query", "key", "value"), args, strict=False)), **kwargs}
    key, value = given.get("key"), given.get("value")
    query = found if isinstance(found := given.get("query"), torch.Tensor) else query
    tokens = query.shape[:-1].numel()
    keys = key.shape[:-1].numel() if isinstance(key, torch.Tensor) else tokens
    projections = "each" if key is not value else "together" if query is key else "key_value"
    return Seen(
        batch=tokens,
        keys=keys,
        projections=projections,
        attention=look_at_multihead(layer, args, kwargs),
    )
