"""The confirmation: compares one rival with the queried point, on samples that chose nothing.

numpy only: gets paired log ratios. The caller keeps the time limits. Derivation:
docs/explanation/races.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from profiler_service.analysis.comparison import CONFIDENCE, F64, Comparison, Verdict, compare
from profiler_service.analysis.samples import Samples
from profiler_service.plan.race.settings import ConfirmSettings
from profiler_service.plan.race.stages import End

_ENDS: dict[Verdict, End] = {
    "faster": End.FASTER,
    "slower": End.SLOWER,
    "ambiguous": End.UNDECIDED,
}


@dataclass(frozen=True, kw_only=True)
class LookPlan:
    """When a verdict is allowed, for how many rivals, and at which confidence."""

    looks: tuple[int, ...]
    """Numbers of pairs after which to look, ascending."""
    attempts: int
    """How many rivals may be tried."""

    @property
    def confidence(self) -> float:
        """The confidence of one look's interval: all looks of all attempts share the allowed error.

        (Bonferroni.)
        """
        return 1 - (1 - CONFIDENCE) / (self.attempts * len(self.looks))


def plan_looks(settings: ConfirmSettings, affordable: int, pair_s: float) -> LookPlan:
    """The looks for which there is time: for `affordable` pairs, each of which takes `pair_s`.

    If not even the first look fits, there is one look at all affordable pairs.
    """
    fewest = settings.least_look_s / pair_s
    looks = tuple(n for n in settings.looks if fewest <= n <= affordable) or (affordable,)
    attempts = min(max(affordable // looks[0], 1), settings.attempts)
    return LookPlan(looks=looks, attempts=attempts)


class Confirmation:
    """The comparison of one rival with the queried point, judged at each look.

    `pairs_to_look` says how many pairs it needs. `update` takes them, and returns the reason when
    the confirmation is over. The comparison so far can be read at any time.
    """

    def __init__(
        self,
        settings: ConfirmSettings,
        plan: LookPlan,
        *,
        noise: float,
        least_gain: float | None = None,
    ) -> None:
        """`noise` is that of one call, before the confirmation.

        `least_gain` is the share by which the rival must surely be faster. None: the host decides
        (`find_least_gain`).
        """
        self._settings = settings
        self._plan = plan
        self._noise = noise
        self._least_gain = least_gain
        self._log_ratios: list[F64] = []
        self._unstable: list[npt.NDArray[np.bool_]] = []
        self._num_pairs = 0
        self._next_look = 0
        self.comparison: Comparison | None = None

    @property
    def pairs_to_look(self) -> int:
        """How many pairs are missing until the next look."""
        return self._plan.looks[self._next_look] - self._num_pairs

    @property
    def has_begun(self) -> bool:
        """Whether any pair has been visited."""
        return self._num_pairs > 0

    def update(
        self, log_ratios: F64, unstable: npt.NDArray[np.bool_], num_pairs: int
    ) -> End | None:
        """Takes the samples of `num_pairs` pairs of visits; why the confirmation is over, or None.

        `log_ratios` are log(latency of the rival / of the queried point) of the pairs of which
        both have a sample; `unstable` [samples] marks samples that something disturbed.
        """
        self._log_ratios.append(log_ratios)
        self._unstable.append(unstable)
        self._num_pairs += num_pairs
        if self.pairs_to_look > 0:
            return None
        ratios = np.concatenate(self._log_ratios)
        if not len(ratios):
            return End.NOTHING_SEEN
        self._next_look += 1
        self.comparison = self._compare(ratios)
        if self.comparison.verdict != "ambiguous":
            return _ENDS[self.comparison.verdict]
        if self.comparison.low > 1 - self._settings.worthwhile:
            return End.NO_GAIN
        return End.UNDECIDED if self._next_look == len(self._plan.looks) else None

    def _compare(self, log_ratios: F64) -> Comparison:
        comparison = compare(log_ratios, self._plan.confidence)
        least_gain = self._least_gain
        if least_gain is None:
            least_gain = find_least_gain(self._settings, self._noise, log_ratios, self._unstable)
        if comparison.verdict == "faster" and comparison.high >= 1 - least_gain:
            return replace(comparison, verdict="ambiguous")
        return comparison


def find_least_gain(
    settings: ConfirmSettings,
    noise: float,
    log_ratios: F64,
    unstable: Sequence[npt.NDArray[np.bool_]],
) -> float:
    """The share by which a rival must surely be faster: 0, or more on a disturbed host.

    A neighbour slows down some points more than others. When it is gone, small gains may be gone,
    too. A host is disturbed if it was noisy during narrowing (`noise`), or if it is now: the pairs
    spread widely (each has the noise of two samples), or many samples are unstable.
    """
    spread = 1.48 * np.median(np.abs(log_ratios - np.median(log_ratios))) / np.sqrt(2)
    is_disturbed = (
        max(noise, spread) > settings.disturbed_noise
        or np.mean(np.concatenate(unstable)) > settings.most_unstable
    )
    return settings.worthwhile if is_disturbed else 0.0


def pair_log_ratios(samples: Samples, rival: int, reference: int) -> F64:
    """log(latency of the rival / of the reference) of each round that has both."""
    log = np.log(samples.latency_s)
    mine, yours = samples.point == reference, samples.point == rival
    rounds = np.intersect1d(samples.round[mine], samples.round[yours])
    own = dict(zip(samples.round[mine].tolist(), log[mine].tolist(), strict=True))
    other = dict(zip(samples.round[yours].tolist(), log[yours].tolist(), strict=True))
    return np.array([other[r] - own[r] for r in rounds.tolist()])
