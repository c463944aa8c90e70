"""What a change of platform changed: the same pairs of points, compared before and after.

Pure. Knows neither how pairs are measured nor where they are kept. Derivation:
docs/explanation/platform-changes.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from profiler_service.analysis.facts import Z95, ConfirmedPair
from profiler_service.analysis.setting_table import setting

Outcome = Literal["agrees", "changed", "unclear", "failed"]
"""Of one contrast. `failed`: it couldn't be measured."""
Verdict = Literal["agree", "differ", "unclear"]
"""Whether the two platforms agree."""


@dataclass(frozen=True, kw_only=True)
class PlatformChangeSettings:
    """How the platform before and the one after are compared."""

    num_contrasts: int = setting(30, "pairs", "So many confirmed pairs are measured again.")
    most_of_workload: int = setting(
        200, "pairs", "These are chosen among so many of the newest facts of each workload."
    )
    tolerance: float = setting(
        0.01,
        "share",
        "A pair has changed if its two ratios surely differ by more than this share. Hosts resolve"
        " half a percent at best.",
    )
    relevant: float = setting(
        0.03,
        "share",
        "A pair agrees if its two ratios surely differ by less than this share: the steps that are"
        " worth knowing are about as large.",
    )
    least_share: float = setting(
        0.75,
        "share",
        "The platforms agree if surely more than this share of all pairs agree, and differ if"
        " surely fewer do.",
    )
    pattern_share: float = setting(
        0.5,
        "share",
        "Multiples of a number no longer win if surely more than this share of the pairs about them"
        " that won before don't, and have changed. A pair wins if it is faster by more than"
        " `tolerance`.",
    )
    most_multiple: int = setting(128, "", "Larger powers of two count as multiples of this one.")


PLATFORM_CHANGE: Final = PlatformChangeSettings()


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A confirmed pair of the platform before, and what was found of it on the one after."""

    before: ConfirmedPair
    after: ConfirmedPair | None = None
    """None if it couldn't be measured."""

    @property
    def outcome(self) -> Outcome:
        """What became of it."""
        return "failed" if self.after is None else judge(self.before, self.after)


def judge(
    before: ConfirmedPair,
    after: ConfirmedPair,
    settings: PlatformChangeSettings = PLATFORM_CHANGE,
) -> Outcome:
    """Whether the ratio of one pair is the same on both platforms.

    Let d be the difference of the two log ratios. Both were measured by processes of their own, so
    its variance is s² = s₁² + s₂², from the widths of both intervals; these include what differs
    between processes. With 95 % certainty, the true difference lies in [d - 1.96 s, d + 1.96 s].

    - `changed`: all of it lies beyond ± `tolerance`. If the true difference is no larger than that,
      this is said with a probability of 2.5 % at most. If it is 0, with 2 (1 - Φ(1.96 + t / s)),
      where t = log(1 + tolerance): 0.02 % for intervals of ± 0.8 %, where s = 0.58 %.
    - `agrees`: all of it lies within ± `relevant` (two one-sided tests, with 97.5 % each). So
      intervals that are too wide agree with nothing.
    - `unclear`: neither. Where both would hold, the pair has changed.

    (Source: ours. Asking only whether the intervals overlap would let a noisy host agree with
    everything; asking whether the difference is 0 would call every twentieth pair changed that
    isn't, and in the end all pairs that are measured for long.)
    """
    difference = math.log(after.ratio / before.ratio)
    margin = Z95 * math.hypot(before.log_sd, after.log_sd)
    if abs(difference) - margin > math.log1p(settings.tolerance):
        return "changed"
    if abs(difference) + margin < math.log1p(settings.relevant):
        return "agrees"
    return "unclear"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many contrasts of two platforms agree."""

    num_agree: int = 0
    num_changed: int = 0
    num_unclear: int = 0
    """Measured, but with intervals too wide to say."""
    num_failed: int = 0
    """Couldn't be measured."""

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Agreement:
        """That of these contrasts."""
        return cls(
            num_agree=outcomes.count("agrees"),
            num_changed=outcomes.count("changed"),
            num_unclear=outcomes.count("unclear"),
            num_failed=outcomes.count("failed"),
        )

    @property
    def num_decided(self) -> int:
        """Those that agree or have changed."""
        return self.num_agree + self.num_changed

    @property
    def num_contrasts(self) -> int:
        """All."""
        return self.num_decided + self.num_unclear + self.num_failed

    @property
    def share(self) -> tuple[float, float]:
        """The exact 95 % interval on the share of such pairs that agree: see `bound_share`.

        Of those that are decided. Pairs that one kernel computes change together, so it holds for
        pairs that are spread over workloads and dims, as `choose_contrasts` spreads them.
        """
        return bound_share(self.num_agree, self.num_decided)

    @property
    def verdict(self) -> Verdict:
        """Whether the platforms agree: whether surely more than `least_share` of all pairs do.

        Of 30 pairs, 28 must agree: the interval on 28/30 is 78 to 99 %, that on 27/30 73 to 98 %.
        If all agree, 13 pairs are enough, as 0.025^(1/13) = 75.3 %.
        """
        low, high = self.share
        if low > PLATFORM_CHANGE.least_share:
            return "agree"
        return "differ" if high < PLATFORM_CHANGE.least_share else "unclear"


