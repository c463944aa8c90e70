"""Who may import whom: the layout's table, held against the real imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PURE = {"numpy"}
"""What the mathematics may use besides the standard library."""

# Module or package (the longest prefix counts) → project modules, and outside packages, that it
# may import. A package may always import itself.
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "loopback": (set(), set()),
    "printable": (set(), set()),
    "distribution": ({"errors"}, set()),
    "standard_streams": ({"errors"}, set()),
    "suggestions": (set(), set()),
    "user_code": ({"errors"}, set()),
    "grid": ({"errors"}, PURE),
    "host_name": (set(), set()),
    "workload": ({"errors", "grid", "suggestions"}, set()),
    "access": ({"errors"}, set()),
    "kinds": ({"errors", "grid", "suggestions", "workload"}, set()),
    "analysis": ({"grid", "kinds", "workload"}, PURE),
    "plan": ({"analysis", "errors", "grid", "kinds", "workload"}, PURE),
    "latency_model": ({"analysis", "grid", "plan"}, PURE),
    "telemetry": ({"distribution"}, {"opentelemetry", "prometheus_client", "structlog"}),
    "setting_checks": (set(), set()),
    "settings": ({"host_name", "loopback", "setting_checks"}, {"pydantic", "pydantic_settings"}),
    "wire": ({"errors", "grid", "workload"}, {"pydantic", "pydantic_core"}),
    "plots": (
        {"analysis", "errors", "kinds", "plan", "printable", "wire"},
        {"numpy", "kaleido"},
    ),
    "client": (
        {"distribution", "errors", "loopback", "printable", "wire"},
        {
            "httpx",
            "httpx_sse",
            "pandas",
            "polars",
            "pyarrow",
            "pydantic",
            "pydantic_core",
            "stamina",
        },
    ),
    "networks": ({"errors"}, {"torch"}),
    "advice": ({"errors", "grid", "suggestions", "user_code", "workload"}, {"torch"}),
    "widths": (
        {"advice", "analysis", "client", "errors", "kinds", "measurement", "wire", "workload"},
        {"numpy", "scipy", "torch", "torch_pruning"},
    ),
    "measurement": (
        {
            *("analysis", "distribution", "errors", "grid", "kinds", "networks", "plan"),
            *("user_code", "workload"),
        },
        {"numpy", "torch", "pynvml"},
    ),
    "storage": (
        {
            *("access", "analysis", "errors", "grid", "host_name", "latency_model", "plan"),
            *("workload", "migrations"),
        },
        {"numpy", "sqlalchemy", "alembic", "psycopg", "pyarrow"},
    ),
    "jobs": ({"errors", "plan", "settings", "storage"}, {"dbos", "sqlalchemy"}),
    "processes": (
        {
            *("analysis", "answering", "api", "app", "errors", "grid", "jobs", "kinds"),
            *(
                "latency_model",
                "measurement",
                "plan",
                "settings",
                "storage",
                "telemetry",
                "workload",
            ),
        },
        {"httptools", "numpy", "uvicorn"},
    ),
    "answering": (
        {
            *("access", "analysis", "errors", "grid", "jobs", "kinds", "latency_model"),
            *("loopback", "plan"),
            *("settings", "storage", "suggestions", "telemetry", "wire", "wording", "workload"),
        },
        {"cachetools", "numpy", "prometheus_client", "pyarrow", "tsdownsample"},
    ),
    "api": (
        {
            *("access", "answering", "distribution", "errors", "host_name", "kinds"),
            *("loopback", "plan"),
            *("settings", "storage", "suggestions", "telemetry", "wire"),
        },
        {
            *("cachetools", "fastapi", "limits", "prometheus_client"),
            *("pydantic", "starlette"),
        },
    ),
    "wording": ({"wire"}, set()),
    "app": (
        {"answering", "api", "dashboard", "distribution", "settings", "storage", "telemetry"},
        {"fastapi", "fastapi_offline"},
    ),
    "dashboard": (
        {
            *("access", "analysis", "answering", "api", "distribution", "errors", "kinds"),
            *("plan", "plots", "printable", "storage", "wire", "wording", "workload"),
        },
        {"cachetools", "fastapi", "jinja2", "markupsafe", "numpy", "pydantic", "starlette"},
    ),
    "cli": (
        {
            # `analysis`, `kinds`, `plan` and `processes.own_code`: a command measures own code.
            *("access", "advice", "analysis", "client", "distribution", "errors", "grid"),
            *("kinds", "measurement", "plan"),
            *("plots", "printable", "processes", "settings", "standard_streams", "storage"),
            *("suggestions", "telemetry", "widths", "wire", "wording", "workload"),
        },
        {"typer", "click", "rich", "pydantic", "pydantic_core"},
    ),
}


def modules() -> list[Path]:
    """Every module of the service but its root."""
    root = ROOT / "profiler_service"
    return sorted(p for p in root.rglob("*.py") if p != root / "__init__.py")


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything the module imports, anywhere in its text."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names.add(node.module)
            if node.module in ("profiler_service", "trainer_client"):
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_import_only_what_the_layout_allows(path: Path) -> None:
    own = path.relative_to(ROOT / "profiler_service").with_suffix("").parts[0]
    allowed_rooms, allowed_packages = ALLOWED[own]
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "profiler_service":
            if len(parts) > 1:
                assert parts[1] in allowed_rooms | {own}, f"{own} may not import {name}"
        elif parts[0] not in sys.stdlib_module_names:
            assert parts[0] in allowed_packages, f"{own} may not import {name}"


def test_the_table_names_only_what_exists() -> None:
    rooms = {p.relative_to(ROOT / "profiler_service").with_suffix("").parts[0] for p in modules()}
    assert set(ALLOWED) == rooms


@pytest.mark.parametrize(
    "module", ["profiler_service.plan.create", "profiler_service.wire", "profiler_service.app"]
)
def test_torch_stays_out_of(module: str) -> None:
    """Also through others: the mathematics and the API process never load torch."""
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_trainer_imports_only_shared_parts_of_the_service() -> None:
    # `kinds` for the key of a workload: recorded answers are found by it, without any service.
    allowed = {"client", "distribution", "errors", "kinds", "networks", "printable", "wire"}
    allowed |= {"standard_streams", "suggestions", "workload"}
    # A trained module is grown as `lhp advise` looks at one, and raced as it races (decision 23).
    of_modules = {"advice", "widths.end_to_end", "widths.race"}
    for path in (ROOT / "trainer_client").rglob("*.py"):
        own = path.relative_to(ROOT / "trainer_client").with_suffix("").parts[0]
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "profiler_service":
                assert len(parts) > 1
                is_of_modules = own in ("commands", "widths") and any(
                    ".".join(parts[1 : 1 + each.count(".") + 1]) == each for each in of_modules
                )
                assert parts[1] in allowed or is_of_modules, f"{path} may not import {name}"


# Room or module of the trainer → the trainer's other rooms that it may import.
TRAINER: dict[str, set[str]] = {
    "files": set(),
    "groups": set(),
    "oracle": {"files"},
    "run": {"files", "groups"},
    "tasks": {"export", "files", "groups", "run"},
    "methods": {"files", "groups", "oracle", "run"},
    "report": {"files", "methods", "run"},
    "widths": {"export", "files", "groups", "oracle"},
    "export": {"files", "groups", "run", "tasks"},
    "presets": {"methods", "tasks"},
    "training": {"dry_run", "methods", "presets", "run", "tasks"},
    "compression": {"groups", "methods", "oracle", "run"},
    "dry_run": {"presets", "tasks"},
    "commands": {"files", "groups", "oracle", "tasks", "widths"},
    "cli": {
        *("commands", "dry_run", "export", "files", "methods", "oracle", "presets", "report"),
        *("run", "tasks", "training"),
    },
}


def test_rooms_of_the_trainer_import_only_what_the_layout_allows() -> None:
    root = ROOT / "trainer_client"
    found: dict[str, set[str]] = {}
    for path in root.rglob("*.py"):
        own = path.relative_to(root).with_suffix("").parts[0]
        if own == "__init__":
            continue
        uses = found.setdefault(own, set())
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "trainer_client" and parts[1:] and parts[1] != own:
                uses.add(parts[1])
    assert set(found) == set(TRAINER)
    assert {
        room: used - TRAINER[room] for room, used in found.items() if used - TRAINER[room]
    } == {}


def test_the_referee_shares_no_code_with_the_service() -> None:
    """Nor through other benchmarks, some of which call the service's code."""
    libraries = {"httpx", "matplotlib", "numpy", "torch"}
    for path in (ROOT / "benchmarks" / "answers").rglob("*.py"):
        for name in imports_of(path):
            if name.split(".")[0] not in sys.stdlib_module_names | libraries:
                assert name.startswith("benchmarks.answers"), f"{path} may not import {name}"


MOST_LINES = 400
"""Of a module: what is longer holds more than one subject."""


def all_modules() -> list[Path]:
    """Every Python module of the project, tests and benchmarks included."""
    rooms = (
        *("profiler_service", "trainer_client", "benchmarks", "tests", "migrations", "examples"),
        "reference_pages",
    )
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def test_no_module_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in all_modules()}
    assert len(lengths) > 200
    too_long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > MOST_LINES}
    assert too_long == {}


def test_no_two_neighbours_differ_by_a_plural() -> None:
    names = {(path.parent, path.stem) for path in all_modules()}
    names |= {(path.parent.parent, path.parent.name) for path in all_modules()}
    pairs = [
        str((folder / name).relative_to(ROOT))
        for folder, name in names
        if {(folder, f"{name}s"), (folder, f"{name}es")} & names
    ]
    assert pairs == []
