"""Trains compact, accurate, fast LSTMs by grow-and-prune; the service says which dims to use.

`grow_to_lhp` is imported when it is first used, so that `import trainer_client` needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer_client.widths.growth import grow_to_lhp

__all__ = ["grow_to_lhp"]


def __getattr__(name: str) -> object:
    if name == "grow_to_lhp":
        from trainer_client.widths.growth import grow_to_lhp

        return grow_to_lhp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
