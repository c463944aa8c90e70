"""Names and ids in requests: what doesn't exist is said, and ids may be shortened."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from profiler_service.answering.shortened import cursor_above
from profiler_service.workload import Workload
from tests.api.conftest import HOST, Worker, ask, check_problem, keep_curve
from tests.api.curves import PLATFORM, PROTOCOL, square, stairs

pytestmark = pytest.mark.anyio


def hint_of(response: httpx.Response) -> str:
    return str(response.json()["hint"])


@pytest.mark.parametrize(
    ("query", "kind", "hint"),
    [
        ("workload=liner", "unknown-workload", "did you mean 'linear'? choose one of: "),
        ("workload=nope", "unknown-workload", "choose one of: "),
        ("host=heer", "unknown-host", "did you mean 'here'? "),
        ("platform=0123456789abcdef", "unknown-platform", "ask for one "),
        ("platform=nope", "unknown-platform", "ask for one "),
    ],
)
async def test_a_filter_that_names_nothing_is_a_404(
    client: httpx.AsyncClient, query: str, kind: str, hint: str
) -> None:
    response = await client.get(f"/curves?{query}")
    check_problem(response, 404)
    assert response.json()["type"] == f"/problems/{kind}"
    assert hint_of(response).startswith(hint)


async def test_a_filter_that_names_something_without_curves_is_an_empty_page(
    client: httpx.AsyncClient,
) -> None:
    for query in ("workload=matmul", f"host={HOST}", f"platform={PLATFORM.key}"):
        response = await client.get(f"/curves?{query}")
        assert (response.status_code, response.json()["items"]) == (200, [])


async def test_curves_of_a_kind_that_isnt_installed_any_more_are_listed(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    gone = Workload(kind="gone", params=(), axes=("rows", "columns"))
    curve = keep_curve(sqlite_worker.store, square(3, 4), stairs(4), workload=gone)
    listed = (await client.get("/curves?workload=gone")).json()["items"]
    assert [each["id"] for each in listed] == [curve]
    # It exists, though nothing of it is behind this cursor, or on this host.
    sqlite_worker.store.register_host("other", PLATFORM, protocol=PROTOCOL, dtypes=["float32"])
    for more in (f"cursor={curve}", "host=other"):
        response = await client.get(f"/curves?workload=gone&{more}")
        assert (response.status_code, response.json()["items"]) == (200, [])


async def test_sweeps_of_a_host_that_doesnt_exist_are_a_404(client: httpx.AsyncClient) -> None:
    check_problem(await client.get("/sweeps?host=heer"), 404, "did you mean 'here'? ")
    assert (await client.get(f"/sweeps?host={HOST}")).json()["items"] == []
    check_problem(await client.get("/hosts/heer"), 404, "did you mean 'here'? ")


@pytest.mark.parametrize(
    ("parameters", "meant"),
    [
        ({"workload": "liner"}, "linear"),
        ({"dtype": "bf16"}, "bfloat16"),
        ({"dtype": "half"}, "float16"),
        ({"backend": "pakced"}, "packed"),
        ({"dtpye": "float32"}, "dtype"),
        ({"batchsize": "8"}, "batch"),
        ({"max_grwoth": "0.5"}, "max_growth"),
        ({"platfrom": "f00d"}, "platform"),
        ({"prefer": "fastets"}, "fastest"),
        ({"effort": "thorogh"}, "thorough"),
        ({"host": "heer"}, "here"),
    ],
)
async def test_a_question_with_a_slip_is_told_what_was_meant(
    client: httpx.AsyncClient, parameters: dict[str, str], meant: str
) -> None:
    response = await ask(client, **parameters)
    assert response.status_code in (404, 422)
    assert f"did you mean {meant!r}? " in hint_of(response)


async def test_other_slips_are_told_what_was_meant(client: httpx.AsyncClient) -> None:
    for address, meant in (
        ("/curves?worklaod=linear", "workload"),
        ("/crossover?dims=8,8&dtpye=float32", "dtype"),
        ("/sweeps?state=runing", "running"),
        ("/sweeps?mode=rcae", "race"),
        ("/problems/host-awya", "host-away"),
        ("/workloads/liner", "linear"),
    ):
        assert f"did you mean {meant!r}? " in hint_of(await client.get(address))


async def test_dims_that_are_one_number_are_told_so(client: httpx.AsyncClient) -> None:
    response = await ask(client, dims="1,024")
    check_problem(response, 422, "write the number as 1024, or the dims as 1,24")
    response = await ask(client, dims="1,197", workload="matmul")
    check_problem(response, 422, "without a thousands separator")
    check_problem(await ask(client, dims="5,6,7"), 422, "give 2: out_features,in_features")
    assert "thousands" not in hint_of(await ask(client, dims="5,6,7"))


async def test_ids_can_be_shortened(both_client: httpx.AsyncClient, worker: Worker) -> None:
    client = both_client
    # The window of 3,3 reaches 32 further.
    curve = keep_curve(worker.store, square(3, 35), stairs(4))
    sweep = (await client.get(f"/curves/{curve}")).json()["sweep"]
    for length in (6, 20, 31, 32):
        assert (await client.get(f"/curves/{curve[:length]}")).json()["id"] == curve
        assert (await client.get(f"/sweeps/{sweep[:length]}")).json()["id"] == sweep
    key = PLATFORM.key
    assert (await client.get(f"/platforms/{key[:6]}")).json()["key"] == key
    listed = await client.get(f"/curves?platform={key[:6]}")
    assert [each["id"] for each in listed.json()["items"]] == [curve]
    answer = await ask(client, "3,3", platform=key[:6], prefer="nearest")
    assert (answer.status_code, answer.json()["platform"]) == (200, key)


async def test_a_shortened_id_also_cancels(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    request = {"workload": "matmul", "axes": [{"first": 8, "last": 9}]}
    sweep = (await client.post("/sweeps", json=request)).json()["id"]
    response = await client.post(f"/sweeps/{sweep[:12]}/cancel")
    assert (response.status_code, response.json()["id"]) == (200, sweep)
    assert sqlite_worker.store.get_sweep(sweep).cancel_requested


async def test_five_characters_are_too_few(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    curve = keep_curve(sqlite_worker.store, square(3, 5), stairs(4))
    check_problem(await client.get(f"/curves/{curve[:5]}"), 404)


async def test_an_ambiguous_beginning_lists_what_it_may_mean(
    client: httpx.AsyncClient, sqlite_worker: Worker
) -> None:
    # Ids begin with the time: two that are made one after the other have a long beginning alike.
    store = sqlite_worker.store
    first = keep_curve(store, square(3, 5), stairs(4))
    second = keep_curve(store, square(3, 6), stairs(4))
    assert first[:6] == second[:6]
    response = await client.get(f"/curves/{first[:6]}")
    check_problem(response, 422)
    assert {first, second} == set(hint_of(response).partition(": ")[2].split(", "))


async def test_an_ambiguous_platform_lists_what_it_may_mean(
    client: httpx.AsyncClient, sqlite_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No two platforms of a test share six digits, unless their beginning is made alike.
    store = sqlite_worker.store
    for number in range(3_000):
        other = dataclasses.replace(PLATFORM, driver=f"none {number}")
        if other.key[:2] == PLATFORM.key[:2]:
            break
    store.register_host("other", other, protocol=PROTOCOL, dtypes=["float32"])
    monkeypatch.setattr("profiler_service.answering.shortened.MIN_LENGTH", 2)
    response = await client.get(f"/platforms/{other.key[:2]}")
    check_problem(response, 422, other.key)
    check_problem(response, 422, PLATFORM.key)


def test_a_cursor_above_a_beginning_comes_after_every_id_that_begins_so() -> None:
    assert cursor_above("0199ab") == "0199ac" + "0" * 26
    assert cursor_above("0" * 31) == "0" * 30 + "10"
    # Nothing comes after the very last ids; a cursor has no more digits.
    assert cursor_above("f" * 31) == "f" * 32
