"""The workload kind `transformer_mlp`: axes, parameters, memory and operations.

The service imports this module, and has no torch. So this module must not import torch. Doesn't
know how the MLP is computed.
"""

from __future__ import annotations

from collections.abc import Mapping

from profiler_service.kinds.products import DTYPE
from profiler_service.workload import (
    DTYPE_SIZES_BYTES,
    Dims,
    Parameter,
    ParamValue,
    WorkloadKind,
)


def _operand_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    """Memory of weights, biases, input, the hidden layer before and after GELU, and result."""
    hidden_width, model_width = dims
    tokens = int(params["tokens"])
    weights = 2 * hidden_width * model_width + hidden_width + model_width
    activations = tokens * (2 * model_width + 2 * hidden_width)
    return DTYPE_SIZES_BYTES[str(params["dtype"])] * (weights + activations)


def _flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    """Two operations for each weight and token."""
    hidden_width, model_width = dims
    return 2 * int(params["tokens"]) * 2 * hidden_width * model_width


TRANSFORMER_MLP = WorkloadKind(
    name="transformer_mlp",
    axes=("hidden_width", "model_width"),
    parameters=(
        Parameter(name="tokens", default=128, description="Tokens of all sequences of the batch."),
        DTYPE,
    ),
    builder="lhp_transformer_mlp.building:build",
    operand_bytes=_operand_bytes,
    flops=_flops,
    description="A transformer's MLP: to hidden_width and back to model_width, GELU in between.",
)
