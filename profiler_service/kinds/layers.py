"""Layers of today's networks: convolutions, attention, MLPs, vocabularies, transformer blocks.

Pure. It counts the weights and products of a layer, and knows nothing of how they are carried out.
The builders are in `profiler_service.measurement.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from profiler_service.errors import InvalidWorkloadError
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
_KERNEL = Parameter(
    name="kernel", default=3, maximum=64, description="Height and width of the kernel."
)
_STRIDE = Parameter(name="stride", default=1, maximum=64, description="Steps of the kernel.")
_PADDING = Parameter(
    name="padding",
    default=1,
    minimum=0,
    maximum=64,
    description="Rows and columns of zeros around each image.",
)
_GROUPS = Parameter(
    name="groups",
    default=1,
    description="Both numbers of channels are divided into so many groups, each with its kernels.",
)
_HEIGHT = Parameter(name="height", default=32, description="Rows of an image.")
_IMAGE_WIDTH = Parameter(name="width", default=32, description="Columns of an image.")
_LAYOUT = Parameter(
    name="layout",
    default="channels_first",
    choices=("channels_first", "channels_last"),
    description=(
        "How images and kernels lie in memory: a channel after the other (torch's default), or all"
        " channels of a pixel together (`torch.channels_last`)."
    ),
)


def _size_bytes(params: Mapping[str, ParamValue]) -> int:
    return DTYPE_SIZES_BYTES[str(params["dtype"])]


# Convolutions


def _find_image_sides(params: Mapping[str, ParamValue]) -> tuple[int, int]:
    """Rows and columns of the result; 0 or less if the kernel doesn't fit into the image."""
    kernel, stride, padding = (int(params[name]) for name in ("kernel", "stride", "padding"))
    rows, columns = (
        (int(params[name]) + 2 * padding - kernel) // stride + 1 for name in ("height", "width")
    )
    return rows, columns


def _check_image(params: Mapping[str, ParamValue]) -> None:
    """Returns if the kernel fits into the padded image. Raises InvalidWorkloadError."""
    if min(_find_image_sides(params)) < 1:
        image = f"{params['height']} x {params['width']}"
        raise InvalidWorkloadError(
            f"a kernel of {params['kernel']} doesn't fit into {image} with padding"
            f" {params['padding']}",
            hint="choose a smaller kernel, or a larger height, width or padding",
        )


def _conv_weights(out_channels: int, in_channels: int, params: Mapping[str, ParamValue]) -> int:
    """Weights of a convolution without its biases."""
    groups = int(params.get("groups", 1))
    return out_channels * -(-in_channels // groups) * int(params["kernel"]) ** 2


def _conv_bytes(
    out_channels: int, in_channels: int, weights: int, params: Mapping[str, ParamValue]
) -> int:
    rows, columns = _find_image_sides(params)
    pixels_in = int(params["batch"]) * int(params["height"]) * int(params["width"])
    pixels_out = int(params["batch"]) * rows * columns
    images = in_channels * pixels_in + out_channels * pixels_out
    # oneDNN may rearrange all of them into blocks of channels, and back.
    return 2 * _size_bytes(params) * (weights + images) + _size_bytes(params) * out_channels


def _conv_flops(weights: int, params: Mapping[str, ParamValue]) -> int:
    rows, columns = _find_image_sides(params)
    return 2 * int(params["batch"]) * rows * columns * weights


def _conv2d_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    out_channels, in_channels = dims
    weights = _conv_weights(out_channels, in_channels, params)
    return _conv_bytes(out_channels, in_channels, weights, params)


def _conv2d_flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    out_channels, in_channels = dims
    return _conv_flops(_conv_weights(out_channels, in_channels, params), params)


def _depthwise_weights(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    return dims[0] * int(params["kernel"]) ** 2


def _depthwise_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    return _conv_bytes(dims[0], dims[0], _depthwise_weights(dims, params), params)


def _depthwise_flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    return _conv_flops(_depthwise_weights(dims, params), params)


CONV2D = WorkloadKind(
    name="conv2d",
    axes=("out_channels", "in_channels"),
    parameters=(
        *(BATCH, _HEIGHT, _IMAGE_WIDTH, _KERNEL, _STRIDE, _PADDING, _GROUPS),
        *(_LAYOUT, DTYPE),
    ),
    check=_check_image,
    multiples=lambda params: (int(params["groups"]),) * 2,
    builder="profiler_service.measurement.layers:build_conv2d",
    operand_bytes=_conv2d_bytes,
    flops=_conv2d_flops,
    description=(
        "torch.nn.Conv2d with bias over images [batch, in_channels, height, width], kernel,"
        " stride and padding alike in both directions."
    ),
)
DEPTHWISE_CONV2D = WorkloadKind(
    name="depthwise_conv2d",
    axes=("channels",),
    parameters=(BATCH, _HEIGHT, _IMAGE_WIDTH, _KERNEL, _STRIDE, _PADDING, _LAYOUT, DTYPE),
    check=_check_image,
    builder="profiler_service.measurement.layers:build_depthwise_conv2d",
    operand_bytes=_depthwise_bytes,
    flops=_depthwise_flops,
    description=("torch.nn.Conv2d with one kernel a channel (groups = channels), as in MobileNet."),
)


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
    parameters=(BATCH, SEQUENCE, MASK, DTYPE),
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


_MLP_BACKEND = Parameter(
    name="backend",
    default="dense",
    choices=("dense", "packed"),
    description=(
        "Which kernels carry out the products: `dense` is torch's own choice, `packed` oneDNN's"
        " with weights rearranged once."
    ),
)
MLP = WorkloadKind(
    name="mlp",
    axes=("hidden",),
    parameters=(BATCH, WIDTH, ACTIVATION, GATED, DTYPE, _MLP_BACKEND),
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
    return {**params, "batch": tokens, "backend": "dense"}


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
        *(MASK, ACTIVATION, GATED, DTYPE),
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
    builder="profiler_service.measurement.layers:build_lm_head",
    operand_bytes=lambda dims, params: product_bytes(dims[0], int(params["width"]), params),
    flops=lambda dims, params: product_flops(dims[0], int(params["width"]), params),
    description=(
        "The scores of a language model: `batch` tokens of `width` times a table"
        " [vocabulary, width], without bias."
    ),
)
