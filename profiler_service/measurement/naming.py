"""The parent's side of naming kernels: gives a child points, and collects the names.

Never imports torch. Whatever goes wrong here costs names, and nothing else: a sweep has its answer
already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from profiler_service.measurement.child_process import ChildProcess
from profiler_service.measurement.exchange import KernelNamed, NameOrder

GRACE_S: Final = 10.0
"""How much longer than its time an order may take: the call under way isn't broken off, and with
thousands of printed lines it takes ten times as long as usual."""


def name_points(
    child: ChildProcess,
    order: NameOrder,
    *,
    must_stop: Callable[[], bool],
    must_end: Callable[[], str | None],
) -> Iterator[tuple[int, str]]:
    """Each name, with its place in the order, as soon as it is there.

    About four times a second it is asked whether to stop after the call under way, and `must_end`
    for a reason to kill the child. Raises ChildDiedError.
    """
    deadline_s = time.monotonic() + order.limit_s + GRACE_S

    def find_reason_to_end() -> str | None:
        if must_stop():
            child.block.stop = True
        if time.monotonic() > deadline_s:
            return f"naming kernels took longer than {order.limit_s + GRACE_S:g} s"
        return must_end()

    child.block.stop = False
    child.order(order)
    while isinstance(message := child.receive(find_reason_to_end), KernelNamed):
        yield message.place, message.name
    # Any other message ends the order: it is finished, or the builder is missing.
