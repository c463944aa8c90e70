"""What a training asks of its latency oracle. The oracles are in `http` and `recordings`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from profiler_service.errors import HostAwayError, LhpError
from profiler_service.wire import CrossoverAnswer
from trainer_client.oracle.answers import Effort, LatencyAnswer, Prefer


class ServiceAwayError(HostAwayError):
    """The service, its database or the measuring host is away or too busy.

    Its `__cause__` says which.
    """


@contextlib.contextmanager
def told_when_away() -> Iterator[None]:
    """In this context, an error that may be temporary becomes a ServiceAwayError."""
    try:
        yield
    except LhpError as error:
        if not error.is_transient:
            raise
        raise ServiceAwayError(str(error), hint=error.hint, see=error.see) from error


class LatencyOracle(Protocol):
    """Answers which larger dims cost no more."""

    def query(
        self,
        dims: Sequence[int],
        *,
        workload: str = "linear",
        params: Mapping[str, int | str] | None = None,
        prefer: Prefer = "fastest",
        effort: Effort = "quick",
        max_growth: float = 0.125,
        multiple_of: int | Sequence[int] | None = None,
        slack: float = 0.0,
    ) -> LatencyAnswer:
        """The answer for `dims`, in the order of the workload's axes.

        `params` are fixed parameters of the workload (`batch`, `dtype`, …); the others have their
        defaults. `max_growth` limits how far above `dims` the answer may lie. It is a share of each
        dimension; the limit is never below 32 and never above 1,024. `multiple_of` (one number for
        all axes, or one for each) limits the answer to multiples. With `prefer` `nearest` or
        `largest`, the answer may be slower by the share `slack` at most. Every error is an
        LhpError, and its `hint` says what to do.
        """

    def check(
        self, dims: Sequence[int], *, workload: str, params: Mapping[str, int | str] | None = None
    ) -> None:
        """Returns if questions about this workload can be answered now, up to `dims`.

        Raises as `query` does. So a long training finds out before it begins.
        """


class CrossoverOracle(Protocol):
    """Answers from which sparsity on sparse products are faster, as `HttpLatencyOracle` does."""

    def get_crossover(
        self, dims: Sequence[int], *, batch: int = 16, dtype: str = "float32"
    ) -> CrossoverAnswer:
        """The crossover of a layer (out_features, in_features) for inputs of `batch` rows."""

    def check(
        self, dims: Sequence[int], *, workload: str, params: Mapping[str, int | str] | None = None
    ) -> None:
        """As that of a LatencyOracle."""
