"""The images and the units, as far as they can be checked without an engine to build them."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from profiler_service.processes.serve import upgrade_database
from profiler_service.settings import Settings
from profiler_service.storage import readers, roles
from tests.storage.test_schema import connect

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
COMPOSE, NETWORKS = COMPOSE_FILE["services"], COMPOSE_FILE["networks"]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def read_stages() -> dict[str, tuple[str, list[str]]]:
    """Stage of the Dockerfile → the stage or image that it begins from, and its instructions."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    stages: dict[str, tuple[str, list[str]]] = {}
    name = ""
    for line in filter(None, (each.strip() for each in text.splitlines())):
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            name = match[2]
            stages[name] = (match[1], [])
        elif not line.startswith("#"):
            stages[name][1].append(line)
    return stages


def test_images_don_t_run_as_root_have_an_init_and_a_health_check() -> None:
    stages = read_stages()
    parent, base = stages["base"]
    assert parent.startswith("python:3.11-slim")
    assert "USER 10001" in base and 'ENTRYPOINT ["tini", "--"]' in base
    for name in ("api", "worker"):
        parent, instructions = stages[name]
        assert parent == "base"
        assert not any(each.startswith(("USER", "ENTRYPOINT")) for each in instructions)
        assert any(each.startswith("HEALTHCHECK") for each in instructions)


def test_only_the_worker_s_image_has_torch() -> None:
    stages = read_stages()
    extras = {
        name: set(re.findall(r"'\.\[(.*?)\]'", " ".join(stages[f"{name}-files"][1]))[0].split(","))
        for name in ("api", "worker")
    }
    # `measure` and `trainer` need torch (pyproject.toml).
    assert extras == {
        "api": {"server", "otel"},
        "worker": {"server", "measure", "plot", "gpu", "otel"},
    }


def test_an_image_gets_only_what_the_package_is_built_from() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        word
        for _, instructions in read_stages().values()
        for each in instructions
        if each.startswith("COPY") and "--from" not in each
        for word in each.split()[1:-1]
    }
    assert ignored[0] == "**" and copied == allowed


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    given: dict[str, str] = service.get("environment", {})
    return given


