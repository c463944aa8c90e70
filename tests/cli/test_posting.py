"""What the user's command sends of its own code fits a request, whatever the reasons are."""

from __future__ import annotations

import numpy as np
import pytest

from profiler_service.analysis.samples import Samples
from profiler_service.api.limits import MAX_BODY_BYTES
from profiler_service.cli.posting import make_batch
from profiler_service.plan.spec import Progress

PROGRESS = Progress(fraction=0.5, stage="round 1", num_samples=1, seconds=1.0)


def make_samples(num_samples: int, failures: dict[int, str]) -> Samples:
    """Samples whose numbers have as many digits as there can be."""
    rng = np.random.default_rng(3)
    return Samples(
        point=np.full(num_samples, 8191, dtype=np.int32),
        round=np.full(num_samples, 299, dtype=np.int32),
        time_s=rng.random(num_samples).astype(np.float32),
        latency_s=1e-5 * rng.random(num_samples) + 1e-5,
        unstable=np.zeros(num_samples, dtype=np.bool_),
        lost_s=(1e-7 * rng.random(num_samples)).astype(np.float32),
        calls=8,
        failures=failures,
        seconds=1.0,
    )


@pytest.mark.parametrize("num_failures", [1, 300, 2048, 8191])
def test_the_largest_batch_fits_a_request(num_failures: int) -> None:
    failures = dict.fromkeys(range(num_failures), "界" * 500)  # 1,500 bytes each
    batch = make_batch(7, make_samples(8192 - num_failures, failures), PROGRESS)
    assert len(batch.model_dump_json().encode()) < MAX_BODY_BYTES
    assert [each.point for each in batch.failures] == list(range(num_failures))
    assert all(set(each.reason) == {"界"} for each in batch.failures)


def test_a_reason_stays_as_it_is_if_there_is_room() -> None:
    reason = "ValueError: 12 is no multiple of the heads (my_models.py, line 7)"
    batch = make_batch(0, make_samples(2, {0: reason, 3: "x" * 501, 4: "\udcff"}), PROGRESS)
    assert [each.reason for each in batch.failures] == [reason, "x" * 500, "?"]
