"""Numbers as charts show them, and how columns are packed."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.plots.figure import GL_POINTS, marks, pack, unpack
from profiler_service.plots.quantities import (
    format_gain,
    format_gain_interval,
    format_latency,
    log_ticks,
    power_ticks,
    say_share,
    size_ticks,
)


@pytest.mark.parametrize(
    ("latency_s", "text"),
    [
        (41e-9, "41.0 ns"),
        (65.9e-6, "65.9 µs"),
        (999.6e-6, "1.00 ms"),  # not 1000 µs
        (0.2701, "270 ms"),
        (12.345, "12.3 s"),
        (4321.0, "4320 s"),
        (0.0, "0 ns"),
    ],
)
def test_latencies_have_three_figures(latency_s: float, text: str) -> None:
    assert format_latency(latency_s) == text


def test_small_gains_are_told_in_percent() -> None:
    # 1 / 1.03 is 3 % slower.
    assert format_gain(1.1) == "10.0 % faster"
    assert format_gain_interval(1.1, 1.096, 1.104) == "9.6 to 10.4 %"
    assert format_gain(2.951) == "2.95 × as fast"
    assert format_gain_interval(2.951, 2.91, 3.0) == "2.91 to 3.00 ×"
    assert format_gain(1 / 1.03) == "3.0 % slower"
    assert format_gain_interval(1 / 1.03, 1 / 1.04, 1 / 1.02) == "2.0 to 4.0 %"
    assert format_gain(0.73) == "0.730 × as fast"


@pytest.mark.parametrize(
    ("first", "last", "ticks", "step"),
    [
        (256, 512, [256, 320, 384, 448, 512], 64),  # by 128 there would be three
        (300, 340, [304, 312, 320, 328, 336], 8),
        (10, 12, [10, 11, 12], 1),
        (1197, 1256, [1200, 1216, 1232, 1248], 16),
        (256, 2048, [512, 1024, 1536, 2048], 512),
    ],
)
def test_sizes_have_ticks_at_multiples_of_a_power_of_two(
    first: int, last: int, ticks: list[int], step: int
) -> None:
    assert size_ticks(first, last) == (ticks, step)


def test_logarithmic_axes_have_a_few_round_ticks() -> None:
    assert log_ticks(18, 2100) == [20, 50, 100, 200, 500, 1000, 2000]
    assert log_ticks(0.75, 4.5) == [1, 1.5, 2, 3, 4]
    assert log_ticks(2.72, 3.06) == pytest.approx([2.8, 2.9, 3.0])
    assert log_ticks(1.011, 1.021) == pytest.approx([1.012, 1.014, 1.016, 1.018, 1.02])
    assert power_ticks(256, 2048) == [256, 512, 1024, 2048]
    assert power_ticks(300, 400) == [300, 400]


def test_shares_are_told_in_words_where_they_are_near_a_fraction() -> None:
    assert say_share(168, 257, "size", "sizes") == ("Two of three sizes", "are")  # 65.4 %
    assert say_share(1, 4, "point", "points") == ("One of four points", "is")
    assert say_share(51, 100, "size", "sizes") == ("Half of the sizes", "are")
    assert say_share(90, 100, "size", "sizes") == ("90 % of the sizes", "are")
    assert say_share(0, 9, "size", "sizes") == ("No size", "is")
    assert say_share(9, 9, "size", "sizes") == ("Every size", "is")


def test_columns_are_packed_as_their_bytes() -> None:
    packed = pack([1.5, None])
    assert packed["dtype"] == "f8"
    np.testing.assert_array_equal(unpack(packed), [1.5, np.nan])
    assert pack(np.array([7, 8])) == {"dtype": "i4", "bdata": "BwAAAAgAAAA="}
    square = pack(np.eye(2))
    assert square["shape"] == "2, 2"
    np.testing.assert_array_equal(unpack(square), np.eye(2))


def test_a_million_points_stay_small_and_are_drawn_by_webgl() -> None:
    # 4 bytes a number, 4 characters for 3 bytes: 10.7 million characters for both columns.
    column = np.arange(1_000_000)
    trace = marks("all", column, column / 7, {})
    assert len(trace["x"]["bdata"]) + len(trace["y"]["bdata"]) < 10.8e6
    assert (trace["y"]["dtype"], trace["type"]) == ("f4", "scattergl")
    assert marks("few", column[:GL_POINTS], column[:GL_POINTS], {})["type"] == "scatter"