def test_the_compose_file_has_what_a_fleet_needs_and_publishes_only_loopback() -> None:
    assert {"postgres", "api-1", "api-2", "proxy", "worker", "prometheus", "grafana"} <= set(
        COMPOSE
    )
    stages = read_stages()
    settings = {f"LHP_{name.upper()}" for name in Settings.model_fields}
    for name, service in COMPOSE.items():
        assert "image" in service and "restart" in service, name
        if "build" in service:
            assert service["build"]["target"] in stages
        own = {each for each in environment_of(service) if each.startswith("LHP_")}
        assert own <= settings, name
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${PUBLISH:-127.0.0.1:")), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), name
    # Workers see each other's locks only in the machine's own network.
    assert COMPOSE["worker"]["network_mode"] == "host"


@contextlib.contextmanager
def outside_transactions(url: str) -> Iterator[sa.Connection]:
    server = sa.make_url(url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_neither_the_service_nor_the_worker_has_the_role_of_the_administrator() -> None:
    # The image's default administrator is `postgres`; deploy/postgres makes the role `lhp`.
    given = environment_of(COMPOSE["postgres"])
    assert "POSTGRES_USER" not in given
    mounted = [each.split(":")[:2] for each in COMPOSE["postgres"]["volumes"]]
    assert ["./deploy/postgres", "/docker-entrypoint-initdb.d"] in mounted
    for name in ("api-1", "api-2", "upgrade"):
        url = environment_of(COMPOSE[name])["LHP_DATABASE_URL"]
        assert url.startswith("postgresql://lhp:${DATABASE_PASSWORD:?")
    # The worker joins, and gets a role of its own, which it keeps in a volume.
    own = environment_of(COMPOSE["worker"])
    assert "LHP_JOIN_KEY" in own and "PASSWORD" not in "".join(own.values())
    assert "worker:/home/lhp/.local/share/lhp" in COMPOSE["worker"]["volumes"]
    assert "mkdir --parents /home/lhp/.local/share/lhp" in " ".join(read_stages()["base"][1])


def test_the_role_of_the_service_can_do_all_that_it_needs_and_is_no_superuser(
    postgres_url: str, postgres_programs: Path
) -> None:
    script = ROOT / "deploy" / "postgres" / "lhp.sql"
    subprocess.run(
        [
            *(postgres_programs / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"),
            *(f"--dbname={postgres_url}", f"--file={script}"),
        ],
        env={"DATABASE_PASSWORD": "it's secret"},
        check=True,
        timeout=60,
    )
    own = sa.make_url(postgres_url).set(username="lhp", password="it's secret", database="lhp")
    url = own.render_as_string(hide_password=False)
    made: list[str] = []
    try:
        upgrade_database(Settings(database_url=url))
        with connect(url) as connection:
            installation = str(connection.scalar(sa.text("SELECT value FROM installation")))
            role, _ = roles.create_role(connection, installation)
            made.append(f"lhp_workers_{installation}")
            rights = "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = :r"
            found = [
                connection.execute(sa.text(rights), {"r": each}).one() for each in ("lhp", role)
            ]
            assert found == [(False, True, False), (False, False, False)]
            roles.drop_role(connection, role)
            exists = sa.text("SELECT 1 FROM pg_roles WHERE rolname = :r")
            assert connection.scalar(exists, {"r": role}) is None
            made.append(f"lhp_readers_{installation}")
            for is_new in (True, False):
                assert is_new is readers.add_reader(connection, installation, "shown", "secret")
        shown = own.set(username="shown", password="secret")
        with connect(shown.render_as_string(hide_password=False)) as connection:
            assert connection.execute(sa.text("SELECT * FROM curves")).all() == []
        with connect(url) as connection:
            readers.remove_reader(connection, installation, "shown")
            assert connection.scalar(exists, {"r": "shown"}) is None
    finally:
        with outside_transactions(postgres_url) as connection:
            connection.execute(sa.text("DROP DATABASE lhp WITH (FORCE)"))
            for each in [*made, "lhp"]:
                connection.execute(sa.text(f"DROP ROLE {each}"))


def test_only_the_proxy_s_own_address_is_trusted() -> None:
    address = COMPOSE["proxy"]["networks"]["default"]["ipv4_address"]
    for name in ("api-1", "api-2"):
        assert environment_of(COMPOSE[name])["LHP_TRUSTED_PROXIES"] == address
    [pool] = NETWORKS["default"]["ipam"]["config"]
    proxy = ipaddress.ip_address(address)
    assert proxy in ipaddress.ip_network(pool["subnet"])
    # No other container is given it, nor has the machine it.
    assert proxy not in ipaddress.ip_network(pool["ip_range"])
    assert address != pool["gateway"]


def test_docker_accepts_the_compose_file() -> None:
    """Where its plugin is installed. That needs no engine."""
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("needs docker compose")
    passwords = dict.fromkeys(
        ("POSTGRES_PASSWORD", "DATABASE_PASSWORD", "GRAFANA_PASSWORD", "READER_PASSWORD"), "secret"
    )
    environment = {**passwords, "PATH": ""}
    subprocess.run(
        [docker, "compose", "config", "--quiet"], cwd=ROOT, env=environment, check=True, timeout=60
    )


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("needs systemd-analyze")
    # It looks for the program, which is installed nowhere here.
    text, replaced = re.subn(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.M)
    assert replaced == 1
    copy = tmp_path / unit.name
    copy.write_text(text)
    done = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, [])


def test_units_start_commands_that_there_are() -> None:
    started = {
        unit.name: re.findall(r"^ExecStart=/opt/lhp/bin/lhp (.*)$", unit.read_text(), re.M)
        for unit in UNITS
    }
    assert started == {"lhp.service": ["serve --no-worker"], "lhp-worker.service": ["worker"]}
