"""The table of the latency model's numbers."""

from __future__ import annotations

import dataclasses
import itertools
import re

from profiler_service.latency_model.settings import (
    MODEL,
    VERSION,
    CalibrationSettings,
    ModelSettings,
    describe_settings,
)
from profiler_service.plan.race.settings import RACE


def test_every_setting_is_described_with_its_value() -> None:
    text = describe_settings()
    for part in dataclasses.fields(MODEL):
        for each in dataclasses.fields(getattr(MODEL, part.name)):
            row = re.search(rf"^\| `{each.name}` \| (.+?) \|.*\| (.+) \|$", text, re.M)
            assert row is not None, each.name
            assert row[1]
            assert row[2] == each.metadata["sentence"]
            assert each.metadata["sentence"].endswith(".")


def test_pairs_of_numbers_are_written_in_words() -> None:
    text = describe_settings(
        ModelSettings(calibration=CalibrationSettings(withdrawn_at=((3, 20), (7, 90))))
    )
    assert "| `withdrawn_at` | 3 in 20, 7 in 90 |" in text
    assert "| `classes` | 2, 4, 8, 16, 32, 64, 128 |" in text


def test_the_prior_is_that_of_a_race() -> None:
    assert MODEL.basis.growth == RACE.prior.growth
    # A class has what multiples have in common, too: a race's prior has that apart.
    assert MODEL.basis.class_spread > RACE.prior.class_spread
    assert set(RACE.prior.classes) <= set(MODEL.basis.classes)


def test_classes_and_tiles_are_nested_powers_of_two() -> None:
    """The level of an alignment is the number of classes that divide a dim: only then it counts."""
    for sizes in (MODEL.basis.classes, MODEL.basis.growing_classes, MODEL.basis.tiles):
        assert all(later == 2 * earlier for earlier, later in itertools.pairwise(sizes))
    assert set(MODEL.basis.growing_classes) <= set(MODEL.basis.classes)


def test_the_version_is_a_name_and_tells_features_apart() -> None:
    assert re.fullmatch(r"2-[0-9a-f]{8}", VERSION)
