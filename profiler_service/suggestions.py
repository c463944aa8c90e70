"""What somebody may have meant who wrote a name that doesn't exist. Pure text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

ALSO_CALLED: Mapping[str, str] = {
    **dict.fromkeys(("fp32", "f32", "float", "single"), "float32"),
    **dict.fromkeys(("bf16", "bfloat"), "bfloat16"),
    **dict.fromkeys(("fp16", "f16", "half"), "float16"),
    **dict.fromkeys(("fc", "dense", "gemm"), "linear"),
    **dict.fromkeys(("sparse", "sparse_csr"), "csr"),
    **dict.fromkeys(("onednn", "mkldnn"), "packed"),
    **dict.fromkeys(("int8", "quantized", "quantised", "dynamic"), "int8_dynamic"),
    **dict.fromkeys(("weight_only", "int8_weight"), "int8_weight_only"),
    "mm": "matmul",
    "inductor": "compiled",
    "bs": "batch",
    "kernel": "backend",
}
"""Other names of things, by which people know them from elsewhere."""
MAX_LENGTH = 80
"""A longer text is nobody's slip of the pen."""


def did_you_mean(given: object, names: Iterable[str]) -> str:
    """`did you mean 'linear'?`, with a space after it; empty if no name is similar."""
    if not isinstance(given, str) or len(given) > MAX_LENGTH:
        return ""
    names = list(names)
    plain = given.strip().lower().removeprefix("torch.").replace("-", "_")
    by_plain = {name.lower().replace("-", "_"): name for name in names}
    if (alias := ALSO_CALLED.get(plain)) in names:
        return f"did you mean {alias!r}? "
    close = difflib.get_close_matches(plain, by_plain, n=1, cutoff=0.6)
    return f"did you mean {by_plain[close[0]]!r}? " if close else ""
