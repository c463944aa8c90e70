"""Names the kernels of a curve's points, once the curve is kept and nobody waits for it any more.

Knows neither how kernels are found nor what their names say.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Final

import numpy as np

from profiler_service.analysis.curve import LatencyCurve
from profiler_service.errors import LhpError, StoreError
from profiler_service.plan.modes import MODES, Mode
from profiler_service.plan.named_points import choose_named_points
from profiler_service.processes.batch_measurer import BatchMeasurer
from profiler_service.storage.store import Store
from profiler_service.workload import Dims

logger = logging.getLogger(__name__)

NAMING_S: Final = 0.3
"""How long the kernels of one curve may be looked for. Points whose call takes longer are left
alone."""


class KernelNaming:
    """Keeps the names of kernels with the curves of one host. Only one thread may use it at a time.

    It does nothing while a question waits. Curves that had no turn have theirs when the host is
    idle, the newest first, and so have those from before the worker started.
    """

    def __init__(self, store: Store, host: str, measurer: BatchMeasurer) -> None:
        self._store = store
        self._host = host
        self._measurer = measurer
        self._may_be_left = True
        """Whether there may be a curve without names."""

    def name(self, curve_id: str, curve: LatencyCurve, *, mode: Mode) -> bool:
        """Whether names were looked for, and kept. Otherwise the curve's turn comes later.

        Whatever goes wrong is logged: the curve and its answer stay as they are.
        """
        try:
            names = None if self._is_waited_for() else self._find_names(curve, mode)
            if names is not None:
                return self._store.keep_kernel_names(curve_id, names)
        except StoreError as error:
            logger.warning("the kernels of curve %s aren't kept: %s", curve_id, error)
        self._may_be_left = True
        return False

    def consider(self) -> bool:
        """Whether a curve without names was found, and its kernels looked for.

        Call it at intervals, when nothing is measured. Raises StoreError.
        """
        if not self._may_be_left or self._is_waited_for():
            return False
        platform, protocol = self._measurer.platform, self._measurer.protocol
        curve_id = self._store.find_unnamed_curve(self._host, platform.key, protocol.key)
        self._may_be_left = curve_id is not None
        if curve_id is None:
            return False
        mode = self._store.get_curve_header(curve_id).mode
        names: dict[Dims, str] | None = {}
        try:
            curve = self._store.load_curve(curve_id)
        except ValueError as error:  # its bytes are damaged
            logger.warning("the kernels of curve %s can't be named: %s", curve_id, error)
        else:
            # A new process takes seconds to compile for the first time.
            if dict(curve.workload.params).get("backend") != "compiled":
                names = self._find_names(curve, mode)
        return names is not None and self._store.keep_kernel_names(curve_id, names)

    def _is_waited_for(self) -> bool:
        return any(sweep.is_awaited for sweep in self._store.list_open(self._host))

    def _find_names(self, curve: LatencyCurve, mode: Mode) -> dict[Dims, str] | None:
        """The names, as far as they can be had; None if they should be looked for later.

        A question came in between, or nothing that measures is running.
        """
        measured = np.flatnonzero(curve.num_samples)
        if not len(measured):
            return {}
        middle = int(measured[len(measured) // 2])
        ends = (
            (0, max(int(curve.answers.target[0]), 0)) if MODES[mode].is_race else (middle, middle)
        )
        if not (curve.latency_s[list(ends)] < NAMING_S).all():  # NaN, too
            return {}
        asked, answer = map(curve.grid.dims, ends)
        was_stopped = False

        def must_stop() -> bool:
            nonlocal was_stopped
            # While the store is away, no question comes either.
            with contextlib.suppress(StoreError):
                was_stopped = was_stopped or self._is_waited_for()
            return was_stopped

        try:
            names = self._measurer.name_kernels(
                curve.workload,
                choose_named_points(curve.grid, asked, answer),
                limit_s=NAMING_S,
                must_stop=must_stop,
            )
        except LhpError as error:  # a kind that isn't installed any more, for example
            logger.info("kernels can't be named: %s", error)
            return {}
        return None if was_stopped else names
