"""Answers and curves tell which kernels ran, once that is known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from profiler_service.answering import kernel_names
from profiler_service.answering.kernel_names import KnownKernels
from profiler_service.errors import StoreUnavailableError
from profiler_service.storage.store import Store
from profiler_service.wire import CurveDetail, LhpAnswer
from profiler_service.workload import Dims
from tests.api.conftest import Worker, ask, keep_curve
from tests.api.curves import square, stairs

pytestmark = pytest.mark.anyio

BY_EIGHT: dict[Dims, str] = {
    **{(d, 8): "brg" if d % 8 == 0 else "jit" for d in range(5, 26)},
    (5, 6): "jit",
}
WHY = "the kernel changes at multiples of 8 of out_features: 5,6 takes jit; 8,8 takes brg"


async def ask_until(client: httpx.AsyncClient, is_wanted: Callable[[LhpAnswer], bool]) -> LhpAnswer:
    """The first such answer. The service looks at its database about four times a second."""
    async with asyncio.timeout(20):
        while True:
            response = await ask(client)
            assert response.status_code == 200, response.text
            answer = LhpAnswer.model_validate_json(response.content)
            if is_wanted(answer):
                return answer
            await asyncio.sleep(0.02)


async def test_an_answer_tells_the_kernels_as_soon_as_they_are_kept(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    curve_id = keep_curve(worker.store, square(1, 48), stairs(8))
    # Until then it says nothing, however often it is asked.
    for _ in range(2):
        answer = LhpAnswer.model_validate_json((await ask(both_client)).content)
        assert (answer.lhp, answer.kernels, answer.why) == ([8, 8], [], "")
    worker.store.keep_kernel_names(curve_id, BY_EIGHT)
    answer = await ask_until(both_client, lambda each: bool(each.why))
    assert answer.why == WHY
    assert [(each.dims, each.kernel) for each in answer.kernels] == [
        ([5, 6], "jit"),
        ([8, 8], "brg"),
    ]
    assert answer.curve == curve_id


async def test_names_that_are_there_already_are_in_the_first_answer(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    curve_id = keep_curve(worker.store, square(1, 48), stairs(8))
    worker.store.keep_kernel_names(curve_id, BY_EIGHT)
    assert (await ask(both_client)).json()["why"] == WHY


async def test_a_measured_answer_tells_them_too(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    keep_curve(sqlite_worker.store, square(50, 54), stairs(8))  # registers the host
    asking = asyncio.create_task(ask(client, wait=20))
    sweep = await sqlite_worker.take(asking)
    curve_id = sqlite_worker.finish(sweep, stairs(8))
    sqlite_worker.store.keep_kernel_names(curve_id, BY_EIGHT)
    assert (await asking).status_code == 200
    answer = await ask_until(client, lambda each: bool(each.why))
    assert answer.curve == curve_id


async def test_without_names_nothing_is_said(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    sqlite_worker.store.keep_kernel_names(curve_id, {})
    answer = (await ask(client)).json()
    assert (answer["kernels"], answer["why"]) == ([], "")
    # Of one of both points alone, its kernel is told, and nothing is concluded.
    other = keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    sqlite_worker.store.keep_kernel_names(other, {(8, 8): "brg"})
    found = await ask_until(client, lambda each: bool(each.kernels))
    assert [each.kernel for each in found.kernels] == ["brg"]
    assert found.why == ""


async def test_a_curve_tells_its_kernels_and_then_has_another_etag(
    both_client: httpx.AsyncClient, worker: Worker
) -> None:
    curve_id = keep_curve(worker.store, square(1, 48), stairs(8))
    path = f"/curves/{curve_id}"
    before = await both_client.get(path)
    csv = await both_client.get(f"{path}?format=csv")
    assert CurveDetail.model_validate_json(before.content).kernels == []
    worker.store.keep_kernel_names(curve_id, {(5, 6): "jit", (8, 8): "brg", (7, 8): "jit"})
    sent = {"if-none-match": before.headers["etag"]}
    after = await both_client.get(path, headers=sent)
    assert after.status_code == 200
    curve = CurveDetail.model_validate_json(after.content)
    # The kernel of most points comes first.
    assert [(each.kernel, each.dims) for each in curve.kernels] == [
        ("jit", [[5, 6], [7, 8]]),
        ("brg", [[8, 8]]),
    ]
    again = await both_client.get(path, headers={"if-none-match": after.headers["etag"]})
    assert again.status_code == 304
    # A table has no place for them, and stays the same.
    assert (await both_client.get(f"{path}?format=csv")).headers["etag"] == csv.headers["etag"]


# In memory


def answer_from(curve_id: str, response: httpx.Response) -> LhpAnswer:
    return LhpAnswer.model_validate_json(response.content).model_copy(
        update={"curve": curve_id, "kernels": [], "why": ""}
    )


class CountingStore:
    """Counts how often names are read; reads them slowly, or not at all, if told so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.num_reads = 0
        self.error: Exception | None = None
        self.delay_s = 0.0

    def find_kernel_names(self, curve_ids: list[str]) -> dict[str, dict[Dims, str]]:
        self.num_reads += 1
        time.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        return self._store.find_kernel_names(curve_ids)


