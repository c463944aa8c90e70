from __future__ import annotations

import os

from profiler_service.measurement.exchange import CAPACITY, NOWHERE, Block
from profiler_service.measurement.timer import Sample


def test_what_one_side_puts_into_the_block_the_other_side_sees() -> None:
    fd = Block.create_fd()
    child, parent = Block(fd), Block(fd)
    os.close(fd)
    last = CAPACITY - 1
    child.under_way = last
    child.put(
        last,
        Sample(
            started_s=5.0,
            latency_s=2e-4,
            num_discarded=3,
            unstable=True,
            lost_s=2.0**-20,
            clock_hz=2.0**30,
        ),
    )
    parent.stop = True

    assert parent.under_way == last
    assert parent.started_s[last] == 5.0
    assert parent.latency_s[last] == 2e-4
    assert parent.num_discarded[last] == 3
    assert parent.unstable[last]
    assert parent.lost_s[last] == 2.0**-20
    assert parent.clock_hz[last] == 2.0**30
    assert not parent.latency_s[:last].any()
    assert child.stop

    parent.clear()
    assert child.under_way == NOWHERE
    assert not child.latency_s.any()
    assert child.stop  # a request to stop outlives the order that it met
