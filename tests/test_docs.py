"""The documentation names everything that the code offers, and needs no network to be read.

`make docs` builds the whole site strictly (every internal link resolves); here the pages that
are generated are held against the code, and the committed ones against both.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import trainer_client.cli
from profiler_service.cli.app import app
from profiler_service.errors import LhpError, error_classes
from profiler_service.kinds import workload_kinds
from profiler_service.latency_model.settings import MODEL
from profiler_service.plan.race.settings import list_settings
from profiler_service.processes import exit_codes
from profiler_service.settings import Settings
from profiler_service.wire import CrossoverQuery, LhpQuery
from reference_pages import PAGES, commands, http, workloads
from reference_pages.advice import ADVICE
from reference_pages.markdown import cell, table
from reference_pages.offline import external_addresses, external_addresses_in_style
from reference_pages.python import public_names
from reference_pages.settings import settings_page
from reference_pages.training import describe_fields, training_page
from trainer_client.presets import TrainingConfig

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def section(page: str, heading: str) -> str:
    """The text of the section under that level-2 heading. Fails if there is none."""
    found = re.search(
        rf"^## {re.escape(heading)}(?: \{{ #\w+ \}})?$(.*?)(?=^## |\Z)", page, re.M | re.S
    )
    assert found is not None, f"no section {heading!r}"
    return found[1]


def row_of(text: str, name: str) -> str:
    """The table row whose first cell names `name` in code. Fails if there is none."""
    rows = [line for line in text.splitlines() if line.startswith(f"| `{name}`")]
    assert rows, f"no row for {name}"
    return rows[0]


# What there is, is documented.


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_meaning(name: str) -> None:
    row = row_of(settings_page(), f"LHP_{name.upper()}")
    assert Settings.model_fields[name].description
    assert cell(Settings.model_fields[name].description) in row


def test_defaults_of_settings_are_shown_as_an_environment_variable_takes_them() -> None:
    page = settings_page()
    assert "| `8000` |" in row_of(page, "LHP_PORT")
    assert "| `65536` |" in row_of(page, "LHP_MAX_POINTS")
    assert "| `15` |" in row_of(page, "LHP_PRESENCE_S")


def test_defaults_that_depend_on_the_machine_are_told_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ann/data")
    page = settings_page()
    assert "/home/ann" not in page
    assert "the machine's name" in row_of(page, "LHP_HOST")


@pytest.mark.parametrize("name", commands.lhp_commands())
def test_every_command_of_lhp_is_documented(name: str) -> None:
    command = commands.lhp_commands()[name]
    assert command.help, f"{name} has no help"
    text = section(commands.lhp_page(), f"`{name}`")
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            row = row_of(text, parameter.opts[0])
            assert parameter.help, f"{name} {parameter.opts[0]} has no help"
            assert cell(parameter.help) in row


@pytest.mark.parametrize("name", commands.lhp_train_commands())
def test_every_command_of_lhp_train_is_documented(name: str) -> None:
    section(commands.lhp_train_page(), f"`{name}`")


def test_every_exit_code_is_documented_where_it_is_looked_up() -> None:
    codes = {value for value in vars(exit_codes).values() if isinstance(value, int)}
    assert set(exit_codes.MEANINGS) == codes
    text = section(commands.lhp_page(), "Exit codes")
    shown = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    for code, meaning in exit_codes.MEANINGS.items():
        assert f"| {code} | {cell(meaning)} |" in text
        assert f"{code} {meaning.replace('`', '')}" in shown.replace("`", "")
    text = section(commands.lhp_train_page(), "Exit codes")
    for code in (0, trainer_client.cli.FAILED, trainer_client.cli.USAGE):
        assert f"| {code} | " in text
    assert f"| {trainer_client.cli.INTERRUPTED} | " in text
    assert "| 75 |" not in text


def test_hidden_options_stay_hidden() -> None:
    assert "--until-stdin-closes" not in commands.lhp_page()


@pytest.mark.parametrize("error", list(error_classes()), ids=lambda error: error.__name__)
def test_every_problem_has_a_page_that_says_what_to_do(error: type[LhpError]) -> None:
    page = PAGES[f"problems/{error.problem_name()}.md"]()
    assert "## What to do\n\n" in page
    assert error.__name__ in page
    assert f"({error.problem_name()}.md)" in PAGES["problems/index.md"]()


def test_advice_is_given_for_existing_problems_only() -> None:
    assert set(ADVICE) == {error.__name__ for error in error_classes()}


@pytest.mark.parametrize("name", [kind.name for kind in workloads.built_in_kinds()])
def test_every_workload_kind_is_documented_with_its_parameters(name: str) -> None:
    text = section(workloads.workloads_page(), f"`{name}`")
    for axis in workload_kinds()[name].axes:
        assert f"`{axis}`" in text
    for parameter in workload_kinds()[name].parameters:
        assert parameter.description
        assert cell(parameter.description) in row_of(text, parameter.name)


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    http.operations(),
    ids=[f"{method} {path}" for method, path, _ in http.operations()],
)
def test_every_route_is_documented_with_its_parameters(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    text = section(http.http_page(), f"`{method.upper()} {path}`")
    for parameter in operation.get("parameters", ()):
        assert parameter.get("description"), f"{parameter['name']} has no description"
        assert cell(parameter["description"]) in row_of(text, parameter["name"])
    for status in operation["responses"]:
        assert f"\n| {status} |" in text


@pytest.mark.parametrize(("path", "model"), [("/lhp", LhpQuery), ("/crossover", CrossoverQuery)])
def test_every_query_parameter_is_documented_with_its_meaning(path: str, model: Any) -> None:
    text = section(http.http_page(), f"`GET {path}`")
    for name, field in model.model_fields.items():
        assert field.description
        assert cell(field.description) in row_of(text, name)


@pytest.mark.parametrize("name", http.describe_api()["components"]["schemas"])
def test_every_field_of_every_model_is_documented(name: str) -> None:
    for field, schema in (
        http.describe_api()["components"]["schemas"][name].get("properties", {}).items()
    ):
        assert schema.get("description"), f"{field} has no description"


def test_every_model_that_a_page_links_to_is_on_it() -> None:
    page = http.http_page()
    anchors = {heading.lower() for heading in re.findall(r"^### (\w+)$", page, re.M)}
    links = set(re.findall(r"\]\(#(\w+)\)", page))
    operations = {operation["operationId"] for _, _, operation in http.operations()}
    assert links <= anchors | operations


def test_every_setting_of_a_race_is_documented() -> None:
    page = PAGES["reference/race.md"]()
    for each in list_settings():
        assert cell(each.sentence) in row_of(page, f"{each.group}.{each.name}")


def test_every_setting_of_the_latency_model_is_documented() -> None:
    page = PAGES["reference/latency-model.md"]()
    for part in dataclasses.fields(MODEL):
        for each in dataclasses.fields(getattr(MODEL, part.name)):
            assert cell(each.metadata["sentence"]) in row_of(page, each.name)


def test_every_training_setting_is_documented() -> None:
    page = training_page()
    for name, meaning in describe_fields(TrainingConfig).items():
        if name != "preset":
            assert meaning, f"{name} has no meaning"
            assert cell(meaning) in row_of(page, name)
    assert "| `700` |" in row_of(page, "gate_width")  # of the preset `small`


def test_every_public_name_is_documented() -> None:
    page = PAGES["reference/python.md"]()
    for name in public_names():
        described = re.search(rf"^::: [\w.]+\.{name}$", page, re.M)
        listed = f"[`{name}`](http.md#{name.lower()})" in page
        assert described or listed, name


def test_every_model_in_the_python_reference_is_in_that_of_http() -> None:
    models = re.findall(r"\(http\.md#(\w+)\)", PAGES["reference/python.md"]())
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", http.http_page(), re.M)}
    assert models
    assert set(models) <= headings


# The committed pages.


def navigation() -> list[str]:
    """The pages in the site's navigation, in order."""

    def walk(entries: list[Any]) -> list[str]:
        found: list[str] = []
        for entry in entries:
            for value in entry.values() if isinstance(entry, dict) else [entry]:
                found += walk(value) if isinstance(value, list) else [value]
        return found

    return walk(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])


