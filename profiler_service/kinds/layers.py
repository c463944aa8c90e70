"""Layers of today's networks: attention, MLPs, vocabularies, transformer blocks.

Pure. It counts the weights and products of a layer, and knows nothing of how they are carried out.
The builders are in `profiler_service.measurement.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from profiler_service.kinds.backends import ATTENTION_BACKEND, BLOCK_BACKEND, MLP_BACKEND
from profiler_service.kinds.products import (
    BACKEND,
    BATCH,
    DTYPE,
    SPARSITY,
    check_sparsity,
    product_bytes,
    product_flops,
    weight_bytes,
)
from profiler_service.workload import (
    DTYPE_SIZES_BYTES,
    Dims,
    Parameter,
    ParamValue,
    WorkloadKind,
)

WIDTH = Parameter(
    name="width",
    default=768,
    is_dim=True,
    description="Width of the residual stream: of what the layer reads and adds to (GPT-2: 768).",
)
SEQUENCE = Parameter(
    name="sequence", default=512, description="Tokens of a sequence: queries and keys alike."
)
MASK = Parameter(
    name="mask",
    default="causal",
    choices=("causal", "none", "dense"),
    description=(
        "Which keys a query sees: `causal` those before it and its own, `none` all of them,"
        " `dense` all, with a number for each pair added to its score."
    ),
)
ACTIVATION = Parameter(
    name="activation",
    default="gelu",
    choices=("gelu", "gelu_tanh", "relu", "silu"),
    description="What follows the first product of an MLP.",
)
GATED = Parameter(
    name="gated",
    default="no",
    choices=("no", "yes"),
    description=(
        "Whether the activation of one product is multiplied by another product, as in Llama's MLP."
    ),
)


def _size_bytes(params: Mapping[str, ParamValue]) -> int:
    return DTYPE_SIZES_BYTES[str(params["dtype"])]


# Attention


def _attention_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    heads, head_dim = dims
    batch, sequence = int(params["batch"]), int(params["sequence"])
    vectors = 4 * batch * heads * sequence * head_dim  # queries, keys, values, result
    scores = batch * heads * sequence**2  # kept whole where no fused kernel runs
    mask = sequence**2 if params["mask"] == "dense" else 0
    return _size_bytes(params) * (vectors + 2 * scores + mask)


def _attention_flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    heads, head_dim = dims
    sequence = int(params["sequence"])
    pairs = sequence * (sequence + 1) // 2 if params["mask"] == "causal" else sequence**2
    return 4 * int(params["batch"]) * heads * pairs * head_dim


ATTENTION = WorkloadKind(
    name="attention",
    axes=("heads", "head_dim"),
    parameters=(BATCH, SEQUENCE, MASK, DTYPE, ATTENTION_BACKEND),
    has_few_launches=True,
    builder="profiler_service.measurement.layers:build_attention",
    operand_bytes=_attention_bytes,
    flops=_attention_flops,
    description=(
        "torch's scaled_dot_product_attention of queries, keys and values"
        " [batch, heads, sequence, head_dim], without the products that make them."
    ),
)


# MLPs and blocks


def _mlp_products(
    hidden: int, width: int, params: Mapping[str, ParamValue]
) -> list[tuple[int, int]]:
    """Rows and columns of an MLP's weights."""
    first = 2 if params["gated"] == "yes" else 1
    return [*[(hidden, width)] * first, (width, hidden)]


def _mlp_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    (hidden,), width, batch = dims, int(params["width"]), int(params["batch"])
    products = _mlp_products(hidden, width, params)
    weights = sum(weight_bytes(*each, params) for each in products)
    # The input, the result, and of each first product its result; and the activation.
    activations = batch * (2 * width + len(products) * hidden)
    return weights + _size_bytes(params) * activations


def _mlp_flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    products = _mlp_products(dims[0], int(params["width"]), params)
    return sum(product_flops(*each, params) for each in products)


