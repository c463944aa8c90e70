"""What the terminal says of an answer for several platforms."""

from __future__ import annotations

from profiler_service.cli.platforms import describe_platforms
from profiler_service.wire import PlatformFigures
from tests.cli.stub import ANSWER, NOW

FIGURES = PlatformFigures(
    platform="5f37aec4ee4486fa",
    host="gpu-a",
    latency_s=2e-3,
    lhp_latency_s=1.6e-3,
    speedup=1.25,
    speedup_interval=(1.2, 1.3),
    verdict="faster",
    margin=0.01,
    facts=[],
    curve="0" * 32,
    measured_at=NOW,
    stale=False,
    own_lhp=ANSWER.lhp,
    own_speedup=1.25,
)


def test_each_platform_has_a_line_with_its_figures_and_what_it_would_prefer() -> None:
    other = FIGURES.model_copy(
        update={"host": "gpu-b", "own_lhp": [1280, 320], "own_speedup": 1.4, "stale": True}
    )
    answer = ANSWER.model_copy(update={"platforms": [FIGURES, other]})
    figures = "1.60 ms instead of 2.00 ms, +25.0 % (95 % interval +20.0 to +30.0 %)"
    assert describe_platforms(answer)[1:] == [
        f"  5f37aec4ee4486fa (gpu-a)  {figures}",
        f"  5f37aec4ee4486fa (gpu-b)  {figures}; alone it would be 1280,320, +40.0 % · stale",
    ]
    assert describe_platforms(ANSWER) == []