def test_every_page_is_in_the_navigation_and_exists() -> None:
    committed = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    # Problems are listed by their index, results by their README.
    unlisted = {page for page in committed | set(PAGES) if page.split("/")[0] == "problems"}
    unlisted |= {page for page in committed if page.startswith("results/")}
    pages = set(navigation())
    assert pages <= committed | set(PAGES)
    assert (committed | set(PAGES)) - unlisted <= pages


def test_every_decision_is_in_the_list_of_decisions() -> None:
    index = (DOCS / "decisions" / "index.md").read_text()
    for path in (DOCS / "decisions").glob("[0-9]*.md"):
        assert f"({path.name})" in index


def test_the_architecture_page_names_only_what_exists() -> None:
    text = (DOCS / "architecture.md").read_text()
    named = re.findall(r"`([\w/]+\.py)`: `(\w+)(?:\.(\w+))?`", text)
    assert len(named) > 20
    for path, name, member in named:
        module = importlib.import_module(
            f"profiler_service.{path[:-3].removesuffix('/__init__').replace('/', '.')}"
        )
        found = getattr(module, name)
        assert not member or hasattr(found, member), f"{path}: {name}.{member}"
    for room in re.findall(r"`((?:profiler_service|trainer_client|tests)/[\w/.]+)`", text):
        assert (ROOT / room).exists(), room


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CHANGELOG.md"], ids=lambda p: p.name)
def test_links_of_pages_outside_the_site_resolve(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (ROOT / target).exists() or target.removeprefix("docs/") in PAGES, target


def commands_in(text: str) -> set[str]:
    """The commands `lhp NAME …` that the text shows after a prompt or in code."""
    return set(re.findall(r"(?:^\$ (?:\.venv/bin/)?|`)lhp ([a-z]+)", text, re.M))


def test_pages_show_only_commands_that_exist() -> None:
    existing = {name.split()[1] for name in commands.lhp_commands()}
    for path in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        assert commands_in(path.read_text()) <= existing, path


def test_pages_name_only_settings_that_exist() -> None:
    existing = {f"LHP_{name.upper()}" for name in Settings.model_fields} | {"LHP_DATA"}
    for path in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        named = set(re.findall(r"\bLHP_[A-Z_]+[A-Z]\b", path.read_text()))
        assert named <= existing, path


# What reads pages and writes them.


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<script src="//cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<link rel="preconnect" href="https://fonts.example" crossorigin>',
        '<img src="http://img.example/a.png">',
        '<img src="a.png" srcset="a.png 1x, https://img.example/b.png 2x">',
        '<style>@import "https://fonts.example/css";</style>',
        '<p style="background: url(https://img.example/a.png)">x</p>',
        '<iframe src="https://video.example/1"></iframe>',
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found(html: str) -> None:
    assert external_addresses(f"<html><head></head><body>{html}</body></html>")


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://www.rfc-editor.org/rfc/rfc9457">a link is no resource</a>',
        '<link rel="canonical" href="https://lhp.example/index.html">',
        '<script src="assets/x.js"></script>',
        "<img src=\"data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg'/>\">",
        '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>',
        "<code>url(https://shown.example)</code>",
    ],
)
def test_what_stays_on_the_page_is_no_resource(html: str) -> None:
    assert external_addresses(html) == []


def test_style_sheets_are_read_too() -> None:
    css = 'a{background:url("https://img.example/a.png")} b{background:url(data:image/png;base64,)}'
    assert external_addresses_in_style(css) == ["https://img.example/a.png"]


def test_cells_stay_cells() -> None:
    assert table(("a", "b"), [("x | y", "two\nlines")]) == (
        "| a | b |\n| --- | --- |\n| x \\| y | two lines |\n\n"
    )
