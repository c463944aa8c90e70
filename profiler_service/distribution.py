"""The distribution: its name, its version, and which packages each of its extras adds.

Knows nothing of what the packages do, and imports none of them.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Literal

from profiler_service.errors import LhpError

DISTRIBUTION = "lhp-profiler"
"""Its name in `pyproject.toml`. `lhp` on PyPI is another project."""
NOT_INSTALLED = "0+unknown"
"""The version of a source tree that runs without having been installed."""

Extra = Literal[
    "server",
    "measure",
    "trainer",
    "plot",
    "arrow",
    "pandas",
    "polars",
    "tensorboard",
    "gpu",
    "otel",
]

EXTRA_MODULES: Mapping[Extra, frozenset[str]] = {
    "server": frozenset(
        {
            *("alembic", "cachetools", "dbos", "fastapi", "fastapi_offline", "httptools"),
            *("jinja2", "limits", "numpy", "plotly", "prometheus_client", "psycopg", "pyarrow"),
            *("sqlalchemy", "starlette", "structlog", "tsdownsample", "uvicorn", "uvloop"),
        }
    ),
    "measure": frozenset({"numpy", "scipy", "torch"}),
    "trainer": frozenset({"matplotlib", "numpy", "safetensors", "torch"}),
    "plot": frozenset({"kaleido", "numpy", "plotly"}),
    "arrow": frozenset({"pyarrow"}),
    "pandas": frozenset({"pandas", "pyarrow"}),
    "polars": frozenset({"polars"}),
    "tensorboard": frozenset({"tensorboard"}),
    "gpu": frozenset({"pynvml"}),
    # Without these two, `opentelemetry` is what FastAPI brings.
    "otel": frozenset({"opentelemetry.exporter", "opentelemetry.sdk"}),
}
"""The modules of each extra that our own code imports."""


class MissingExtraError(LhpError):
    """A package is missing that an extra of the distribution would have installed."""


def find_version() -> str:
    """The version that is installed; NOT_INSTALLED if there is none."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED


def install_command(*extras: Extra) -> str:
    """What to type to install the distribution with these extras."""
    return f"pip install '{DISTRIBUTION}[{','.join(extras)}]'"


def explain_missing(
    error: ModuleNotFoundError, *, needed_by: str, extras: Sequence[Extra] = ()
) -> MissingExtraError | None:
    """The error that says what to install; None if no extra has the missing module.

    `needed_by` is what was typed, such as "lhp serve", and `extras` are the ones that it needs. If
    none of those has the module, the first extra that has it is named.
    """
    name = error.name or ""
    module = name.partition(".")[0]
    having: list[Extra] = [
        extra
        for extra, modules in EXTRA_MODULES.items()
        if any(f"{name}.".startswith(f"{each}.") for each in modules)
    ]
    if not having:
        return None
    missing = extras if set(extras) & set(having) else having[:1]
    return MissingExtraError(
        f"{needed_by} needs {module}, which isn't installed", hint=install_command(*missing)
    )