AXES = ("out_features", "in_features")


async def test_known_names_are_read_once(client: httpx.AsyncClient, sqlite_worker: Worker) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    sqlite_worker.store.keep_kernel_names(curve_id, BY_EIGHT)
    answer = answer_from(curve_id, await ask(client))
    store = CountingStore(sqlite_worker.store)
    known = KnownKernels(store)  # type: ignore[arg-type]
    for _ in range(3):
        assert (await known.complete(answer, AXES)).why == WHY
        await known.renew()
    assert store.num_reads == 1


async def test_a_curve_without_names_is_looked_for_again_when_the_store_has_changed(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    answer = answer_from(curve_id, await ask(client))
    store = CountingStore(sqlite_worker.store)
    known = KnownKernels(store)  # type: ignore[arg-type]
    for _ in range(3):
        assert (await known.complete(answer, AXES)).why == ""
    assert store.num_reads == 1
    await known.renew()
    sqlite_worker.store.keep_kernel_names(curve_id, BY_EIGHT)
    await known.renew()
    await known.renew()  # nothing is left to look for
    assert store.num_reads == 3
    assert (await known.complete(answer, AXES)).why == WHY
    known.clear()
    assert (await known.complete(answer, AXES)).why == WHY
    assert store.num_reads == 4


async def test_names_that_come_before_the_first_answer_are_in_it(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve_id = keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    answer = answer_from(curve_id, await ask(client))
    known = KnownKernels(sqlite_worker.store)
    await known.load_ahead(curve_id)
    sqlite_worker.store.keep_kernel_names(curve_id, BY_EIGHT)
    await known.renew()
    assert (await known.complete(answer, AXES)).why == WHY


async def test_only_so_many_curves_are_looked_for_again(
    client: httpx.AsyncClient, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_names, "MAX_AWAITED", 1)
    ids = [keep_curve(sqlite_worker.store, square(1, 48), stairs(8)) for _ in range(2)]
    response = await ask(client)
    known = KnownKernels(sqlite_worker.store)
    answers = [answer_from(curve_id, response) for curve_id in ids]
    for answer in answers:
        await known.complete(answer, AXES)
    for curve_id in ids:
        sqlite_worker.store.keep_kernel_names(curve_id, BY_EIGHT)
    await known.renew()
    assert [(await known.complete(answer, AXES)).why for answer in answers] == ["", WHY]


@pytest.mark.parametrize("error", [None, StoreUnavailableError("away")])
async def test_an_answer_doesn_t_wait_for_a_store_that_is_away(
    client: httpx.AsyncClient,
    sqlite_worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
) -> None:
    monkeypatch.setattr(kernel_names, "PATIENCE_S", 0.05)
    curve_id = keep_curve(sqlite_worker.store, square(1, 48), stairs(8))
    sqlite_worker.store.keep_kernel_names(curve_id, BY_EIGHT)
    answer = answer_from(curve_id, await ask(client))
    store = CountingStore(sqlite_worker.store)
    store.error, store.delay_s = error, 0.0 if error else 0.5
    known = KnownKernels(store)  # type: ignore[arg-type]
    assert await known.complete(answer, AXES) == answer
    store.error, store.delay_s = None, 0.0
    # What was slow goes on being read, and is there at a later answer.
    async with asyncio.timeout(20):
        while not (await known.complete(answer, AXES)).why:
            await asyncio.sleep(0.02)
