"""The package as people install it: the thin base, its extras, and what messages say of them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
import typing
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import profiler_service
from profiler_service.app import create_app
from profiler_service.cli.app import app
from profiler_service.cli.explaining import NEEDED_EXTRAS
from profiler_service.distribution import (
    DISTRIBUTION,
    EXTRA_MODULES,
    NOT_INSTALLED,
    Extra,
    explain_missing,
    find_version,
    install_command,
)
from profiler_service.settings import Settings
from reference_pages.commands import lhp_train_commands

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

# What no training job that only asks should have to install.
HEAVY = frozenset().union(*EXTRA_MODULES.values())
# Names of modules that aren't their distribution's with "_" for "-".
MODULE_OF = {
    "nvidia-ml-py": "pynvml",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter",
    "opentelemetry-sdk": "opentelemetry.sdk",
}
# What comes with a package that an extra names, and is ours to import as well.
COMES_WITH = {"starlette": "fastapi", "httptools": "uvicorn", "uvloop": "uvicorn"}


def run_without(
    modules: Collection[str], tmp_path: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python with `arguments` as on a machine without `modules`."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        f"MODULES = {sorted(modules)}\n"
        "class Without:\n"
        "    def find_spec(self, name, *_):\n"
        "        if any((name + '.').startswith(each + '.') for each in MODULES):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LHP_")}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment | {"PYTHONPATH": str(tmp_path), "LHP_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )


def modules_of(requirements: list[str]) -> set[str]:
    """Names of the modules that the requirements bring, without what these bring in turn."""
    names = {re.split(r"[\[<>=~!; ]", each, maxsplit=1)[0] for each in requirements}
    return {MODULE_OF.get(name, name.replace("-", "_")) for name in names}


def run_each(
    commands: list[str],
    tmp_path: Path,
    run: str = "profiler_service.cli.app",
    without: Collection[str] = HEAVY,
) -> dict[str, tuple[int, str, str]]:
    """Exit code and stdout and stderr of each command in the base, by what is typed.

    `run` is the module whose `run` they are arguments of. One process, since each takes a while.
    """
    program = (
        f"import contextlib, io, json; from {run} import run\n"
        f"for words in {commands}:\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as err:\n"
        "        with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "            code = run(words.split())\n"
        "    print(json.dumps([words, code, out.getvalue(), err.getvalue()]))\n"
    )
    done = run_without(without, tmp_path, "-c", program)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == commands
    return {words: (code, out, err) for words, code, out, err in lines}


def test_what_is_refused_is_refused(tmp_path: Path) -> None:
    done = run_without(HEAVY, tmp_path, "-c", "import numpy")
    assert "No module named 'numpy'" in done.stderr


def test_asking_from_python_needs_the_base_alone(tmp_path: Path) -> None:
    program = (
        "import trainer_client.oracle.http, trainer_client.oracle.recordings\n"
        "from profiler_service import *\n"
        "ServiceClient('http://127.0.0.1:9').close()\n"
    )
    done = run_without(HEAVY, tmp_path, "-c", program)
    assert (done.returncode, done.stderr) == (0, "")


COMMANDS = (
    *("serve", "worker", "join http://127.0.0.1:9 KEY", "db upgrade", "query 8,8"),
    *("predict 8,8", "crossover 8,8", "advise models:make", "sweep matmul 8:16", "sweeps"),
    "cancel SWEEP",
    *("curves", "compare c1 c2", "facts", "plot", "hosts", "tokens list", "workloads", "doctor"),
)


def test_every_command_is_tried_below() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]
    names += [str(group.name) for group in app.registered_groups]
    assert sorted(names) == sorted(words.split()[0] for words in COMMANDS)
    assert set(NEEDED_EXTRAS) <= set(names)


def test_commands_that_only_ask_need_the_base_alone(tmp_path: Path) -> None:
    """They run until they find that nobody listens on port 9."""
    asking = [words for words in COMMANDS if words.split()[0] not in NEEDED_EXTRAS]
    for words, (code, out, err) in run_each(asking, tmp_path).items():
        assert (words, code, out) == (words, 1, "")
        assert err.startswith("error: no service at http://127.0.0.1:9")


def test_their_help_needs_no_more(tmp_path: Path) -> None:
    done = run_without(HEAVY, tmp_path, "-m", "profiler_service.cli", "query", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--max-growth" in done.stdout


def test_without_its_extra_a_command_says_what_to_install(tmp_path: Path) -> None:
    needing = [words for words in COMMANDS if words.split()[0] in NEEDED_EXTRAS]
    for words, (code, out, err) in run_each(needing, tmp_path).items():
        command = words.split()[0]
        error, hint = err.splitlines()
        assert re.fullmatch(rf"error: lhp {command} needs \w+, which isn't installed", error)
        assert hint == f"hint: pip install 'lhp-profiler[{','.join(NEEDED_EXTRAS[command])}]'"
        # A worker says in this way that it isn't worth starting again before that.
        assert (code, out) == (os.EX_CONFIG if command == "worker" else 1, "")


TRAINER_COMMANDS = (
    *(f"{corpus} --data . --out run" for corpus in ("ptb", "wikitext-2", "own-text")),
    *("report .", "score model text", "compare a b text", "estimate", "pad models:make"),
)


def test_every_command_of_the_trainer_is_tried_below() -> None:
    named = {words.split()[0] for words in TRAINER_COMMANDS}
    assert {name.removeprefix("lhp-train ") for name in lhp_train_commands()} == named


def test_without_its_extra_the_trainer_says_what_to_install(tmp_path: Path) -> None:
    needing = list(TRAINER_COMMANDS)
    told = (
        "error: lhp-train needs torch, which isn't installed\n"
        "hint: pip install 'lhp-profiler[trainer]'\n"
    )
    found = run_each(needing, tmp_path, "trainer_client.cli")
    assert found == dict.fromkeys(needing, (1, "", told))
    done = run_without(HEAVY, tmp_path, "-m", "trainer_client.cli", "estimate")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("module", sorted(EXTRA_MODULES["trainer"]))
def test_a_part_of_the_trainers_extra_is_missed_at_once(module: str, tmp_path: Path) -> None:
    found = run_each(list(TRAINER_COMMANDS), tmp_path, "trainer_client.cli", without={module})
    told = (
        f"error: lhp-train needs {module}, which isn't installed\n"
        "hint: pip install 'lhp-profiler[trainer]'\n"
    )
    assert found == dict.fromkeys(TRAINER_COMMANDS, (1, "", told))


def test_what_no_extra_brings_is_a_bug_and_stays_one(tmp_path: Path) -> None:
    done = run_without({"httpx"}, tmp_path, "-m", "profiler_service.cli", "hosts")
    assert "ModuleNotFoundError: No module named 'httpx'" in done.stderr
    assert "pip install" not in done.stderr
    assert explain_missing(ModuleNotFoundError("…", name="colour"), needed_by="lhp plot") is None
    assert explain_missing(ModuleNotFoundError("…"), needed_by="lhp plot") is None


# The rooms that each extra is for, and nothing from any other extra.
@pytest.mark.parametrize(
    ("extras", "modules"),
    [
        (["server"], "profiler_service.app profiler_service.processes.worker"),
        (["measure"], "profiler_service.measurement.operations profiler_service.widths.pruning"),
        (["plot"], "profiler_service.plots.files profiler_service.plots.compare"),
        (["trainer"], "trainer_client.methods.grow_prune.synthesis trainer_client.report.write"),
        (["trainer"], "trainer_client.dry_run trainer_client.widths.report"),
    ],
)
def test_an_extra_is_enough_for_its_rooms(
    extras: list[Extra], modules: str, tmp_path: Path
) -> None:
    others = HEAVY - frozenset().union(*(EXTRA_MODULES[extra] for extra in extras))
    done = run_without(others, tmp_path, "-c", f"import {', '.join(modules.split())}")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_extras_are_those_of_the_project() -> None:
    assert set(EXTRA_MODULES) == set(typing.get_args(Extra)) == set(EXTRAS) - {"dev", "docs"}
    for extra, modules in EXTRA_MODULES.items():
        brought = modules_of(EXTRAS[extra])
        assert brought <= modules
        assert {COMES_WITH.get(module, module) for module in modules} <= brought
    assert not modules_of(PROJECT["dependencies"]) & HEAVY


def test_the_extra_that_the_command_needs_is_named_first() -> None:
    error = ModuleNotFoundError("No module named 'numpy.linalg'", name="numpy.linalg")
    found = explain_missing(error, needed_by="lhp plot", extras=["plot"])
    assert found is not None
    assert str(found) == "lhp plot needs numpy, which isn't installed"
    assert found.hint == "pip install 'lhp-profiler[plot]'"
    # An extra that is wanted on top of the command's own.
    error = ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
    found = explain_missing(error, needed_by="lhp-train", extras=["trainer"])
    assert found is not None
    assert found.hint == "pip install 'lhp-profiler[tensorboard]'"


def test_the_version_comes_from_one_place() -> None:
    assert find_version() == importlib.metadata.version(DISTRIBUTION) == PROJECT["version"], (
        "the installed metadata are old: run `pip install --no-deps -e .`"
    )
    assert profiler_service.__version__ == find_version()
    assert create_app(Settings()).openapi()["info"]["version"] == find_version()
    for path in [*(ROOT / "profiler_service").rglob("*.py"), *(ROOT / "trainer_client").rglob("*")]:
        assert path.suffix != ".py" or PROJECT["version"] not in path.read_text(), path


def test_a_tree_that_isnt_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiler_service.distribution.DISTRIBUTION", "lhp-that-never-was")
    assert find_version() == NOT_INSTALLED


def test_public_names_are_there() -> None:
    assert sorted(profiler_service.__all__) == profiler_service.__all__
    assert set(profiler_service.__all__) <= set(dir(profiler_service))
    for name in profiler_service.__all__:
        value = getattr(profiler_service, name)
        assert isinstance(value, str) if name == "__version__" else value.__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'LstmAnswer'"):
        profiler_service.LstmAnswer  # noqa: B018


def test_importing_the_package_imports_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import profiler_service;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"profiler_service"}


INSTALL = re.compile(r"(?:pip3?|\$\(PIP\)) install(?![\w-])|\$\(INSTALL\)")
WITH_VALUE = {"-c", "--constraint", "--extra-index-url", "--index-url", "-w", "--wheel-dir"}
REQUIREMENT = re.compile(r"(?P<name>[\w./{}-]+?)(?:\[(?P<extras>[^\]]*)\])?(?:[\\.,;:]|\s|$)")
EXAMPLES = {f"./examples/{each.parent.name}" for each in ROOT.glob("examples/*/pyproject.toml")}
OTHERS = {"torch-pruning", *EXAMPLES}
"""What we tell people to install besides ourselves."""


def requirements_in(text: str) -> Iterator[str]:
    """What every `pip install` in the text installs; nothing if it is only mentioned."""
    for found in INSTALL.finditer(text):
        rest = text[found.end() :].partition("\n")[0]
        while option := re.match(r"\s+(-\S+)", rest):
            rest = rest[option.end() :]
            if option[1] in WITH_VALUE:
                rest = re.sub(r"\s+(\"[^\"]*\"|\S+)", "", rest, count=1)
        if word := re.match(r"\s+(?:'([^']+)'|\"([^\"]+)\"|([^\s`'\")]+))", rest):
            yield word[1] or word[2] or word[3]


def complaint_about(requirement: str) -> str:
    """What is wrong with telling people to install that; empty if nothing is."""
    found = REQUIREMENT.match(requirement)
    if found is None:
        return f"{requirement!r} is no requirement"
    if found["name"] in OTHERS:
        return ""
    if found["name"] not in (".", DISTRIBUTION):
        return f"{requirement!r} isn't ours"
    extras = (found["extras"] or "").split(",") if found["extras"] else []
    return "".join(f"there is no extra {extra!r}" for extra in extras if extra not in EXTRAS)


def texts() -> Iterator[tuple[str, str]]:
    """Every text file of the project but this one: its path and what it says."""
    left_out = re.compile(
        r"\.(?!ci$|gitignore$|dockerignore$).*|build|dist|site|__pycache__|.*\.egg-info"
    )
    for directory, folders, files in os.walk(ROOT):
        folders[:] = [each for each in folders if not left_out.fullmatch(each)]
        for file in files:
            path = Path(directory) / file
            if path == Path(__file__) or left_out.fullmatch(file):
                continue
            try:
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_every_pip_install_names_us_and_extras_that_exist() -> None:
    seen = set()
    for path, text in texts():
        assert not re.search(r"(?<![\w.-])lhp\[[a-z]", text), f"{path}: lhp[…] is a stranger's"
        for requirement in requirements_in(text):
            seen.add(path)
            if requirement == "{DISTRIBUTION}[{":
                continue  # install_command, tested above for each extra
            assert not complaint_about(requirement), f"{path}: {complaint_about(requirement)}"
    # Were one of these missing, the search would be broken.
    assert {"Makefile", "Dockerfile", "docs/guides/train.md"} <= seen
    assert "profiler_service/distribution.py" in seen


@pytest.mark.parametrize(
    ("text", "requirement", "complaint"),
    [
        ("hint: pip install 'lhp[measure]'", "lhp[measure]", "isn't ours"),
        ("`pip install lhp-profiler`, and", "lhp-profiler", ""),
        ("\"hint: pip install 'lhp-profiler[plot]'\\n\"", "lhp-profiler[plot]", ""),
        ("pip install -q -c constraints.txt -e '.[server,dev]'", ".[server,dev]", ""),
        ("pip install --extra-index-url \"$X\" '.[servr]'", ".[servr]", "no extra 'servr'"),
        ("$(INSTALL) --editable '.[measure]'", ".[measure]", ""),
        ("\t$(PIP) install --upgrade lhp", "lhp", "isn't ours"),
        ("(pip install torch)", "torch", "isn't ours"),
    ],
)
def test_what_a_pip_install_names(text: str, requirement: str, complaint: str) -> None:
    assert list(requirements_in(text)) == [requirement]
    found = complaint_about(requirement)
    assert complaint in found and bool(complaint) == bool(found)


def test_what_is_only_spoken_of_installs_nothing() -> None:
    assert list(requirements_in("every `pip install` in it; $(PIP) installs; pip install\nx")) == []


@pytest.mark.parametrize("path", ["Makefile", "Dockerfile"])
def test_what_runs_the_service_installs_what_every_command_needs(path: str) -> None:
    found = [REQUIREMENT.match(each) for each in requirements_in((ROOT / path).read_text())]
    extras = [
        each["extras"].split(",") for each in found if each is not None and each["name"] == "."
    ]
    needed = set().union(*NEEDED_EXTRAS.values())
    # Neither a GPU's library nor traces are needed by a command. The service's image has less.
    assert needed in [set(each) - {"gpu", "otel"} for each in extras]


def test_install_commands_name_extras() -> None:
    assert install_command("server", "measure") == "pip install 'lhp-profiler[server,measure]'"


def test_the_image_has_every_file_that_the_build_reads() -> None:
    copied = {
        word
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for word in line.split()[1:-1]
    }
    read = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "setup.py"}
    assert {*read, "constraints.txt", "profiler_service", "trainer_client", "migrations"} <= copied


def test_the_licence_is_apache_2_whole_and_unchanged() -> None:
    # The text as https://www.apache.org/licenses/LICENSE-2.0.txt has it.
    whole = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert whole == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert PROJECT["license"] == "Apache-2.0"
    metadata = importlib.metadata.metadata(DISTRIBUTION)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
