"""Platforms and samples: keys that must not change, and values that must not enter."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from profiler_service.analysis.samples import Platform, Samples, TimingProtocol
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
