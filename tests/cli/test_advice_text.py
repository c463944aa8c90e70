"""Shares as they are written: never rounded to nothing, nor to all."""

from __future__ import annotations

import pytest

from profiler_service.advice.layers import Layer
from profiler_service.cli.advice_text import find_time_share, format_percent, format_time_share


@pytest.mark.parametrize(
    ("share", "three", "two"),
    [
        (0.0, "0 %", "0 %"),
        (0.0001, "< 0.1 %", "< 0.1 %"),
        (0.00326, "0.326 %", "0.33 %"),
        (0.1234, "12.3 %", "12 %"),
        (0.9, "90 %", "90 %"),
        (0.98765, "98.8 %", "99 %"),
        (0.9995, "> 99.9 %", "> 99 %"),
        (1.0, "100 %", "100 %"),
    ],
)
def test_percents(share: float, three: str, two: str) -> None:
    assert format_percent(share) == three
    assert format_percent(share, digits=2) == two


def layer(name: str, share: float | None, whole_name: str | None = None) -> Layer:
    return Layer(
        name=name,
        class_name="nn.Linear",
        num_parameters=1,
        question=None,
        time_share=share,
        whole_name=whole_name,
    )


def test_products_of_one_layer_count_its_time_once() -> None:
    parts = [layer("a.in_proj", 0.25, "a"), layer("a.out_proj", 0.25, "a")]
    assert find_time_share(parts) == 0.25
    assert find_time_share([*parts, layer("b.in_proj", 0.125, "b")]) == 0.375
    assert format_time_share(parts) == "25 %†"


def test_equal_layers_add_up_and_an_unknown_time_leaves_the_sum_unknown() -> None:
    assert find_time_share([layer("a", 0.25), layer("b", 0.25)]) == 0.5
    assert find_time_share([layer("a", 0.25), layer("b", None)]) is None
    assert format_time_share([layer("a", None)]) == ""
