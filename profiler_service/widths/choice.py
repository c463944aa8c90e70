"""Chooses one width for each group, jointly: the least time within a budget, or the reverse.

Pure: scipy and numpy only. It gets tables of numbers, and knows neither models nor the service.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from profiler_service.errors import InvalidRequestError

F64 = npt.NDArray[np.float64]

SOLVER_S = 10.0
"""Longest time that the solver may take. It then gives the best choice that it has found."""
GAP = 1e-3
"""The choice found may be this share worse than the best one: far less than measuring resolves."""


class NoChoiceError(InvalidRequestError):
    """No choice of widths lies within the bounds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A number for each choice of one group, or of two groups; the total is the sum of tables."""

    groups: tuple[int, ...]
    """One or two different groups, by their position, ascending."""
    values: F64
    """One axis for each group, with a value for each of its candidates. Infinite: not allowed."""

    def __post_init__(self) -> None:
        if not (
            len(self.groups) in (1, 2)
            and tuple(sorted(set(self.groups))) == self.groups
            and self.values.ndim == len(self.groups)
            and not np.isnan(self.values).any()
        ):
            raise ValueError(f"no table of one or two groups: {self.groups} {self.values.shape}")

    def at(self, choice: Sequence[int]) -> float:
        """The table's number for this choice of a candidate for every group."""
        return float(self.values[tuple(choice[group] for group in self.groups)])


def total(tables: Sequence[Table], choice: Sequence[int]) -> float:
    """The sum of all tables for this choice of a candidate for every group."""
    return math.fsum(table.at(choice) for table in tables)


def choose(
    sizes: Sequence[int],
    cost: Sequence[Table],
    weight: Sequence[Table] = (),
    *,
    low: float = -math.inf,
    high: float = math.inf,
    unlike: Sequence[Sequence[int]] = (),
    differing: int = 1,
) -> tuple[int, ...]:
    """The candidate of each group, so that the sum of `cost` is least.

    Group number g has `sizes[g]` candidates. The sum of `weight` lies between `low` and `high`. The
    choice differs from each of `unlike` in at least `differing` groups.

    This is a multi-choice knapsack problem whose items come in pairs, too: the time of a layer
    depends on its input's width and on its output's. A variable for each pair of candidates makes
    it linear. HiGHS solves it (Huangfu and Hall, 2018).

    Raises NoChoiceError if no choice lies within the bounds.
    """
    problem = _Problem(sizes, [*cost, *weight])
    constraints = problem.ties()
    limits = LinearConstraint(problem.row(weight), low, high) if weight else None
    if limits is not None:
        constraints.append(limits)
    for each in unlike:
        marks = np.zeros(problem.num_variables)
        marks[[problem.first[group] + place for group, place in enumerate(each)]] = 1
        constraints.append(LinearConstraint(marks[None], -math.inf, len(sizes) - differing))
    objective = problem.row(cost)[0]
    scale = np.abs(objective).max(initial=0.0) or 1.0  # the solver's tolerances are absolute
    is_choice = np.arange(problem.num_variables) < sum(sizes)
    solved = milp(
        objective / scale,
        integrality=is_choice.astype(int),
        bounds=Bounds(np.zeros(problem.num_variables), problem.most()),
        constraints=constraints,
        options={"time_limit": SOLVER_S, "mip_rel_gap": GAP},
    )
    if solved.x is None:
        raise NoChoiceError(
            "no choice of widths lies within these bounds",
            hint="allow more parameters or more time, or look at a wider window of widths",
        )
    return tuple(
        int(np.argmax(solved.x[first : first + size]))
        for first, size in zip(problem.first, sizes, strict=True)
    )


class _Problem:
    """The variables of a choice: one for each candidate, and one for each pair in a table.

    A candidate's variable is 1 if it is chosen. That of a pair is 1 if both are; so much follows
    from `ties`, and it needs not be demanded that it is whole.
    """

    def __init__(self, sizes: Sequence[int], tables: Sequence[Table]) -> None:
        self._sizes = sizes
        self.first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
        """Position of each group's first variable."""
        pairs = sorted({table.groups for table in tables if len(table.groups) == 2})
        self._first_of_pair: dict[tuple[int, ...], int] = {}
        self.num_variables = int(sum(sizes))
        for pair in pairs:
            self._first_of_pair[pair] = self.num_variables
            self.num_variables += sizes[pair[0]] * sizes[pair[1]]
        self._forbidden = np.zeros(self.num_variables, dtype=np.bool_)
        for table in tables:
            self._forbidden[self._place(table)] |= np.isinf(table.values).ravel()

    def _place(self, table: Table) -> slice:
        if len(table.groups) == 1:
            first = int(self.first[table.groups[0]])
        else:
            first = self._first_of_pair[table.groups]
        return slice(first, first + table.values.size)

    def row(self, tables: Sequence[Table]) -> F64:
        """The factor of each variable in the sum of `tables` [1, variables]."""
        factors = np.zeros((1, self.num_variables))
        for table in tables:
            values = table.values.ravel()
            factors[0, self._place(table)] += np.where(np.isinf(values), 0.0, values)
        return factors

    def most(self) -> F64:
        """The largest value of each variable: 0 for what isn't allowed."""
        return np.where(self._forbidden, 0.0, 1.0)

    def ties(self) -> list[LinearConstraint]:
        """Each group has one candidate, and a pair's variables agree with both of its groups'."""
        rows: list[int] = []
        columns: list[int] = []
        factors: list[float] = []
        right: list[float] = []

        def add(variables: Sequence[int], minus: int | None, value: float) -> None:
            row = len(right)
            rows.extend([row] * len(variables))
            columns.extend(variables)
            factors.extend([1.0] * len(variables))
            if minus is not None:
                rows.append(row)
                columns.append(minus)
                factors.append(-1.0)
            right.append(value)

        for group, size in enumerate(self._sizes):
            first = int(self.first[group])
            add(range(first, first + size), None, 1.0)
        for (one, other), start in self._first_of_pair.items():
            shape = self._sizes[one], self._sizes[other]
            place = start + np.arange(shape[0] * shape[1]).reshape(shape)
            for number in range(self._sizes[one]):
                add(place[number].tolist(), int(self.first[one]) + number, 0.0)
            for number in range(self._sizes[other]):
                add(place[:, number].tolist(), int(self.first[other]) + number, 0.0)
        matrix = coo_array((factors, (rows, columns)), shape=(len(right), self.num_variables))
        return [LinearConstraint(matrix.tocsr(), right, right)]
