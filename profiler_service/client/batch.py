"""Asks many questions in few requests, and again those that must be measured first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import httpx

from profiler_service.client.errors import ContractError
from profiler_service.client.following import POLL_S
from profiler_service.client.problems import parse
from profiler_service.client.retries import Deadline
from profiler_service.client.transport import Call
from profiler_service.wire import (
    MAX_BATCH,
    BatchQuestion,
    LhpBatchAnswer,
    LhpBatchItem,
    LhpBatchRequest,
)


async def ask_batch(
    queries: Sequence[Mapping[str, str | int | float]],
    send: Callable[[Call], Awaitable[httpx.Response]],
    pause: Callable[[float], Awaitable[None]],
    deadline: Deadline,
    hold_s: float,
) -> list[LhpBatchItem]:
    """What each question gets, in their order.

    Each request may be held for `hold_s`. Questions that are open are asked again until the
    deadline.
    """
    items: dict[int, LhpBatchItem] = {}
    pending = list(range(len(queries)))
    while pending:
        for start in range(0, len(pending), MAX_BATCH):
            part = pending[start : start + MAX_BATCH]
            asked: list[BatchQuestion] = [dict(queries[number]) for number in part]
            body = LhpBatchRequest(asked)
            response = await send(Call(method="POST", path="/lhp/batch", body=body, hold_s=hold_s))
            answered = parse(LhpBatchAnswer, response).items
            if len(answered) != len(part):
                raise ContractError(
                    f"of {len(part)} questions the service answered {len(answered)}",
                    hint="report it to the service's operator",
                )
            items.update(zip(part, answered, strict=True))
        pending = [number for number in pending if items[number].is_open]
        if deadline.is_over:
            break
        if any(items[number].problem is not None for number in pending):
            await pause(min(POLL_S, deadline.left_s))
    return [items[number] for number in range(len(queries))]
