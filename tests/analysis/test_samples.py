"""Platforms and samples: keys that must not change, and values that must not enter."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from profiler_service.analysis.samples import OthersUse, Platform, Samples, TimingProtocol
from tests.synthetic import PLATFORM


def test_platform_keys() -> None:
    # Keys are in every database: a changed key orphans its curves.
    assert PLATFORM.key == "f118509eadadd8af"
    assert Platform.from_json(PLATFORM.to_json()) == PLATFORM
    for change in (
        {"device_model": "other"},
        {"threads": 2},
        {"libraries": (("mkl", "2024.2"),)},
        {"flags": (("tf32", "on"),)},
    ):
        assert dataclasses.replace(PLATFORM, **change).key != PLATFORM.key


def test_what_changed_between_two_platforms_is_told_field_by_field() -> None:
    before = dataclasses.replace(
        PLATFORM,
        threads=1,
        libraries=(("mkl", "2024.2"),),
        flags=(("MKL_CBWR", "AVX2"), ("isa", "avx2")),
    )
    after = dataclasses.replace(
        before,
        threads=3,
        libraries=(("mkl", "2025.0"),),
        flags=(("isa", "avx2"), ("microcode", "0x1")),
    )
    assert before.describe_change(before) == ()
    assert before.describe_change(after) == (
        "threads: 1 → 3",
        "mkl: 2024.2 → 2025.0",
        "MKL_CBWR: AVX2 → not recorded",
        "microcode: not recorded → 0x1",
    )


def test_protocol_key() -> None:
    assert TimingProtocol(timer="cuda_event", cache="flushed").key == "cuda_event-flushed-v1"


def samples(**changes: object) -> Samples:
    fields: dict[str, object] = {
        "point": np.array([0, 1], dtype=np.int32),
        "round": np.array([0, 0], dtype=np.int32),
        "time_s": np.array([0, 1], dtype=np.float32),
        "latency_s": np.array([1e-6, 2e-6]),
        "calls": 1,
        "unstable": np.array([False, False]),
    }
    return Samples(**{**fields, **changes})  # type: ignore[arg-type]


def test_samples_know_their_number() -> None:
    assert len(samples()) == 2


@pytest.mark.parametrize("bad", [[1e-6, float("nan")], [1e-6, 0.0], [1e-6, -1.0], [1e-6, np.inf]])
def test_no_default_in_place_of_a_latency(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite and positive"):
        samples(latency_s=np.array(bad))


def test_columns_have_one_length() -> None:
    with pytest.raises(ValueError, match="unequal length"):
        samples(latency_s=np.array([1e-6]))
    with pytest.raises(ValueError, match="unequal length"):
        samples(lost_s=np.zeros(3, dtype=np.float32))
    with pytest.raises(ValueError, match="unequal length"):
        samples(clock_hz=np.zeros(3, dtype=np.float32))


def part(
    points: list[int],
    *,
    seconds: float,
    failures: dict[int, str] | None = None,
    with_clock: bool = False,
) -> Samples:
    """A part whose samples were taken 0.1 s one after the other; point i took i + 1 s."""
    point = np.array(points, dtype=np.int32)
    return Samples(
        point=point,
        round=point // 2,
        time_s=(0.1 * np.arange(len(points))).astype(np.float32),
        latency_s=point + np.float64(1.0),
        calls=2,
        unstable=point == 1,
        lost_s=(point / 10).astype(np.float32),
        clock_hz=(point + 1e9).astype(np.float32) if with_clock else None,
        num_discarded=1,
        failures=failures or {},
        use=OthersUse(others_s=0.25, watched_s=1.0),
        seconds=seconds,
    )


def test_parts_of_a_batch_are_joined_as_if_it_had_been_measured_in_one_go() -> None:
    joined = Samples.join(
        [
            part([0, 1, 2], seconds=1.0),
            part([], seconds=0.5),
            part([3, 1], seconds=2.0, failures={2: "no memory"}),
        ]
    )
    # Point 2 failed in the last part: it has no sample of the first one either.
    assert joined.point.tolist() == [0, 1, 3, 1]
    assert joined.round.tolist() == [0, 0, 1, 0]
    assert joined.latency_s.tolist() == [1.0, 2.0, 4.0, 2.0]
    assert joined.unstable.tolist() == [False, True, False, True]
    assert joined.lost_s is not None
    assert joined.lost_s.tolist() == pytest.approx([0.0, 0.1, 0.3, 0.1])
    assert joined.clock_hz is None
    # The last part begins when 1.5 s have been measured.
    assert joined.time_s.tolist() == pytest.approx([0.0, 0.1, 1.5, 1.6])
    assert (joined.calls, joined.num_discarded, joined.seconds) == (2, 3, 3.5)
    assert joined.failures == {2: "no memory"}
    assert joined.use == OthersUse(others_s=0.75, watched_s=3.0)


def test_parts_of_a_gpu_s_batch_keep_their_clocks() -> None:
    parts = [part(points, seconds=1.0, with_clock=True) for points in ([64, 128], [], [64])]
    joined = Samples.join(parts)
    assert joined.clock_hz is not None
    assert joined.clock_hz.tolist() == [1e9 + 64, 1e9 + 128, 1e9 + 64]  # 32 bits: steps of 64


def test_a_batch_in_one_part_is_left_as_it_is() -> None:
    whole = part([0, 1], seconds=1.0)
    assert Samples.join([whole]) is whole
