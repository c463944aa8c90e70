"""What the names of kernels along axes say, from tables made by hand."""

from __future__ import annotations

import pytest

from profiler_service.analysis.kernel_names import (
    AxisChange,
    explain,
    find_change,
    find_changes,
    find_line,
)
from profiler_service.workload import Dims

A, B, C = "convolution uni", "convolution blk", "convolution brg"


def line(first: int, names: str) -> list[tuple[int, str]]:
    """Dimensions from `first` on, each with the kernel whose letter it has; `.` wasn't seen."""
    return [(first + n, name) for n, name in enumerate(names) if name != "."]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (line(30, "aaaa"), None),
        ([(30, "a")], None),
        ([], None),
        # 32 and 36 are multiples of 4, and so is 40: each of them has b, and nothing else has.
        (line(31, "abaaabaaab"), AxisChange(axis=0, rule="multiples", number=4)),
        # Those that are special may also be the many: 33 and 35 are odd, but 33, 35, 37 have gcd 1.
        (line(32, "abababa"), AxisChange(axis=0, rule="multiples", number=2)),
        # 48 and 96 are special; 64 and 80 aren't, and were seen. So it is 48, and not 16.
        (
            [(47, "a"), (48, "b"), (49, "a"), (64, "a"), (80, "a"), (96, "b"), (97, "a")],
            AxisChange(axis=0, rule="multiples", number=48),
        ),
        # 16 to 17, and 32 to 33.
        (
            [(15, "a"), (16, "a"), (17, "b"), (32, "b"), (33, "c")],
            AxisChange(axis=0, rule="above multiples", number=16, changes=(16, 32)),
        ),
        # 15 to 16, and 31 to 32.
        (
            [(15, "a"), (16, "b"), (31, "b"), (32, "c")],
            AxisChange(axis=0, rule="from multiples", number=16, changes=(16, 32)),
        ),
        # 48 to 49 wasn't seen. That 47 and 52 differ agrees with it.
        (
            [(16, "a"), (17, "b"), (32, "b"), (33, "c"), (47, "c"), (52, "d")],
            AxisChange(axis=0, rule="above multiples", number=16, changes=(16, 32)),
        ),
        # 40 and 47 are of one block of 16, and differ.
        (
            [(16, "a"), (17, "b"), (32, "b"), (33, "c"), (40, "c"), (47, "d")],
            AxisChange(axis=0, rule="unclear"),
        ),
        (line(63, "aabb"), AxisChange(axis=0, rule="above", number=64)),
        (line(63, "a..b"), AxisChange(axis=0, rule="between", number=63, last=66)),
        # One multiple alone may be anything else, too.
        (line(63, "abaa"), AxisChange(axis=0, rule="unclear")),
        # 32 and 48 have it, 64 hasn't.
        (
            [(31, "a"), (32, "b"), (33, "a"), (48, "b"), (49, "a"), (64, "a")],
            AxisChange(axis=0, rule="unclear"),
        ),
        # Every second one, but beginning at an odd one with three kernels in turn.
        (line(33, "abcabc"), AxisChange(axis=0, rule="unclear")),
        # 256 and 512: no tile is so large. The greatest number that is looked for is 128.
        (
            [(255, "a"), (256, "b"), (257, "a"), (512, "b"), (513, "a")],
            AxisChange(axis=0, rule="unclear"),
        ),
        (
            [(127, "a"), (128, "b"), (129, "a"), (256, "b"), (257, "a")],
            AxisChange(axis=0, rule="multiples", number=128),
        ),
    ],
)
def test_a_rule_explains_every_point_of_its_line(
    points: list[tuple[int, str]], expected: AxisChange | None
) -> None:
    assert find_change(points) == expected


def cross(at: Dims, names: dict[int, str], along: int) -> dict[Dims, str]:
    """Names along one axis through a point."""
    return {(*at[:along], dim, *at[along + 1 :]): name for dim, name in names.items()}


def test_a_line_has_the_points_that_differ_on_its_axis_only() -> None:
    names: dict[Dims, str] = {(3, 8): A, (2, 8): B, (2, 9): C, (2, 7): A}
    assert find_line(names, (2, 8), 0) == [(2, B), (3, A)]
    assert find_line(names, (2, 8), 1) == [(7, A), (8, B), (9, C)]
    assert find_changes(names, (2, 8)) == [
        AxisChange(axis=0, rule="above", number=2, through=(2, 8)),
        AxisChange(axis=1, rule="unclear", through=(2, 8)),
    ]


def test_the_line_with_most_points_tells_how_the_kernel_changes() -> None:
    # Through (2, 8), no other point along the second axis was looked at.
    names: dict[Dims, str] = {(2, 8): A, (3, 7): A, (3, 8): A, (3, 9): B}
    assert find_changes(names, (2, 8)) == [
        AxisChange(axis=1, rule="above", number=8, through=(3, 8)),
    ]
    assert find_changes({}, (2, 8)) == []


