"""The contest: who meets, who leaves, and when it ends."""

from __future__ import annotations

import numpy as np

from profiler_service.plan.create import create_planner
from profiler_service.plan.race.planner import RacePlanner
from tests.plan.asking import spec_above
from tests.synthetic import SyntheticDevice


def test_a_play_off_goes_on_until_one_is_ahead_or_time_is_up() -> None:
    """Two points 0.3 % apart, and all others far behind, meet in more rounds than planned."""
    spec = spec_above((100,), "race")
    truth = np.full(33, 1.3e-4)
    truth[[12, 20]] = 1e-4, 1.003e-4
    device = SyntheticDevice(truth, noise=0.02, spikes=0, drift=0)
    planner = create_planner(spec)
    assert isinstance(planner, RacePlanner)
    device.run(planner)
    contests = [stage for stage in planner.stages if stage.name == "contest"]
    assert len(contests) > len(RacePlanner.CONTEST)
    last = contests[-1]
    assert last.kept[0] == 12
