"""Windows of multiples: what they hold, what is refused, and that only candidates are measured."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from profiler_service.analysis.lhp import find_answer
from profiler_service.errors import InvalidRequestError
from profiler_service.grid import Grid
from profiler_service.kinds import LINEAR, MATMUL
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.window import build_window, read_multiples
from profiler_service.workload import Dims
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
WORKLOAD = LINEAR.describe()


def window(*dims: int, multiple_of: Dims, max_growth: float = 0.125) -> Grid:
    return build_window(WORKLOAD, dims, max_growth=max_growth, multiple_of=multiple_of)


def test_one_number_is_for_all_axes() -> None:
    assert read_multiples("64", WORKLOAD) == (64, 64)
    assert read_multiples(" 1, 64", WORKLOAD) == (1, 64)
    assert read_multiples("1", WORKLOAD) is None
    assert read_multiples(None, WORKLOAD) is None


@pytest.mark.parametrize("text", ["", "64,", "0", "-64", "1,2,3", "6.4", "x", "9" * 5000, "٦٤"])
def test_what_is_no_multiple_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="out_features,in_features") as caught:
        read_multiples(text, WORKLOAD)
    assert "1,64" in caught.value.hint
    assert len(str(caught.value)) < 200


def test_a_window_holds_the_asked_dims_and_the_multiples_above() -> None:
    # An eighth of 1197 is 149: up to 1346. In between are 1216, 1280 and 1344. 317 grows by 39.
    found = window(1197, 317, multiple_of=(64, 1))
    assert list(found.axes[0].dims) == [1197, 1216, 1280, 1344]
    assert list(found.axes[1].dims) == list(range(317, 357))
    # 1197 is no multiple: it may be measured with 317 only. 3 x 40 points, and the asked one.
    assert found.num_candidates == 121
    assert found.is_candidate((1197, 317)) and found.is_candidate((1216, 317))
    assert not found.is_candidate((1197, 318))
    # A multiple that is asked about may stay as it is.
    assert window(1216, 317, multiple_of=(64, 1)).is_candidate((1216, 318))


def test_a_window_reaches_1024_multiples() -> None:
    # A quarter of 400,000 would be 100,000; 1,024 multiples of 64 are 65,536.
    grid = build_window(MATMUL.describe(), (40_000,), max_growth=1, multiple_of=(8,))
    assert (grid.axes[0].last, grid.size) == (48_192, 1025)


def test_where_no_multiple_is_left_the_next_one_is_named() -> None:
    # Up to 317 + 39 = 356: the next multiples of 128 are 384, at 67/317 = 21.14 % more, and of 512
    # 1536 for 1197, at 28.33 %.
    with pytest.raises(InvalidRequestError, match=r"multiple_of=1,128 .* 1197,317, up to 1346,356"):
        window(1197, 317, multiple_of=(1, 128))
    with pytest.raises(InvalidRequestError) as caught:
        window(1197, 317, multiple_of=(512, 128))
    assert caught.value.hint == (
        "next: out_features=1536, in_features=384, which max_growth=0.2833 reaches"
    )
    reached = window(1197, 317, multiple_of=(512, 128), max_growth=0.2833)
    assert reached.is_candidate((1536, 384))


def test_multiples_that_cannot_grow_are_refused_with_the_nearest() -> None:
    # 256 and 512 grow by 32 and 64; to the next multiples they must grow by 128: 0.5, and 0.25.
    with pytest.raises(InvalidRequestError) as caught:
        window(256, 512, multiple_of=(128, 128))
    assert caught.value.hint == "next: in_features=640, which max_growth=0.25 reaches"
    assert window(256, 512, multiple_of=(128, 128), max_growth=0.25).num_candidates == 2


def test_a_multiple_that_no_growth_reaches_is_refused() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        window(100, 1197, multiple_of=(4096, 1))
    assert caught.value.hint == (
        "next: out_features=4096, which no max_growth up to 1 reaches; ask for smaller multiples"
    )


@pytest.mark.parametrize("mode", ["race", "survey", "grid"])
@pytest.mark.parametrize("seed", range(4))
def test_only_candidates_are_measured_and_the_fastest_is_found(mode: Mode, seed: int) -> None:
    asked = (333, 317)
    grid = build_window(WORKLOAD, asked, max_growth=0.5, multiple_of=(16, 8))
    # Everything takes 1 ms; (384, 400) 0.9 ms. Points beside the asked row and column are faster
    # still, but no multiples.
    truth_s = np.full(grid.size, 1e-3)
    truth_s[grid.find_others()] = 5e-4
    best = grid.find_index((384, 400))
    assert best is not None
    truth_s[best] = 0.9e-3
    row = [grid.find_index((384, dim)) for dim in grid.axes[1].dims[1:]]
    truth_s[np.array(row)] *= 0.95
    spec = SweepSpec(workload=WORKLOAD, mode=mode, grid=grid, seed=seed)
    planner = create_planner(spec)
    device = SyntheticDevice(truth_s, noise=0.005, seed=seed)
    others = set(grid.find_others().tolist())
    while (batch := planner.next_batch()) is not None:
        assert not others & set(batch.point.tolist())
        planner.record(device.measure(batch))
    curve = planner.build_curve(PLATFORM, PROTOCOL, NOW)
    answer = find_answer(curve, asked, prefer="fastest", growth=(200, 200), multiple_of=(16, 8))
    assert answer is not None and answer.verdict == "faster"
    assert answer.lhp[0] == 384 and answer.lhp[1] % 8 == 0
    assert SweepSpec.from_json(spec.to_json()) == spec
