"""Keys of platforms stay as they are stored, and what a release adds to them is known."""

from __future__ import annotations

import os

from profiler_service.analysis.samples import Platform
from profiler_service.measurement.kernel_variables import kernel_variables
from profiler_service.measurement.measurer import Measurer

FLAGS = {
    "float32_matmul_precision": "highest",
    "flush_denormal": "true",
    "isa": "avx2 fma",
    "smt_siblings": "0",
    "threads_per_core": "1",
    "torch_isa": "AVX2",
}
STORED: dict[str, object] = {
    "device": "cpu",
    "device_model": "AMD EPYC (cpu family 25, model 1, stepping 1)",
    "memory_bytes": 24696061952,
    "driver": "Linux 6.8.0-45-generic",
    "framework": "torch 2.13.0+cpu",
    "libraries": [
        ["blas", "mkl"],
        ["mkl", "2024.2-Product"],
        ["onednn", "3.12.0"],
        ["openmp", "201511"],
    ],
    "threads": 1,
    "cpus": 1,
    "flags": [list(pair) for pair in FLAGS.items()],
}
"""A platform as it was kept on 29 November 2026, before microcode and huge pages were recorded."""
ADDED = {"microcode", "transparent_hugepages"}
"""What later releases have added that always has a value. Each is named in the change log."""
UNUSUAL = {"cores", "hugepage_sizes", "allocator"}
"""Flags of machines that have something unusual."""


def test_a_stored_platform_keeps_its_key() -> None:
    assert Platform.from_json(STORED).key == "aca3169727b09d4a"


def test_a_machine_with_nothing_special_has_no_flags_but_those_in_the_change_log(
    measurer: Measurer,
) -> None:
    known = set(FLAGS) | ADDED | UNUSUAL
    special = set(kernel_variables(os.environ))
    assert set(dict(measurer.platform.flags)) - special <= known