MLP = WorkloadKind(
    name="mlp",
    axes=("hidden",),
    parameters=(BATCH, WIDTH, ACTIVATION, GATED, DTYPE, MLP_BACKEND),
    has_few_launches=True,
    builder="profiler_service.measurement.layers:build_mlp",
    operand_bytes=_mlp_bytes,
    flops=_mlp_flops,
    description=(
        "The MLP of a transformer: width to hidden, activation, and back to width, without biases."
        " `batch` counts the tokens of all sequences."
    ),
)


def _block_params(params: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
    """The parameters of the products of a block: their rows are the tokens of all sequences."""
    tokens = int(params["batch"]) * int(params["sequence"])
    return {**params, "batch": tokens}


def _block_products(width: int) -> list[tuple[int, int]]:
    return [(3 * width, width), (width, width)]


def _block_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    (width, hidden), of_products = dims, _block_params(params)
    heads = int(params["heads"])
    attention = _attention_bytes((heads, -(-width // heads)), params)
    projections = sum(product_bytes(*each, of_products) for each in _block_products(width))
    mlp = _mlp_bytes((hidden,), {**of_products, "width": width})
    # Two norms with weight and bias, six biases of products, the input, and two sums.
    biases = sum(rows for rows, _ in _block_products(width)) + 2 * hidden + width
    others = 4 * width + biases + 3 * int(of_products["batch"]) * width
    return attention + projections + mlp + _size_bytes(params) * others


def _block_flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    (width, hidden), of_products = dims, _block_params(params)
    heads = int(params["heads"])
    projections = sum(product_flops(*each, of_products) for each in _block_products(width))
    mlp = _mlp_flops((hidden,), {**of_products, "width": width})
    return projections + mlp + _attention_flops((heads, width // heads), params)


TRANSFORMER_BLOCK = WorkloadKind(
    name="transformer_block",
    axes=("width", "hidden"),
    parameters=(
        Parameter(name="batch", default=1, description="Sequences."),
        SEQUENCE,
        Parameter(
            name="heads",
            default=12,
            description="Heads of the attention; the width must be a multiple of this.",
        ),
        *(MASK, ACTIVATION, GATED, DTYPE, BLOCK_BACKEND),
    ),
    multiples=lambda params: (int(params["heads"]), 1),
    builder="profiler_service.measurement.layers:build_transformer_block",
    operand_bytes=_block_bytes,
    flops=_block_flops,
    description=(
        "A block of GPT-2: norm, attention with its projections, sum; norm, MLP, sum. Two axes: the"
        " residual stream's width and the MLP's hidden width."
    ),
)


# Vocabularies


def _embedding_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    (vocabulary,), width, batch = dims, int(params["width"]), int(params["batch"])
    return _size_bytes(params) * width * (vocabulary + batch) + 8 * batch


EMBEDDING = WorkloadKind(
    name="embedding",
    axes=("vocabulary",),
    parameters=(BATCH, WIDTH, DTYPE),
    has_few_launches=True,
    builder="profiler_service.measurement.layers:build_embedding",
    operand_bytes=_embedding_bytes,
    flops=lambda dims, params: 0,
    description=(
        "torch.nn.Embedding: rows of a table [vocabulary, width], one for each of `batch` tokens."
        " It copies, and multiplies nothing."
    ),
)
LM_HEAD = WorkloadKind(
    name="lm_head",
    axes=("vocabulary",),
    parameters=(BATCH, WIDTH, DTYPE, BACKEND, SPARSITY),
    check=check_sparsity,
    has_few_launches=True,
    builder="profiler_service.measurement.layers:build_lm_head",
    operand_bytes=lambda dims, params: product_bytes(dims[0], int(params["width"]), params),
    flops=lambda dims, params: product_flops(dims[0], int(params["width"]), params),
    description=(
        "The scores of a language model: `batch` tokens of `width` times a table"
        " [vocabulary, width], without bias."
    ),
)