AXES = ("out_channels", "in_channels")
BY_SIXTEEN = cross((48, 48), {n: B if n % 16 == 0 else A for n in range(40, 66)}, 1)


def why(names: dict[Dims, str], dims: Dims, lhp: Dims) -> str:
    return explain(names, dims=dims, lhp=lhp, axes=AXES)


def test_the_answer_has_a_kernel_that_only_multiples_have() -> None:
    # Along in_channels through the answer, 48 and 64 have B. 47 is the dimension asked about.
    names = BY_SIXTEEN | {(45, 47): A}
    assert why(names, (45, 47), (48, 48)) == (
        "the kernel changes at multiples of 16 of in_channels: 45,47 takes convolution uni;"
        " 48,48 takes convolution blk"
    )


def test_the_axis_that_is_named_is_one_where_the_kernel_differs() -> None:
    # Along out_channels it changes, too, but not from 46 to 48.
    names = BY_SIXTEEN | {(46, 48): B, (44, 48): C, (46, 47): A}
    assert "in_channels" in why(names, (46, 47), (48, 48))
    assert "out_channels" not in why(names, (46, 47), (48, 48))


def test_a_line_beside_the_answer_says_where_it_is() -> None:
    # A race took (48, 48) for its answer, so the lines go through it; now (40, 47) stays.
    names = BY_SIXTEEN | {(40, 47): A}
    assert why(names, (40, 47), (40, 47)) == (
        "the kernel changes at multiples of 16 of in_channels where out_channels is 48;"
        " 40,47 takes convolution uni"
    )
    # Facts answer with (40, 64), which was looked at, too.
    assert why(names | {(40, 64): B}, (40, 47), (40, 64)) == (
        "the kernel changes at multiples of 16 of in_channels where out_channels is 48:"
        " 40,47 takes convolution uni; 40,64 takes convolution blk"
    )


def test_the_same_kernel_at_both() -> None:
    names: dict[Dims, str] = {(45, 47): A, (48, 48): A, (47, 48): B}
    assert why(names, (45, 47), (48, 48)) == "the same kernel at both: convolution uni"


def test_mkl_names_a_function_and_no_kernel() -> None:
    sgemm = "MKL SGEMM(T,N)"
    assert why({(1, 2): sgemm, (3, 4): sgemm}, (1, 2), (3, 4)) == (
        "the same function at both: MKL SGEMM(T,N)"
    )


def test_kernels_that_differ_without_a_rule() -> None:
    names: dict[Dims, str] = {(45, 47): A, (48, 48): B}
    assert why(names, (45, 47), (48, 48)) == (
        "the kernel isn't the same: 45,47 takes convolution uni; 48,48 takes convolution blk"
    )


@pytest.mark.parametrize("names", [{}, {(45, 47): A}, {(48, 48): A}, {(1, 1): A}])
def test_nothing_is_said_where_a_kernel_isn_t_known(names: dict[Dims, str]) -> None:
    assert why(names, (45, 47), (48, 48)) == ""
    assert why({(1, 1): A}, (45, 47), (45, 47)) == ""


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            BY_SIXTEEN,
            "the kernel changes at multiples of 16 of in_channels; 48,48 takes convolution blk",
        ),
        ({(48, 48): B}, "48,48 takes convolution blk"),
        (
            {(48, 48): B, (48, 49): B, (49, 48): B},
            "the same kernel at the 3 points looked at: convolution blk",
        ),
        (
            cross((48, 48), {n: str(-(-n // 16)) for n in (32, 33, 47, 48, 49, 64, 65)}, 0),
            # 33 to 48 have three blocks: 32 → 33, 48 → 49 and 64 → 65.
            "the kernel changes above multiples of 16 of out_channels (32, 48, 64); 48,48 takes 3",
        ),
        (
            cross((48, 48), {n: str(n // 8) for n in range(15, 66)}, 0),
            "the kernel changes from multiples of 8 of out_channels on (16, 24, 32, 40, …);"
            " 48,48 takes 6",
        ),
        (
            {(48, 48): A, (48, 49): B},
            "the kernel changes above in_channels 48; 48,48 takes convolution uni",
        ),
        (
            {(48, 48): A, (48, 55): B},
            "the kernel changes between in_channels 48 and 55; 48,48 takes convolution uni",
        ),
        (
            {(48, 48): A, (48, 49): B, (48, 50): A},
            "the kernel changes along in_channels; 48,48 takes convolution uni",
        ),
    ],
)
def test_dims_that_stay(names: dict[Dims, str], expected: str) -> None:
    assert why(names, (48, 48), (48, 48)) == expected
