"""Would a model predict better if it knew which kernel runs at a point?

Of a service's database, the races of one kind whose kernels were named are learned from, one after
the other. Before each race of the last two thirds, its first visits are predicted: once by the
model as it is, once by one with an effect for each kernel besides, and once by the latter if it is
also told the names of the window itself. A point that wasn't named has a probability for each
kernel: named points vote, with more weight the nearer they are and the more alike the largest
powers of two are that divide the dims. The error is that of differences of neighbours in time, so
it contains their noise.

    python -m benchmarks.learned.kernels --database sqlite:////var/lib/lhp.sqlite --kind conv2d

Measures nothing. Prints the errors and their differences.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from benchmarks.answers.statistics import F64, student_95
from profiler_service.analysis.kernel_names import KernelNames
from profiler_service.latency_model.basis import Basis, Group
from profiler_service.latency_model.first_visits import FirstVisits, find_first_visits
from profiler_service.latency_model.fit import Fit, Spreads, fit
from profiler_service.latency_model.learn import learn
from profiler_service.latency_model.statistics import Statistics
from profiler_service.plan.spec import grid_from_json
from profiler_service.storage import rows
from profiler_service.storage.kernel_names import names_from_json
from profiler_service.storage.tables import batches, curves, kernel_names

REACH, UNLIKE, SAME, USUAL = 0.125, 1.5, 10.0, 0.02
"""A vote falls to 1 / e at so many octaves on an axis, and by so many e-folds with each power of
two. The same dim has so many votes; and every kernel has some everywhere."""
TABLES = 64
"""So many of the newest races have a vote."""
SPREAD = 0.1
"""Standard deviation of a kernel's effect at first, log latency. It is learned, as all are."""
TUNED_EVERY = 10
LARGEST = 0.15
"""Larger errors of one difference count as this: a disturbed visit isn't the model's fault."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedRace:
    """What a model learns from a race, and the kernels that were named in it."""

    visits: FirstVisits
    names: KernelNames


def read_races(database: str, kind: str, backend: str) -> list[NamedRace]:
    """The races of that kind and backend with names, the oldest first."""
    joined = curves.join(kernel_names, kernel_names.c.curve_id == curves.c.id)
    chosen = sa.select(curves.c.sweep_id, curves.c.grid, curves.c.params, kernel_names.c.names)
    found = []
    with sa.create_engine(database).connect() as connection:
        races = chosen.select_from(joined).where(curves.c.kind == kind, curves.c.mode == "race")
        for race in connection.execute(races.order_by(curves.c.id)).all():
            params = json.loads(race.params) if isinstance(race.params, str) else race.params
            if params.get("backend", "dense") != backend:
                continue
            own = sa.select(batches).where(batches.c.sweep_id == race.sweep_id)
            samples = [
                rows.samples_from_row(row)
                for row in connection.execute(own.order_by(batches.c.number))
            ]
            visits = find_first_visits(samples, grid_from_json(race.grid))
            found.append(NamedRace(visits=visits, names=names_from_json(race.names)))
    return found


class KernelBasis(Basis):
    """The features of a model, and one for each kernel: its probability at the point."""

    def __init__(
        self, num_axes: int, tables: Sequence[KernelNames], kernels: Sequence[str]
    ) -> None:
        """`tables` have the named points that vote; `kernels` are all names that may come."""
        super().__init__(num_axes)
        number = {name: n for n, name in enumerate(kernels)}
        named = {dims: number[name] for table in tables for dims, name in table.items()}
        self._dims = np.array(list(named), dtype=np.int64).reshape(-1, num_axes)
        self._kernel = np.array(list(named.values()), dtype=np.intp)
        self._count = len(kernels)
        group = Group(name="kernel", start=self.size, stop=self.size + self._count, spread=SPREAD)
        self.groups = (*self.groups, group)
        self.size += self._count
        self.mean = np.append(self.mean, np.zeros(self._count))

    def rows(self, points: npt.NDArray[np.integer]) -> F64:
        """As those of the model, with the kernels' columns behind."""
        return np.concatenate([super().rows(points), self._vote(points)], axis=1)

    def _vote(self, points: npt.NDArray[np.integer]) -> F64:
        """The probability of each kernel, [points, kernels]; 0 for all if nothing is named."""
        if not len(self._dims):
            return np.zeros((len(points), self._count))
        weight = np.ones((len(points), len(self._dims)))
        for axis in range(self.num_axes):
            mine, theirs = points[:, axis, np.newaxis], self._dims[:, axis]
            far = np.abs(np.log2(mine) - np.log2(theirs)) / REACH
            unlike = np.abs(_power_of_two(mine) - _power_of_two(theirs))
            weight *= np.where(mine == theirs, SAME, np.exp(-far - UNLIKE * unlike))
        usual = np.bincount(self._kernel, minlength=self._count) / len(self._kernel)
        votes = weight @ np.eye(self._count)[self._kernel] + USUAL * usual
        shares: F64 = votes / votes.sum(axis=1, keepdims=True)
        return shares


