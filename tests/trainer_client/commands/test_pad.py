"""`lhp-train pad`: with modules of a user's own and with exported ones; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from profiler_service.networks import HLSTMLanguageModel
from tests.cli.conftest import real_service, start_lhp
from tests.trainer_client.groups.test_layer_kinds import settled
from trainer_client.cli import run
from trainer_client.export import load_dense, write_dense, write_sparse
from trainer_client.widths.files import load_padded

__all__ = ["real_service", "start_lhp"]

MODELS = """
import torch
from torch import nn

class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(24, 61)
        self.hidden = nn.Linear(61, 45)
        self.tags = nn.Linear(45, 10)

    def forward(self, x):
        return self.tags(torch.relu(self.hidden(self.rnn(x)[0])))

class Averaging(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(24, 5), nn.LayerNorm(5), nn.Linear(5, 10))

class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(24, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x) / self.first.out_features)

def make_wrong_input():
    return torch.randn(6, 3, 23)

def make_input():
    return torch.randn(6, 3, 24, generator=torch.Generator().manual_seed(1))

def broken():
    raise RuntimeError("no weights here")
"""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Pad = Callable[..., Finished]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of models in the working directory, new for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LHP_URL", raising=False)
    name = f"padded_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    return name


@pytest.fixture
def pad(models: str, capfd: pytest.CaptureFixture[str]) -> Pad:
    """Runs `lhp-train pad ARGUMENTS…` in this process and that directory; `M:` is the module."""

    def run_here(*arguments: str) -> Finished:
        words = [f"{models}{word[1:]}" if word.startswith("M:") else word for word in arguments]
        code = run(["pad", *words])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Finished(code=code, out=out, err=err)

    return run_here


EXAMPLE = ("--example", "M:make_input")


def test_axes_are_listed(pad: Pad) -> None:
    done = pad("M:Tagger", *EXAMPLE)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "AXIS          BEFORE  NOW",
        "rnn.units     61      61",
        "hidden.units  45      45",
        "fixed: tags: the model returns them",
    ]


def test_a_module_is_padded_to_widths(pad: Pad, models: str) -> None:
    done = pad(
        *("M:Tagger", *EXAMPLE, "--to", "rnn.units=64,hidden.units=48", "--time", "0.1"),
        *("--out", "wide/model.safetensors"),
    )
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[1:3] == ["rnn.units     61      64", "hidden.units  45      48"]
    assert lines[3].startswith("equal outputs: the largest difference is ")
    assert lines[4].startswith("whole module: ") and "times as fast (95 %)" in lines[4]
    assert lines[6] == (
        "written: wide/model.safetensors; undo: lhp-train pad wide/model.safetensors --undo"
        " --out FILE"
    )
    told = json.loads(Path("wide/model.json").read_text())
    assert [(each["before"], each["now"]) for each in told["axes"]] == [(61, 64), (45, 48)]
    assert told["largest_difference"] < 1e-6 and told["race"]["num_pairs"] >= 6
    markdown = Path("wide/model.md").read_text()
    assert markdown.startswith(f"# {models}:Tagger, padded\n")
    assert "| rnn.units | 61 | 64 | 64 |" in markdown and "| tags | the model returns" in markdown
    # Read by a program of the user's, and made narrow again.
    scope: dict[str, type[torch.nn.Module]] = {}
    exec(MODELS, scope)
    model = scope["Tagger"]().eval()
    wide = load_padded(model, "wide/model.safetensors")
    x = torch.randn(4, 2, 24)
    torch.testing.assert_close(wide(x), model(x))
    done = pad("wide/model.safetensors", "--undo", "--out", "narrow.safetensors")
    assert done.code == 0
    assert "hidden.weight: 48 × 64 → 45 × 61" in done.out.splitlines()
    narrow = load_file("narrow.safetensors")
    assert all(each.equal(narrow[name]) for name, each in model.state_dict().items())


def test_what_was_not_asked_for_stays(pad: Pad) -> None:
    done = pad(
        "M:Tagger", *EXAMPLE, "--to", "hidden.units=48", "--time", "0", "--dtype", "bfloat16"
    )
    assert done.code == 0
    assert "rnn.units     61      61   not asked for" in done.out.splitlines()
    assert "whole module" not in done.out


def test_an_exported_model_is_padded(pad: Pad) -> None:
    model = settled(HLSTMLanguageModel(11, 5, 6, 7))
    write_dense(model, "model.safetensors")
    done = pad(
        *("model.safetensors", "--to", "gate_width=8,state_width=8", "--time", "0"),
        *("--dtype", "bfloat16", "--out", "wide.safetensors"),
    )
    assert done.code == 0, done.err
    wide = load_dense("wide.safetensors")
    assert (wide.layer.gate_width, wide.layer.state_width) == (8, 8)
    assert wide.decoder_bias_v.dtype == torch.bfloat16
    done = pad("wide.safetensors", "--undo", "--out", "narrow.safetensors")
    assert done.code == 0
    expected = {name: each.bfloat16() for name, each in model.state_dict().items()}
    found = load_file("narrow.safetensors")
    assert all(each.equal(found[name]) for name, each in expected.items())
    write_sparse(model, "model.csr.safetensors")
    done = pad("model.csr.safetensors", "--to", "gate_width=8")
    assert done.code == 2 and "holds a sparse model" in done.err


def test_mistakes_are_told_with_a_hint(pad: Pad) -> None:
    write_dense(settled(HLSTMLanguageModel(11, 5, 6, 7)), "model.safetensors")
    Path("text.safetensors").write_text("no tensors")
    tagger = ("M:Tagger", *EXAMPLE)
    for arguments, code, told in (
        ((*tagger, "--to", "rnn=64"), 2, "the module has no axis 'rnn'"),
        ((*tagger, "--to", "tags.units=16"), 2, "tags is fixed: the model returns them"),
        ((*tagger, "--to", "rnn.units=60"), 2, "rnn.units=60, but there are 61 units"),
        ((*tagger, "--to", "rnn.units"), 2, "isn't one width of an axis"),
        ((*tagger, "--to", "rnn.units=64,rnn.units=65"), 2, "isn't one width of an axis"),
        ((*tagger, "--to", "rnn.units=-1"), 2, "isn't one width of an axis"),
        ((*tagger, "--to", "tags.units=16", "--logits", "rnn"), 2, "has no logits"),
        ((*tagger, "--dtype", "int8"), 2, "there is no dtype 'int8'"),
        (("M:Tagger",), 2, "the module is run"),
        (("M:Averaging", *EXAMPLE), 1, "averages over them"),
        (("M:Counting", *EXAMPLE, "--to", "first.units=8"), 1, "outputs differ by"),
        (("M:broken", *EXAMPLE), 1, "no weights here"),
        (("M:Tagger", "--example", "M:make_wrong_input"), 1, "the module raised RuntimeError"),
        (("M:nothing", *EXAMPLE), 2, "nothing"),
        (("Tagger", *EXAMPLE), 2, "doesn't say where a model comes from"),
        (("model.safetensors", *EXAMPLE), 2, "are for a module of your own"),
        (("model.safetensors", "--to", "gate_width=6"), 2, "there are 7 units"),
        (("model.safetensors", "--to", "width=6"), 2, "has no axis 'width'"),
        (("model.safetensors", "--undo"), 2, "--undo writes a file"),
        (("model.safetensors", "--undo", "--out", "o.safetensors"), 1, "has no undo map"),
        (("text.safetensors",), 1, "can't be read as a model"),
        (("nonesuch.safetensors",), 1, "can't be read"),
        ((*tagger, "--service", "http://127.0.0.1:9", "--time", "0"), 2, "--time can't be 0"),
        ((*tagger, "--service", "http://127.0.0.1:9"), 1, "http://127.0.0.1:9"),
    ):
        done = pad(*arguments)
        assert (done.code, told in done.err, "hint: " in done.err) == (code, True, True), done
        assert not Path("o.safetensors").exists()


def test_a_real_service_says_what_to_pad(
    pad: Pad, real_service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    try:
        done = pad(
            *("M:Tagger", *EXAMPLE, "--service", real_service, "--time", "0.5"),
            *("--out", "wide.safetensors"),
        )
    finally:
        torch.set_num_threads(before)
    assert done.code == 0, done.err
    assert "asking 3 questions about layers" in done.err
    told = json.loads(Path("wide.json").read_text())
    assert {each["workload"] for each in told["asked"]} == {"lstm", "linear"}
    assert all(each["lhp"] is not None and each["curve"] for each in told["asked"])
    # Whatever this machine says: what is padded has equal outputs and a race, all else a reason.
    padded = [each for each in told["axes"] if each["now"] > each["before"]]
    assert all((each in padded) != bool(each["reason"]) for each in told["axes"])
    assert bool(padded) == Path("wide.safetensors").exists()
    if padded:
        assert told["largest_difference"] < 1e-5
        assert told["race"]["verdict"] == "faster"
    else:
        assert "nothing is padded, so no weights are written" in done.out
    assert Path("wide.md").read_text().count("| linear ") == 2
