"""The call of `transformer_mlp` that is timed. Runs in the measuring process only."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F  # noqa: N812

from profiler_service.measurement.operations import Call, Operands
from profiler_service.workload import Dims, ParamValue

# Shapes: T tokens, H hidden_width, M model_width.


def build(operands: Operands, dims: Dims, params: Mapping[str, ParamValue]) -> Call:
    """The MLP's call on x_tm; `dims` is (hidden_width, model_width)."""
    hidden_width, model_width = dims
    up_hm, up_bias_h = operands.weight(hidden_width, model_width), operands.weight(hidden_width)
    down_mh, down_bias_m = operands.weight(model_width, hidden_width), operands.weight(model_width)
    x_tm = operands.input(int(params["tokens"]), model_width)

    def mlp() -> torch.Tensor:
        hidden_th = F.gelu(F.linear(x_tm, up_hm, up_bias_h))
        return F.linear(hidden_th, down_mh, down_bias_m)

    return mlp
