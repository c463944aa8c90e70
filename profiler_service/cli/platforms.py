"""Says what an answer for several platforms holds on each, in plain words."""

from __future__ import annotations

from profiler_service.printable import printable
from profiler_service.wire import LhpAnswer, PlatformFigures
from profiler_service.wording import format_dims, format_seconds


def describe_platforms(answer: LhpAnswer) -> list[str]:
    """A line for each platform; none if the answer is for one platform."""
    if not answer.platforms:
        return []
    heading = f"the same on {len(answer.platforms)} platforms; above: the one that gains least"
    return [heading, *(printable(_describe(answer, each)) for each in answer.platforms)]


def _describe(answer: LhpAnswer, on: PlatformFigures) -> str:
    text = f"  {on.platform} ({on.host})  {format_seconds(on.lhp_latency_s)}"
    if answer.lhp != answer.dims:
        percent, low, high = (100 * (ratio - 1) for ratio in (on.speedup, *on.speedup_interval))
        text += (
            f" instead of {format_seconds(on.latency_s)}, {percent:+.1f} %"
            f" (95 % interval {low:+.1f} to {high:+.1f} %)"
        )
    if on.own_lhp != answer.lhp:
        own = 100 * (on.own_speedup - 1)
        text += f"; alone it would be {format_dims(on.own_lhp)}, {own:+.1f} %"
    return text + (" · stale" if on.stale else "")
