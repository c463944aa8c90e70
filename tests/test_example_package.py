"""The example package, installed by pip and swept by the real worker's parts."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from profiler_service.grid import Grid, GridAxis
from profiler_service.kinds import get_workload_kind, kinds_left_out
from profiler_service.measurement.measurer import Measurer
from profiler_service.measurement.operations import Operands, load_builder
from profiler_service.plan.spec import SweepSpec, SweepState
from profiler_service.processes.sweep_runner import SweepRunner
from profiler_service.storage import schema
from profiler_service.storage.store import Store
from profiler_service.workload import WorkloadKind
from tests.kind_packages import loaded_anew

EXAMPLES = Path(__file__).parent.parent / "examples"


def install(name: str, directory: Path) -> Path:
    """The directory into which pip installed the example, and nothing into the source directory."""
    shutil.copytree(EXAMPLES / name, directory / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    target = directory / "installed"
    subprocess.run([*pip, *offline, "--target", str(target), str(directory / "source")], check=True)
    return target


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the example."""
    return install("transformer_mlp", tmp_path_factory.mktemp("example"))


@pytest.fixture
def kind(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkloadKind]:
    monkeypatch.syspath_prepend(installed)
    with loaded_anew():
        assert kinds_left_out() == ()
        yield get_workload_kind("transformer_mlp")


def test_it_is_swept(kind: WorkloadKind, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lhp.sqlite'}"
    schema.upgrade(url)
    store = Store.open(url)
    with Measurer(device="cpu") as measurer:
        store.register_host(
            "host", measurer.platform, protocol=measurer.protocol, dtypes=measurer.dtypes
        )
        grid = Grid(axes=(GridAxis(first=64, count=2, step=64), GridAxis(first=16, count=2)))
        workload = kind.describe({"tokens": 8})
        spec = SweepSpec(workload=workload, mode="grid", grid=grid)
        sweep, _ = store.create_sweep(spec, host="host")
        runner = SweepRunner(store=store, measurer=measurer)
        while not runner.run_batch(sweep.id):
            pass
    ended = store.get_sweep(sweep.id)
    assert ended.state is SweepState.DONE and ended.curve_id is not None, ended.error
    curve = store.load_curve(ended.curve_id)
    store.close()
    assert curve.num_measured == 4 and (curve.latency_s > 0).all() and not curve.failures
    assert curve.workload.key == "transformer_mlp[dtype=float32,tokens=8]"


def test_it_computes_a_transformers_mlp(kind: WorkloadKind) -> None:
    operands = TracedOperands("float32", "cpu", random.Random(0))
    operands.weight(1000), operands.input(1000)  # large enough for what follows
    operands.start_visit()
    operands.taken.clear()
    with torch.inference_mode():
        params = dict(kind.describe({"tokens": 3}).params)
        result = load_builder(kind.builder)(operands, (8, 5), params)()
        up_hm, up_bias_h, down_mh, down_bias_m, x_tm = operands.taken
        hidden_th = F.gelu(x_tm @ up_hm.T + up_bias_h)
        torch.testing.assert_close(result, hidden_th @ down_mh.T + down_bias_m)
    assert x_tm.shape == (3, 5) and up_hm.shape == (8, 5)


class TracedOperands(Operands):
    """Operands that remember what was taken."""

    def __init__(self, dtype: str, device: str, rng: random.Random) -> None:
        super().__init__(dtype, device, rng)
        self.taken: list[torch.Tensor] = []

    def weight(self, *shape: int) -> torch.Tensor:
        self.taken.append(super().weight(*shape))
        return self.taken[-1]

    def input(self, *shape: int) -> torch.Tensor:
        self.taken.append(super().input(*shape))
        return self.taken[-1]


def test_memory_and_operations_by_hand(kind: WorkloadKind) -> None:
    params = dict(kind.describe({"tokens": 3, "dtype": "bfloat16"}).params)
    # Weights 2 · 8 · 5, biases 8 + 5; input and result 3 · 5 each, hidden layer 3 · 8 twice.
    assert kind.operand_bytes((8, 5), params) == 2 * (80 + 13 + 30 + 48)
    assert kind.flops((8, 5), params) == 2 * 3 * 80


def test_the_service_needs_no_torch_for_it(installed: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "from profiler_service.kinds import get_workload_kind\n"
        "get_workload_kind('transformer_mlp'); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
