"""Products of weights of 8 bits: within the quantisation's own bounds of a product in float64."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from profiler_service.errors import UnsupportedOnHostError
from profiler_service.networks.products import bind_product, has_backend
from profiler_service.networks.quantised import bind_int8_weight_only, quantise


def new_layer(dtype: torch.dtype, in_features: int, out_features: int = 37) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(in_features, out_features).to(dtype).requires_grad_(False)


def true_result(layer: nn.Linear, x_bi: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(x_bi.double(), layer.weight.double(), layer.bias.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_is_its_number_times_the_step_of_its_row(dtype: torch.dtype) -> None:
    weight_oi = new_layer(dtype, 53).weight.clone()
    weight_oi[3] = 0
    numbers_oi, step_o = quantise(weight_oi)
    assert numbers_oi.dtype == torch.int8 and step_o.dtype == dtype
    # The largest of each row is 127 steps: a step is known to the precision of its dtype.
    steps_o = weight_oi.double().abs().amax(1) / 127
    steps_o[3] = step_o[3].double()
    torch.testing.assert_close(step_o.double(), steps_o, rtol=torch.finfo(dtype).eps, atol=0)
    assert numbers_oi.abs().max() == 127
    assert (numbers_oi[3] == 0).all() and step_o.min() > 0
    # Half a step; the largest number may stand for a little more, if its step was rounded down.
    error_oi = (numbers_oi.double() * step_o.double().unsqueeze(1) - weight_oi.double()).abs()
    assert (error_oi <= 0.5 * step_o.double().unsqueeze(1) * (1 + 1e-6)).all()
    assert error_oi.max() > 0.4 * step_o.max()


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_alone_is_quantised(dtype: torch.dtype, batch: int, has_bias: bool) -> None:
    layer = new_layer(dtype, 64)
    if not has_bias:
        layer.bias.zero_()
    x_bi = torch.randn(batch, 64).to(dtype)
    product = bind_product(
        layer.weight, backend="int8_weight_only", bias_o=layer.bias if has_bias else None
    )
    y_bo = product(x_bi)
    assert y_bo.dtype == dtype and y_bo.shape == (batch, 37)
    numbers_oi, step_o = quantise(layer.weight)
    expected_bo = true_result(layer, x_bi)
    # Each weight is off by half a step at most. The result and its sum with the bias are rounded.
    rounding_bo = 2 * torch.finfo(dtype).eps * (expected_bo.abs() + layer.bias.double().abs() + 1)
    bound_bo = x_bi.double().abs().sum(1, keepdim=True) * step_o.double() / 2 + rounding_bo
    error_bo = (y_bo.double() - expected_bo).abs()
    assert (error_bo <= bound_bo).all()
    # It is the product of the whole numbers, and no other: those of another weight are far off.
    exact_bo = x_bi.double() @ (numbers_oi * step_o.double().unsqueeze(1)).T + layer.bias.double()
    assert ((y_bo.double() - exact_bo).abs() <= rounding_bo).all()
    assert (expected_bo.roll(1, 1) - expected_bo).abs().max() > bound_bo.max()


@pytest.mark.parametrize("in_features", [7, 53, 64])
@pytest.mark.parametrize("batch", [1, 16])
def test_weight_and_input_are_quantised(batch: int, in_features: int) -> None:
    layer = new_layer(torch.float32, in_features)
    x_bi = torch.randn(batch, in_features)
    y_bo = bind_product(layer.weight, backend="int8_dynamic", bias_o=layer.bias)(x_bi)
    # The input's step: 7 bits from its smallest number to its largest, zero included. A number is
    # off by half a step, and by another half because the zero is a whole number, too.
    step = float(x_bi.clamp(min=0).max() - x_bi.clamp(max=0).min()) / 127
    half_o = quantise(layer.weight)[1].double() / 2
    input_sum_b1 = x_bi.double().abs().sum(1, keepdim=True)
    weight_sum_o = layer.weight.double().abs().sum(1)
    bound_bo = input_sum_b1 * half_o + step * (weight_sum_o + in_features * half_o) + 1e-5
    error_bo = (y_bo.double() - true_result(layer, x_bi)).abs()
    assert (error_bo <= bound_bo).all()
    assert error_bo.max() > 1e-4  # and it is quantised
    # Without the bias, its share is missing.
    without_bo = bind_product(layer.weight, backend="int8_dynamic")(x_bi)
    torch.testing.assert_close(y_bo - without_bo, layer.bias.expand(batch, 37))


def test_it_is_torch_s_own_dynamically_quantised_layer() -> None:
    layer, x_bi = new_layer(torch.float32, 53), torch.randn(16, 53)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao and its dtypes are deprecated
        config = torch.ao.quantization.per_channel_dynamic_qconfig
        model = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            nn.Sequential(layer), {nn.Linear: config}, dtype=torch.qint8
        )
        expected_bo = model(x_bi)
        step_o = model[0].weight().q_per_channel_scales()
    y_bo = bind_product(layer.weight, backend="int8_dynamic", bias_o=layer.bias)(x_bi)
    # torch divides the largest weight by 127.5: steps differ by 0.4 %, and weights by one step.
    torch.testing.assert_close(quantise(layer.weight)[1].double(), step_o, rtol=5e-3, atol=0)
    one_step_bo = x_bi.abs().sum(1, keepdim=True) * step_o.float()
    assert ((y_bo - expected_bo).abs() <= one_step_bo).all()


def test_a_kernel_that_torch_lacks_is_refused_by_name() -> None:
    assert has_backend("int8_dynamic", "cpu", torch.float32)
    for dtype in (torch.bfloat16, torch.float16):
        assert not has_backend("int8_dynamic", "cpu", dtype)
    with pytest.raises(UnsupportedOnHostError, match="no int8_dynamic product of bfloat16 on cpu"):
        bind_product(new_layer(torch.bfloat16, 16).weight, backend="int8_dynamic")
    for backend in ("int8_dynamic", "int8_weight_only"):
        assert not has_backend(backend, "meta", torch.float32)


def test_a_number_of_inputs_that_torch_s_kernel_reads_beyond_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a multiple of 16, not 53"):
        bind_int8_weight_only(new_layer(torch.bfloat16, 53).weight, None, 16)
