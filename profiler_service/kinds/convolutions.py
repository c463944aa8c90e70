"""Convolutions of images: the kinds `conv2d` and `depthwise_conv2d`.

Pure. It counts weights and products, and knows nothing of how they are carried out. The builders
are in `profiler_service.measurement.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from profiler_service.errors import InvalidWorkloadError
from profiler_service.kinds.backends import CONV_BACKEND
from profiler_service.kinds.products import BATCH, DTYPE
from profiler_service.workload import (
    DTYPE_SIZES_BYTES,
    Dims,
    Parameter,
    ParamValue,
    WorkloadKind,
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
    # oneDNN may rearrange all of them into blocks of channels, and back, whatever the backend.
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
        *(_LAYOUT, DTYPE, CONV_BACKEND),
    ),
    check=_check_image,
    multiples=lambda params: (int(params["groups"]),) * 2,
    has_few_launches=True,
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
    parameters=(
        *(BATCH, _HEIGHT, _IMAGE_WIDTH, _KERNEL, _STRIDE, _PADDING),
        *(_LAYOUT, DTYPE, CONV_BACKEND),
    ),
    check=_check_image,
    has_few_launches=True,
    builder="profiler_service.measurement.layers:build_depthwise_conv2d",
    operand_bytes=_depthwise_bytes,
    flops=_depthwise_flops,
    description=("torch.nn.Conv2d with one kernel a channel (groups = channels), as in MobileNet."),
)
