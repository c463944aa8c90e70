"""Alert rules and dashboards: every expression parses, and asks for metrics that there are."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from profiler_service.answering.fleet_metrics import FleetMetrics
from profiler_service.storage.store import FleetStatus
from profiler_service.telemetry.metrics import ServiceMetrics
from tests.deploy.dashboards import DEPLOY, panels
from tests.storage.examples import create_curve

PROMETHEUS = DEPLOY / "prometheus"
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


def expressions() -> Iterator[Any]:
    for rule in RULES:
        yield pytest.param(rule["expr"], id=rule["alert"])
    for name, panel in panels():
        for target in panel["targets"]:
            if "expr" in target:
                title = f"{name} {panel['title']} {target['refId']}"
                yield pytest.param(target["expr"], id=title)


@pytest.fixture(scope="module")
def served() -> set[str]:
    """The names of all metrics that /metrics has."""
    metrics = ServiceMetrics(version="1")
    metrics.observe_request("GET", "/lhp", 200, 0.1)
    status = FleetStatus(hosts=[], num_open={}, num_ended={}, num_discarded={}, redundancy={})

    async def render() -> bytes:
        fleet = FleetMetrics(
            lambda: status,
            is_database_up=lambda: True,
            presence_s=15,
            load_curve=lambda _: create_curve(),
            compare_hosts=dict,
        )
        text = await fleet.render(metrics.registry)
        await fleet.close()
        return text

    text = asyncio.run(render()).decode()
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        names |= (
            {f"{name}{each}" for each in ("_bucket", "_count")} if kind == "histogram" else {name}
        )
    return names


@pytest.mark.parametrize("expression", [*expressions()])
def test_an_expression_parses_and_its_metrics_are_served(expression: str, served: set[str]) -> None:
    promql_parser.parse(expression)  # raises ValueError
    asked = set(re.findall(r"\blhp_\w+", expression))
    assert asked <= served and (asked or expression.startswith("up{"))


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 8
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_prometheus_scrapes_the_replicas_of_the_compose_file() -> None:
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())
    replicas = [name for name in compose["services"] if name.startswith("api-")]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"{name}:8000" for name in replicas]
    assert job["job_name"] == "lhp"  # which an alert names
    assert all((PROMETHEUS / name).exists() for name in config["rule_files"])


def test_alerts_fire_when_they_should() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("needs promtool")
    for arguments in (["test", "rules", "alerts_test.yml"], ["check", "config", "prometheus.yml"]):
        subprocess.run([promtool, *arguments], cwd=PROMETHEUS, check=True, timeout=60)
