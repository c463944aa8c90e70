"""A sweep that this process measures: what the runner knows of it between two batches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.analysis.evidence import DISTURBED_SHARE
from profiler_service.analysis.samples import OthersUse, Samples
from profiler_service.plan.base import Batch, Part, Planner
from profiler_service.plan.spec import Progress


@dataclass(kw_only=True)
class RunningSweep:
    """A sweep that this process measures, and its planner, which has seen every kept batch."""

    id: str
    planner: Planner
    num_batches: int = 0
    num_samples: int = 0
    first_failure: str = ""
    use: OthersUse = field(default_factory=OthersUse)
    """What others used of the measured device so far."""
    waited_s: float = 0.0
    """How long it has waited for others who use the GPU."""
    gpu_others_share: float | None = None
    """Share of the GPU's time that others used when it was looked at last."""
    next_look_s: float = 0.0
    """When to look again, by the monotonic clock."""
    parts: list[Samples] = field(default_factory=list)
    """What was measured of the batch that was broken off last. If this process ends, it is lost."""
    rest: Batch | None = None
    """What is left of that batch."""

    def next_batch(self) -> Batch | None:
        """The planner's next batch, or the rest of one that was broken off."""
        return self.rest or self.planner.next_batch()

    def take(self, part: Part) -> Samples | None:
        """The samples of the whole batch, if this was the last part of it."""
        self.parts.append(part.samples)
        self.rest = part.rest
        if self.rest is not None:
            return None
        samples, self.parts = Samples.join(self.parts), []
        return samples

    def record(self, samples: Samples) -> None:
        """Takes the samples of the batch given last, measured or kept earlier."""
        self.planner.record(samples)
        self.num_batches += 1
        self.num_samples += len(samples)
        if samples.failures and not self.first_failure:
            self.first_failure = next(iter(samples.failures.values()))

    def watch(self, samples: Samples) -> None:
        """Counts what others used while these samples were taken, as far as it is known."""
        share = self.gpu_others_share
        if share is not None:
            seconds = samples.seconds
            self.use += OthersUse(others_s=share * seconds, watched_s=seconds)
        self.use += samples.use

    def progress(self) -> Progress:
        """The planner's progress, with what others used so far."""
        return replace(
            self.planner.progress(), others_s=self.use.others_s, watched_s=self.use.watched_s
        )

    def label(self, curve: LatencyCurve) -> LatencyCurve:
        """The curve, with what others used while it was measured."""
        share = self.use.share
        if share is None:
            return curve
        share = round(share, 4)
        evidence = replace(curve.evidence, others_share=share, disturbed=share > DISTURBED_SHARE)
        return replace(curve, evidence=evidence)
