"""Trials whose truth is planted: replies of a service, and a referee's measurement around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.answers.dims import RULES, Dims, round_up
from benchmarks.answers.processes import Measurement
from benchmarks.answers.service import Failure, Reply
from benchmarks.answers.simulated import Outcome
from benchmarks.answers.trials import Trial

ASKED: Dims = (100, 200)
BLOCKS = 8
PROCESSES = 6


def measured(
    over_asked: Mapping[Dims, float],
    *,
    tau: float = 0.0,
    noise: float = 0.0,
    control: float = 1.0,
    processes: int = PROCESSES,
    seed: int = 0,
) -> Measurement:
    """A measurement of these points, by their true latency over that of ASKED.

    `tau` is what a ratio differs by from process to process, and `noise` that of a block, both as
    standard deviations of the log. The rounding rules are as fast as ASKED.
    """
    rng = np.random.default_rng(seed)
    rules = dict.fromkeys((round_up(ASKED, rule) for rule in RULES), 1.0)
    ratios = {k: v for k, v in {**rules, **over_asked}.items() if k != ASKED}
    truth = np.log([1.0, control, *ratios.values()])
    shape = (processes, 1, len(truth))
    logs = truth + tau * rng.standard_normal(shape)
    logs = logs + noise * rng.standard_normal((processes, BLOCKS, len(truth)))
    # Blocks hold ratios to the queried point, which is 1 over itself.
    logs[:, :, 0] = 0.0
    return Measurement(
        points=(ASKED, ASKED, *ratios),
        logs=tuple(tuple(tuple(map(float, block)) for block in each) for each in logs),
        latency_s=1e-4,
        spread=0.03,
    )


def reply(answer: Dims = ASKED, **changes: Any) -> Reply:
    """A cold answer after a second; its claim is that the answer is as fast as asked, ± 1 %."""
    fields: dict[str, Any] = {
        "dims": ASKED,
        "wall_s": 1.0,
        "cold": True,
        "answer": answer,
        "claimed_speedup": 1.0,
        "claimed_interval": (0.99, 1.01),
        "settled": True,
        "margin": None,
        "slack": None,
        "measuring_s": 0.8,
        "children": 2,
        "platform": "p",
        "body": {},
    }
    return Reply(**fields | changes)


FAILURE = Failure(dims=ASKED, wall_s=9.0, reason="status 503")


def trial(
    *replies: Reply | Failure, measurement: Measurement | None = None, prefer: str = "fastest"
) -> Trial:
    """A trial of ASKED with these replies."""
    return Trial(dims=ASKED, prefer=prefer, replies=replies, measurement=measurement)


def outcome(**changes: Any) -> Outcome:
    """A settled race that says 0.5 %, and whose answer is 0.8 % slower than the planted rival."""
    fields: dict[str, Any] = {
        "seed": 0,
        "gain": 0.008,
        "moved": False,
        "over_best": 0.008,
        "settled": True,
        "margin": 0.005,
        "unseen_risk": 0.01,
        "seconds": 1.0,
    }
    return Outcome(**fields | changes)
