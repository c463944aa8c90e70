from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from profiler_service.settings import Settings
from profiler_service.wire import HostInfo, PlatformInfo
from tests.api.conftest import DTYPES, HOST, Worker, check_problem, serving
from tests.api.curves import PLATFORM, PROTOCOL
from tests.kind_packages import install_kind, loaded_anew

pytestmark = pytest.mark.anyio


async def test_hosts(client: httpx.AsyncClient) -> None:
    (host,) = (await client.get("/hosts")).json()
    info = HostInfo.model_validate(host)
    assert (info.name, info.platform, info.dtypes) == (HOST, PLATFORM.key, list(DTYPES))
    assert info.protocol == PROTOCOL.key
    assert info.present
    assert (await client.get(f"/hosts/{HOST}")).json()["name"] == HOST
    check_problem(await client.get("/hosts/nowhere"), 404)


async def test_a_silent_host_is_not_present(sqlite_worker: Worker) -> None:
    settings = Settings(database_url="sqlite:///unused", host=HOST, presence_s=1e-6)
    async with serving(settings, sqlite_worker) as client:
        assert not (await client.get(f"/hosts/{HOST}")).json()["present"]


async def test_platforms(client: httpx.AsyncClient) -> None:
    (platform,) = (await client.get("/platforms")).json()
    info = PlatformInfo.model_validate(platform)
    assert (info.key, info.device_model) == (PLATFORM.key, "Synthetic 9000")
    assert (info.libraries, info.flags) == ({"blas": "3.14"}, {"tf32": "off"})
    assert (await client.get(f"/platforms/{PLATFORM.key}")).json() == platform
    check_problem(await client.get("/platforms/0123456789abcdef"), 404)


async def test_workloads(client: httpx.AsyncClient) -> None:
    kinds = {kind["name"]: kind for kind in (await client.get("/workloads")).json()}
    assert kinds["linear"]["axes"] == ["out_features", "in_features"]
    parameters = {each["name"]: each for each in kinds["linear"]["parameters"]}
    assert (parameters["batch"]["default"], parameters["batch"]["minimum"]) == (16, 1)
    assert parameters["dtype"]["choices"] == ["float32", "bfloat16", "float16"]
    assert parameters["dtype"]["minimum"] is None
    can_vary = [name for name, each in parameters.items() if each["can_vary"]]
    assert can_vary == ["batch"]
    assert (await client.get("/workloads/matmul")).json() == kinds["matmul"]
    check_problem(await client.get("/workloads/conv"), 404, "linear")


async def test_what_is_left_out_is_named_at_the_start_and_on_request(
    settings: Settings,
    sqlite_worker: Worker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    install_kind(tmp_path, "broken", "import no_such_package", attribute="KIND")
    monkeypatch.syspath_prepend(tmp_path)
    with loaded_anew():
        async with serving(settings, sqlite_worker) as client:
            assert "workload kind broken is left out" in caplog.text
            listed = (await client.get("/workloads")).json()
            assert {kind["name"] for kind in listed if not kind["error"]} >= {"linear", "gru"}
            [broken] = [kind for kind in listed if kind["error"]]
            assert broken["name"] == "broken" and "No module named" in broken["error"]
            check_problem(await client.get("/workloads/broken"), 404, "broken is left out: ")
