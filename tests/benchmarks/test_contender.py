"""What the benchmarks of races import of the code under test."""

from __future__ import annotations

import ast
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def importing_statements(path: Path) -> set[str]:
    """Names of the outermost functions of a module that import the service."""
    names = set()
    for statement in ast.parse(path.read_text()).body:
        imported = {
            name
            for node in ast.walk(statement)
            if isinstance(node, ast.ImportFrom | ast.Import)
            for name in (
                [str(node.module)]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
        }
        if any(name.startswith("profiler_service") for name in imported):
            is_for_types = isinstance(statement, ast.If)
            names.add("types" if is_for_types else getattr(statement, "name", "module"))
    return names


def test_the_code_under_test_is_imported_where_it_runs_and_nowhere_else() -> None:
    names = ("contender", "learning_host", "race_verdict", "report")
    paths = [BENCHMARKS / f"{name}.py" for name in names]
    paths += [*BENCHMARKS.glob("synthetic_*.py"), *(BENCHMARKS / "networks_search").glob("*.py")]
    found = {str(path.relative_to(BENCHMARKS)): importing_statements(path) for path in paths}
    assert {name: names for name, names in found.items() if names} == {
        "contender.py": {"types", "race_window", "open_contender"},
        "learning_host.py": {"types", "LearningHost", "ToldHost"},
        # The language model is the workload, not a part of the service's timing.
        "networks_search/referee.py": {"create_network"},
        "synthetic_device.py": {"types", "race_on"},
    }
