from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from profiler_service.measurement.torch_settings import (
    SWITCHES,
    changed_switches,
    float32_precision,
)

MKLDNN: Any = torch.backends.mkldnn


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """torch's switches are as before afterwards."""
    precision = torch.get_float32_matmul_precision()
    mkldnn = MKLDNN
    flags = (mkldnn.enabled, mkldnn.deterministic, mkldnn.allow_tf32, mkldnn.fp32_precision)
    own_precision = mkldnn.matmul.fp32_precision
    engine = torch.backends.quantized.engine
    yield
    torch.backends.quantized.engine = engine
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision(precision)
    mkldnn.set_flags(*flags)
    mkldnn.matmul.fp32_precision = own_precision


def test_torch_as_it_comes_has_no_flag() -> None:
    assert changed_switches() == {}


def turn_mkldnn_off() -> None:
    MKLDNN.set_flags(_enabled=False)


def turn_benchmark_on() -> None:
    torch.backends.cudnn.benchmark = True


def quantise_by_onednn() -> None:
    torch.backends.quantized.engine = "onednn"


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        (
            lambda: torch.use_deterministic_algorithms(True),
            {"deterministic_algorithms": "true"},
        ),
        (turn_mkldnn_off, {"mkldnn_enabled": "false"}),
        (turn_benchmark_on, {"cudnn_benchmark": "true"}),
        (quantise_by_onednn, {"quantised_engine": "onednn"}),
    ],
)
def test_a_switch_that_was_changed_is_a_flag(
    change: Callable[[], None], flags: dict[str, str]
) -> None:
    change()
    assert changed_switches() == flags


def test_the_common_precision_is_told_by_its_own_flag_only() -> None:
    for precision in ("high", "medium", "highest"):
        torch.set_float32_matmul_precision(precision)
        assert changed_switches() == {}
        assert float32_precision() == precision


def test_a_precision_of_one_library_is_a_flag() -> None:
    MKLDNN.matmul.fp32_precision = "bf16"
    assert changed_switches() == {"mkldnn_fp32_precision": "bf16"}
    assert float32_precision() == "mixed"  # where torch itself raises


def test_every_switch_has_its_own_flag() -> None:
    flags = [switch.flag for switch in SWITCHES]
    assert len(set(flags)) == len(flags)
