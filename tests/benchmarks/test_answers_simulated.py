"""The verdicts on simulated races, and the simulations themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.answers.simulated import SCENARIOS, judge_noise
from benchmarks.synthetic_device import CHILDREN, Device, Noise
from benchmarks.synthetic_settling import GAIN, NOISES, SIDE, main, plant
from tests.benchmarks.planted import outcome


def test_a_settled_race_is_false_if_its_answer_is_further_from_the_best_than_it_says() -> None:
    assert outcome().is_false
    assert not outcome(over_best=0.0).is_false
    assert not outcome(over_best=0.004).is_false
    assert not outcome(margin=0.009).is_false
    assert not outcome(settled=False).is_false
    assert not outcome(settled=None, margin=None).is_false


def test_false_claims_count_among_those_that_said_so() -> None:
    def verdict(false: int, right: int, silent: int, truth: str = "rows") -> bool | None:
        found = [outcome()] * false + [outcome(over_best=0.0)] * right
        found += [outcome(settled=False)] * silent
        return judge_noise({f"{truth}, drift": found})[0].met

    assert verdict(false=5, right=95, silent=100) is True
    assert verdict(false=6, right=94, silent=100) is False
    # None said so: nothing was checked.
    assert verdict(false=0, right=0, silent=100) is None
    assert verdict(false=6, right=94, silent=0, truth="lone") is None


def test_one_move_in_a_hundred_may_be_false() -> None:
    still, moved = outcome(gain=0.0), outcome(gain=0.0, moved=True)
    (one,) = judge_noise({"equal, drift": [still] * 99 + [moved]})
    (two,) = judge_noise({"equal, drift": [still] * 98 + [moved] * 2})
    assert (one.met, two.met) == (True, False)


# --- The simulations ------------------------------------------------------------------------


def test_a_simulated_process_has_effects_of_its_own_and_pages_change_with_each_batch() -> None:
    noise = Noise(scale=0.0, spikes=0.0, first_call=0.0, drift=0.0, process=0.002, pages=0.001)
    device = Device(np.ones(4000), noise, seed=1)

    def batch(child: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        device.start_batch(child)
        return np.log([device.call(point) for point in range(4000)])

    first, again, other, wrapped = batch(0), batch(0), batch(1), batch(CHILDREN)
    # Of one process: only the pages differ, 0.1 % · √2. Of two: also 0.2 % · √2.
    assert np.std(first - again) == pytest.approx(0.001 * 2**0.5, rel=0.05)
    assert np.std(first - other) == pytest.approx((2 * (0.001**2 + 0.002**2)) ** 0.5, rel=0.05)
    assert np.std(first - wrapped) == pytest.approx(0.001 * 2**0.5, rel=0.05)


def test_truths_are_planted() -> None:
    rng = np.random.default_rng(1)
    assert (plant("equal", (101, 200), 0.0, rng) == 1).all()
    rows = plant("rows", (101, 200), 0.01, rng).reshape(SIDE, SIDE)
    # 112, 128 and 144 of 101 to 148.
    assert (np.flatnonzero(rows[:, 5] < 1) + 101).tolist() == [112, 128, 144]
    assert rows.min() == pytest.approx(1 / 1.01) and rows[0, 0] == 1
    lone = plant("lone", (101, 200), 0.01, rng)
    assert np.count_nonzero(lone < 1) == 1 and lone[0] == 1
    few = plant("few", (101, 200), 0.01, rng)
    assert few.shape == (64,) and np.count_nonzero(few < 1) == 1 and few[0] == 1


def test_every_scenario_has_its_noise() -> None:
    assert {name.split(", ")[1] for name in SCENARIOS} == set(NOISES)


def test_a_simulation_prints_its_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rows, processes", "7", "8"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["seed"] == 7 and GAIN[0] <= found["gain"] <= GAIN[1]
    assert found["over_best"] in (0.0, pytest.approx(found["gain"]))
    assert main(["no such scenario", "0", "1"]) == 2