def bound_share(count: int, total: int) -> tuple[float, float]:
    """The exact 95 % interval on a share, from `count` of `total`; (0, 1) if `total` is 0.

    Its ends are the shares at which so many or more, and so few or fewer, have a probability of
    2.5 %. (Source: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404.)
    """
    low = 0.0 if count == 0 else _solve(lambda p: 1 - _binomial_cdf(count - 1, total, p), 0.025)
    high = 1.0 if count == total else _solve(lambda p: 1 - _binomial_cdf(count, total, p), 0.975)
    return low, high


def _binomial_cdf(count: int, total: int, share: float) -> float:
    """The probability of at most `count` of `total`."""
    return math.fsum(
        math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(count + 1)
    )


def _solve(rising: Callable[[float], float], value: float) -> float:
    """Where in [0, 1] the rising function has the value, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Multiples of a power of two that win on one of the platforms only."""

    multiple: int
    """That power of two."""
    wins_now: bool
    """Whether they win since the change; false if they did before."""


def find_multiple(
    pair: ConfirmedPair, settings: PlatformChangeSettings = PLATFORM_CHANGE
) -> int | None:
    """The largest power of two that the rival is a multiple of, on each axis on which it is larger.

    None if that is 1, or if the queried point is one there, too: then the pair says nothing of
    multiples. 1197,317 → 1200,320: 1200 is a multiple of 16 and 320 of 64, so it is 16.
    """
    grown = [(d, r) for d, r in zip(pair.dims, pair.rival, strict=True) if d != r]
    if not grown:
        return None
    multiple = min(settings.most_multiple, *(rival & -rival for _, rival in grown))
    if multiple == 1 or all(dim % multiple == 0 for dim, _ in grown):
        return None
    return multiple


def wins(pair: ConfirmedPair, settings: PlatformChangeSettings = PLATFORM_CHANGE) -> bool:
    """Whether the rival is faster, and by more than the `tolerance`."""
    return pair.verdict == "faster" and pair.ratio < 1 - settings.tolerance


def find_patterns(
    contrasts: Sequence[Contrast], settings: PlatformChangeSettings = PLATFORM_CHANGE
) -> tuple[Pattern, ...]:
    """Multiples of which power of two no longer win, and of which win only now; the smallest.

    Of the pairs about multiples of m that won before, surely more than `pattern_share` have changed
    and don't win now: the lower end of the exact interval lies above. All of 6 are enough, as
    0.025^(1/6) = 54 %. A multiple of 16 is one of 8, too. So that the former don't speak for the
    latter, nor these for those, most pairs must have turned whose largest power of two is m, and so
    for each larger one that there are pairs about. Pairs that win now are counted among those that
    didn't before. What couldn't be measured or told says nothing.
    """
    turned: dict[bool, dict[int, list[bool]]] = {False: {}, True: {}}
    for each in contrasts:
        multiple = find_multiple(each.before, settings)
        if multiple is None or each.after is None or each.outcome == "unclear":
            continue
        won, wins_now = wins(each.before, settings), wins(each.after, settings)
        has_turned = won != wins_now and each.outcome == "changed"
        turned[not won].setdefault(multiple, []).append(has_turned)
    found = []
    for wins_now, of_multiple in turned.items():
        smallest, so_far = None, list[bool]()
        for multiple in sorted(of_multiple, reverse=True):
            its = of_multiple[multiple]
            if 2 * sum(its) <= len(its):
                break
            so_far += its
            if bound_share(sum(so_far), len(so_far))[0] > settings.pattern_share:
                smallest = multiple
        if smallest is not None:
            found.append(Pattern(multiple=smallest, wins_now=wins_now))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A fact that may be measured again."""

    id: str
    workload_key: str
    pair: ConfirmedPair


def choose_contrasts(
    candidates: Sequence[Candidate], settings: PlatformChangeSettings = PLATFORM_CHANGE
) -> list[str]:
    """Ids of the facts to measure again, at most `num_contrasts`, the first one first.

    `candidates` come newest first. Of each pair, the newest fact counts. Workloads take turns, and
    within each, sizes do: dims of the same powers of two, [1024, 2048) × [256, 512). Of one size,
    pairs that were told apart come before others, which can't show that something no longer wins;
    newer ones come first.
    """
    newest: dict[Hashable, Candidate] = {}
    for each in candidates:
        newest.setdefault((each.workload_key, each.pair.dims, each.pair.rival), each)
    sizes: dict[str, dict[tuple[int, ...], list[Candidate]]] = {}
    for each in newest.values():
        size = tuple(dim.bit_length() for dim in each.pair.dims)
        sizes.setdefault(each.workload_key, {}).setdefault(size, []).append(each)
    by_workload = [
        _take_turns(
            [sorted(its, key=lambda one: one.pair.verdict == "ambiguous") for its in sized.values()]
        )
        for sized in sizes.values()
    ]
    chosen = itertools.islice(_take_turns(by_workload), settings.num_contrasts)
    return [each.id for each in chosen]


def _take_turns(queues: Sequence[Sequence[Candidate] | Iterator[Candidate]]) -> Iterator[Candidate]:
    """The first of each, then the second of each, and so on, until all are empty."""
    left = [iter(each) for each in queues]
    while left:
        still = []
        for each in left:
            found = next(each, None)
            if found is not None:
                still.append(each)
                yield found
        left = still
