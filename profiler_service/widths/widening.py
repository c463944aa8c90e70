"""The best width of each group of sizes that change together, by the latencies of its layers.

Asks the service. Knows no torch, and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from profiler_service.client import ServiceClient
from profiler_service.widths.latencies import NotMeasured, fetch_latencies
from profiler_service.widths.structure import Number, Structure
from profiler_service.widths.tied import TiedGroup

F64 = npt.NDArray[np.float64]

WORTH = 0.01
"""A larger width is chosen if it saves this share of the layers' time. Less than that, layers
measured alone can't tell, and the least of several is too small by chance."""

JUDGING_SHARE = 0.3
"""Share of the time for new samples, which compare the choice with the width now."""


@dataclass(frozen=True, kw_only=True)
class Widened:
    """What is known of a group once its layers were measured."""

    tied: TiedGroup
    width: int
    """The width at or above the present one at which its layers take least time together."""
    now_s: float | None
    """Sum of the latencies of its layers now; None if one of them couldn't be measured."""
    chosen_s: float | None
    """... and at the chosen width."""
    missing: tuple[NotMeasured, ...]


def widen_each(
    client: ServiceClient,
    groups: Sequence[TiedGroup],
    *,
    time_s: float,
    host: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Widened]:
    """The width of each group, the others as they are, with which its layers take least time.

    About `time_s` seconds of measuring are shared by all layers; equal ones are measured once. The
    least of several noisy sums is too small by chance. So the layers are measured again at the
    width now and at the chosen one, and only these samples judge: the width now stays, unless the
    other one saves a share of at least WORTH. Raises the client's errors.
    """
    choosing_s = (1 - JUDGING_SHARE) * time_s
    sums, missing = _add_up(client, groups, time_s=choosing_s, host=host, say=say)
    bests = [
        None if total is None else tied.group.candidates[int(np.argmin(total))]
        for tied, total in zip(groups, sums, strict=True)
    ]
    judged = [
        _narrow(tied, best)
        for tied, best in zip(groups, bests, strict=True)
        if best is not None and best != tied.group.width
    ]
    again, missing_again = _add_up(
        client, judged, time_s=JUDGING_SHARE * time_s, host=host, say=say, fresh=True
    )
    of_name = dict(zip((tied.group.name for tied in judged), again, strict=True))
    found = []
    for tied, total, best in zip(groups, sums, bests, strict=True):
        names = {layer.name for layer in tied.layers}
        lost = tuple(each for each in (*missing, *missing_again) if names & set(each.names))
        width, now_s, chosen_s = tied.group.width, None, None
        if best is not None and total is not None:
            total = of_name.get(tied.group.name, total)
            if total is not None:
                now_s = chosen_s = float(total[0])
                if best != width and total[-1] <= (1 - WORTH) * total[0]:
                    width, chosen_s = best, float(total[-1])
        found.append(Widened(tied=tied, width=width, now_s=now_s, chosen_s=chosen_s, missing=lost))
    return found


def _narrow(tied: TiedGroup, width: int) -> TiedGroup:
    """The same with two candidates: the width now, which is the first one, and this one."""
    places = [0, tied.group.candidates.index(width)]
    layers = tuple(
        replace(
            layer,
            sizes={
                name: Number(now=number.now, changes={0: number.changes[0][places]})
                for name, number in layer.sizes.items()
            },
        )
        for layer in tied.layers
    )
    group = replace(tied.group, candidates=(tied.group.width, width))
    return replace(tied, group=group, layers=layers)


def _add_up(
    client: ServiceClient,
    groups: Sequence[TiedGroup],
    *,
    time_s: float,
    host: str | None,
    say: Callable[[str], None],
    fresh: bool = False,
) -> tuple[list[F64 | None], list[NotMeasured]]:
    """For each group, the sum of its layers' latencies at each candidate, seconds.

    None if one of its layers couldn't be measured at the width now, its first candidate.
    """
    if not groups:
        return [], []
    layers = [
        replace(
            layer,
            sizes={
                name: Number(now=number.now, changes={place: number.changes[0]})
                for name, number in layer.sizes.items()
            },
        )
        for place, tied in enumerate(groups)
        for layer in tied.layers
    ]
    structure = Structure(
        groups=tuple(tied.group for tied in groups),
        layers=tuple(layers),
        weights=(),
        left_out=(),
    )
    tables, missing = fetch_latencies(
        client, structure, time_s=time_s, host=host, say=say, fresh=fresh
    )
    sums: list[F64 | None] = []
    for place, tied in enumerate(groups):
        own = [table.values for table in tables if table.groups == (place,)]
        total: F64 = np.sum(own, axis=0) if own else np.full(len(tied.group.candidates), np.inf)
        is_whole = len(own) == len(tied.layers) and bool(np.isfinite(total[0]))
        sums.append(total if is_whole else None)
    return sums, missing