def _power_of_two(dims: npt.NDArray[np.integer]) -> F64:
    """The exponent of the largest power of two that divides each of the dims."""
    exponent: F64 = np.log2((dims & -dims).astype(np.float64))
    return exponent


MakeBasis = Callable[[int], Basis]
"""From the number of a race, the features with which it is predicted and learned from."""


def predict_in_turn(races: Sequence[NamedRace], make_basis: MakeBasis) -> F64:
    """The error of each race of the last two thirds, predicted by those before it: [races]."""
    statistics: Statistics | None = None
    spreads: Spreads | None = None
    errors = []
    for number, race in enumerate(races):
        basis = make_basis(number)
        if statistics is None:
            statistics = Statistics.empty(basis.size, basis.num_axes)
        known = fit(basis, statistics, spreads=spreads)
        if number >= len(races) // 3 and len(race.visits.near.first):
            errors.append(find_error(known, race.visits))
        found = learn(race.visits, known)
        if found.num_visits:
            statistics = statistics.followed_by(found)
        if number % TUNED_EVERY == TUNED_EVERY - 1:
            spreads = fit(basis, statistics, spreads=spreads).find_spreads()
    return np.array(errors)


def find_error(known: Fit, visits: FirstVisits) -> float:
    """The root of the mean square of what is wrong with differences of neighbours."""
    residual = visits.log_latency - known.basis.rows(visits.points) @ known.mean
    wrong = np.minimum(np.abs(visits.near.differ(residual)), LARGEST)
    return math.sqrt(float(np.mean(wrong**2)))


def compare(races: Sequence[NamedRace]) -> Mapping[str, F64]:
    """The errors of each way to predict, by its name: [races]."""
    num_axes = races[0].visits.points.shape[1]
    names = [race.names for race in races]
    kernels = sorted({name for table in names for name in table.values()})

    def voting(last: int) -> MakeBasis:
        """By the races before a race, and by that race itself if `last` is 1."""
        return lambda number: KernelBasis(
            num_axes, names[max(0, number - TABLES) : number + last], kernels
        )

    return {
        "as it is": predict_in_turn(races, lambda _: Basis(num_axes)),
        "with an effect for each kernel": predict_in_turn(races, voting(0)),
        "and told the names of the window": predict_in_turn(races, voting(1)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was found. Exit code 2 if the database has too few races with names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", required=True, help="URL of a service's database")
    parser.add_argument("--kind", default="conv2d")
    parser.add_argument("--backend", default="dense")
    options = parser.parse_args(arguments)
    races = read_races(options.database, options.kind, options.backend)
    if len(races) < 6:
        print(f"no verdict: {len(races)} races with names", file=sys.stderr)
        return 2
    found = compare(races)
    first, *_ = found.values()
    print(f"{options.kind} ({options.backend}): {len(races)} races, {len(first)} of them predicted")
    for name, errors in found.items():
        off = errors - first
        half = student_95(len(off) - 1) * float(off.std(ddof=1)) / math.sqrt(len(off))
        print(
            f"- {name}: error {100 * errors.mean():.3f} %,"
            f" {100 * off.mean():+.3f} ± {100 * half:.3f} % (95 %)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
