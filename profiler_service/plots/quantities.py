"""Numbers as charts show them: latencies with their units, ratios, shares, ticks.

Knows no figure and no curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LATENCY_UNITS = (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0))
FLOP_UNITS = (("as", 1e-18), ("fs", 1e-15), ("ps", 1e-12), *LATENCY_UNITS)
"""For the time of a single operation."""
FEWEST_TICKS, MOST_TICKS = 4, 10
PERCENT_BELOW = 1.2
"""Gains below this are told in percent."""
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
LARGEST_DENOMINATOR = 5
NEAR_FRACTION = 0.02


def format_number(value: float, count: int = 3) -> str:
    """The number with three figures (or `count`), and never an exponent: `2.95`, `65.9`, `270`."""
    if not value or not math.isfinite(value):
        return "0" if value == 0 else "–"
    value = float(f"{value:.{count}g}")
    decimals = max(0, count - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def choose_unit(
    value_s: float, units: Sequence[tuple[str, float]] = LATENCY_UNITS
) -> tuple[str, float]:
    """The unit in which the value has at most three digits before the point; its size, seconds."""
    for unit, size_s in units:
        if float(f"{value_s / size_s:.3g}") < 1000:
            return unit, size_s
    return units[-1]


def format_latency(latency_s: float, units: Sequence[tuple[str, float]] = LATENCY_UNITS) -> str:
    """The latency with its unit: `65.9 µs`."""
    unit, size_s = choose_unit(latency_s, units)
    return f"{format_number(latency_s / size_s)} {unit}"


def format_gain(gain: float) -> str:
    """How fast something is for a sentence: `10.0 % faster`, `2.95 × as fast`, `3.0 % slower`."""
    if gain >= PERCENT_BELOW or gain < 1 / PERCENT_BELOW:
        return f"{format_number(gain)} × as fast"
    if gain >= 1:
        return f"{100 * (gain - 1):.1f} % faster"
    return f"{100 * (1 / gain - 1):.1f} % slower"


def format_gain_interval(gain: float, low: float, high: float) -> str:
    """The interval of the gain, as `format_gain` puts it: `9.6 to 10.4 %`, `2.91 to 3.00 ×`."""
    if gain >= PERCENT_BELOW or gain < 1 / PERCENT_BELOW:
        return f"{format_number(low)} to {format_number(high)} ×"
    if gain >= 1:
        return f"{100 * (low - 1):.1f} to {100 * (high - 1):.1f} %"
    return f"{100 * (1 / high - 1):.1f} to {100 * (1 / low - 1):.1f} %"


def format_dims(dims: Sequence[int]) -> str:
    """Dims as charts show them: `1197 × 317`."""
    return " × ".join(map(str, dims))


def say_share(part: int, whole: int, one: str, several: str) -> tuple[str, str]:
    """The share as words, and `is` or `are`: `Two of three sizes`, `40 % of sizes`.

    `one` and `several` are the noun: `size`, `sizes`.
    """
    if part == 0:
        return f"No {one}", "is"
    if part == whole:
        return f"Every {one}", "is"
    share = part / whole
    for count in range(2, LARGEST_DENOMINATOR + 1):
        near = round(share * count)
        if 0 < near < count and abs(share - near / count) <= NEAR_FRACTION:
            if (near, count) == (1, 2):
                return f"Half of the {several}", "are"
            text = f"{WORDS[near].capitalize()} of {WORDS[count]} {several}"
            return text, "is" if near == 1 else "are"
    return f"{100 * share:.0f} % of the {several}", "are"


def size_ticks(first: int, last: int) -> tuple[list[int], int]:
    """Ticks for sizes, and what they are multiples of.

    The largest power of two that leaves 4 to 10 labels; 1 if there are fewer sizes.
    """
    step = 1
    while last // (2 * step) - (first - 1) // (2 * step) >= FEWEST_TICKS:
        step *= 2
    return list(range(-(-first // step) * step, last + 1, step)), step


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks for a logarithmic axis: powers of ten, or 1, 2, 5, or finer ones, at most about ten."""
    ticks: list[float] = []
    for digits in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1,)):
        ticks = [
            digit * 10.0**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for digit in digits
            if low <= digit * 10.0**power <= high
        ]
        if len(ticks) <= MOST_TICKS:
            break
    if len(ticks) < FEWEST_TICKS:  # a narrow range, in which a logarithm is nearly a line
        step = 10.0 ** math.floor(math.log10(high - low))
        step *= next(part for part in (0.2, 0.25, 0.5, 1, 2) if (high - low) / (part * step) <= 6)
        return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return ticks


def power_ticks(first: int, last: int) -> list[int]:
    """Powers of two from `first` to `last`, for a logarithmic axis; both ends if there are none."""
    powers = [1 << n for n in range(first.bit_length() - 1, last.bit_length())]
    inside = [power for power in powers if first <= power <= last]
    return inside if len(inside) > 1 else [first, last]


def format_tick(tick: float) -> str:
    """The tick without zeros that say nothing: `1.5`, `2`, `20`."""
    text = format_number(tick)
    return text.rstrip("0").rstrip(".") if "." in text else text
