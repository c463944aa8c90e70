"""Makes PNG files small: pictures of charts and pages have few colours."""

from __future__ import annotations

import io

from PIL import Image

COLORS = 256


def shrink(png: bytes) -> bytes:
    """The picture with at most COLORS colours, or the same bytes if that isn't smaller."""
    with Image.open(io.BytesIO(png)) as picture:
        few = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    sink = io.BytesIO()
    few.save(sink, format="PNG", optimize=True)
    return min(png, sink.getvalue(), key=len)
