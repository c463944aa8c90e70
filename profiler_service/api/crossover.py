"""GET /crossover: from which sparsity on does a sparse product beat the dense ones?"""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from profiler_service.answering.known import Conditions
from profiler_service.answering.on_demand import unanswered
from profiler_service.api.dependencies import PartsDep
from profiler_service.api.lhp import (
    ACCEPTED,
    QUESTION_PROBLEMS,
    accepted,
    choose_host,
    choose_wait_s,
    find_conditions,
    parse_query,
    query_parameters,
)
from profiler_service.errors import UnsupportedOnHostError
from profiler_service.kinds import LINEAR
from profiler_service.kinds.kernels import ALL_KERNELS, kernel_workload
from profiler_service.plan.spec import SweepSpec
from profiler_service.wire import CrossoverAnswer, CrossoverQuery
from profiler_service.workload import parse_dims

router = APIRouter(tags=["query"])


@router.get(
    "/crossover",
    response_model=CrossoverAnswer,
    summary="From which sparsity on is a sparse product faster?",
    response_description="The answer, from measured latencies.",
    responses={202: ACCEPTED, **QUESTION_PROBLEMS},
    openapi_extra={"parameters": query_parameters(CrossoverQuery)},
)
async def get_crossover(request: Request, parts: PartsDep) -> CrossoverAnswer | Response:
    """Compares `csr`, at whole percentages of zeros, with every dense backend of `linear`.

    All of them meet in the same rounds, so that whatever disturbs the host disturbs them alike.
    What isn't stored is measured on the host asked, equal requests sharing one measurement; the
    call waits for it up to `wait` seconds, then returns 202. An answer is about one layer on
    one platform, with its zeros at random places.
    """
    query = parse_query(request.query_params, CrossoverQuery)
    wait_s = choose_wait_s(query, parts)
    linear = LINEAR.describe({"batch": query.batch, "dtype": query.dtype})
    batch, dtype = linear.param("batch"), linear.param("dtype")
    dims = linear.check_dims(parse_dims(query.dims))
    workload = kernel_workload(dims, batch=batch, dtype=dtype)
    deadline_s = time.monotonic() + wait_s

    async def find(conditions: Conditions) -> CrossoverAnswer | None:
        header = await parts.book.find_kernels(workload, ALL_KERNELS, conditions)
        if header is None:
            return None
        return await parts.crossovers.find(header, stale=parts.book.snapshot.is_stale(header))

    conditions = await find_conditions(query.host, query.platform, parts)
    answer = None if conditions is None else await find(conditions)
    if answer is not None:
        return answer
    host = await choose_host(query.host, query.platform, parts, deadline_s)
    if dtype not in host.backends.get("csr", ()):
        raise UnsupportedOnHostError(
            f"host {host.name!r} has no sparse product of {dtype}",
            hint="choose another dtype, or another host",
            see="/hosts",
        )

    async def is_known() -> bool:
        return await find(Conditions.of(host)) is not None

    outcome = await parts.on_demand.measure(
        SweepSpec(workload=workload, mode="kernels", grid=ALL_KERNELS),
        host,
        query.platform or host.platform_key,
        is_known=is_known,
        wait_s=max(0.0, deadline_s - time.monotonic()),
    )
    if not outcome.has_ended:
        assert outcome.sweep is not None
        return accepted(outcome.sweep)
    answer = await find(Conditions.of(host))
    if answer is None:
        raise unanswered(outcome.sweep, f"the kernels at {query.dims}")
    return answer
