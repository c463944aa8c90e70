"""The measurer that tests of a real child share: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from profiler_service.kinds import workload_kinds
from profiler_service.measurement.measurer import Measurer
from tests.measurement.builders import KINDS


@pytest.fixture(scope="package")
def measurer() -> Iterator[Measurer]:
    with Measurer(device="cpu", kinds={**workload_kinds(), **KINDS}) as measurer:
        yield measurer
