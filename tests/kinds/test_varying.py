"""Workloads whose axes aren't the kind's own: any whole number may vary."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from profiler_service.errors import InvalidDimsError, InvalidWorkloadError
from profiler_service.grid import Grid
from profiler_service.kinds import DEEPSPEECH2, HLSTM, LINEAR, LSTM, get_workload_kind
from profiler_service.kinds.kernels import find_kernels
from profiler_service.plan.create import create_planner
from profiler_service.plan.modes import Mode
from profiler_service.plan.race.guide import find_factors
from profiler_service.plan.spec import SweepSpec
from profiler_service.plan.window import build_window, find_refused
from profiler_service.workload import WorkloadKind
from tests.kind_packages import GROUPED, install_kind, loaded_anew
from tests.synthetic import PLATFORM, PROTOCOL, SyntheticDevice

VARIED = LINEAR.describe({"vary": "batch,out_features", "in_features": "317"})


def test_what_varies_are_the_axes_and_the_rest_are_parameters() -> None:
    assert VARIED.axes == ("batch", "out_features")
    assert dict(VARIED.params) == {
        "backend": "dense",
        "dtype": "float32",
        "in_features": 317,
        "vary": "batch,out_features",
    }


def test_keys_are_distinct_and_those_of_the_own_axes_stay() -> None:
    own = "linear[backend=dense,batch=16,dtype=float32]"
    assert LINEAR.describe().key == own
    assert LINEAR.describe({"vary": "out_features, in_features"}) == LINEAR.describe()
    keys = {
        LINEAR.describe(given).key
        for given in (
            {},
            {"vary": "in_features,out_features"},
            {"vary": "batch", "out_features": 5, "in_features": 6},
            {"vary": "batch", "out_features": 6, "in_features": 5},
            {"vary": "batch,out_features", "in_features": 6},
            {"vary": "out_features,batch", "in_features": 6},
            {"vary": "out_features,in_features,batch"},
        )
    }
    assert len(keys) == 7
    assert VARIED.key == (
        "linear[backend=dense,dtype=float32,in_features=317,vary=batch,out_features]"
    )


def test_a_point_unfolds_to_the_dims_and_parameters_of_the_kind() -> None:
    dims, params = LINEAR.unfold((100, 1197), dict(VARIED.params))
    assert dims == (1197, 317)
    assert params == {"backend": "dense", "dtype": "float32", "batch": 100}
    # Weight, input and result, 4 bytes each.
    assert LINEAR.operand_bytes(dims, params) == 4 * (1197 * 317 + 100 * (1197 + 317))
    own = LINEAR.describe()
    assert LINEAR.unfold((5, 6), dict(own.params)) == ((5, 6), dict(own.params))
    # Permuted axes: in_features first.
    turned = LINEAR.describe({"vary": "in_features,out_features"})
    assert LINEAR.unfold((6, 5), dict(turned.params))[0] == (5, 6)


def test_a_sweep_over_other_axes_survives_json() -> None:
    spec = SweepSpec(workload=VARIED, mode="race", grid=Grid.window((100, 1197), (32, 149)))
    assert SweepSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"vary": "dtype"}, "dtype is no whole number", "can vary: out_features, in_features, b"),
        ({"vary": "bach"}, "there is no 'bach'", "did you mean 'batch'"),
        ({"vary": ""}, "there is no ''", "can vary"),
        ({"vary": 3}, "there is no '3'", "can vary"),
        (
            {"vary": "batch,batch", "out_features": 1, "in_features": 1},
            "names something twice",
            "can vary",
        ),
        ({"vary": "batch"}, "out_features neither varies nor has a value", "out_features=1024"),
        (
            {"vary": "batch,out_features", "in_features": 3, "batch": 4},
            "batch varies, and can't have a value as well",
            "dims, which are batch,out_features",
        ),
        ({"in_features": 3}, "in_features varies", "say with vary what varies"),
        (
            {"vary": "batch,out_features", "in_features": "many"},
            "in_features='many' is not a whole number",
            "in_features",
        ),
    ],
)
def test_what_cannot_vary_is_refused(given: Mapping[str, object], message: str, hint: str) -> None:
    with pytest.raises(InvalidWorkloadError, match=message) as caught:
        LINEAR.describe(given)
    assert hint in caught.value.hint


def test_decimals_and_choices_cannot_vary() -> None:
    assert LINEAR.can_vary == ("out_features", "in_features", "batch")
    assert LSTM.can_vary == ("hidden_size", "input_size", "batch", "steps", "layers")
    assert [each.name for each in HLSTM.parameters if not each.can_vary] == [
        "dtype",
        "backend",
        "sparsity",
    ]


def test_bounds_of_a_parameter_clip_the_window_and_refuse_dims() -> None:
    # An LSTM has at most 64 layers, and a spectrogram at least 31 frames.
    layers = LSTM.describe({"vary": "layers", "hidden_size": 9, "input_size": 9})
    assert build_window(layers, (40,), max_growth=1).last == (64,)
    with pytest.raises(InvalidDimsError, match="layers=65 is outside 1 to 64"):
        build_window(layers, (65,), max_growth=1)
    frames = DEEPSPEECH2.describe({"vary": "frames", "width": 8})
    with pytest.raises(InvalidDimsError, match="frames=30 is outside 31 to"):
        build_window(frames, (30,), max_growth=1)


def test_rules_for_several_parameters_still_hold() -> None:
    given = {"sparsity": "0.5", "vary": "batch", "out_features": "5", "in_features": "6"}
    with pytest.raises(InvalidWorkloadError, match="at batch=60: sparsity"):
        build_window(LINEAR.describe(given), (60,), max_growth=0)
    # If only the kind's own axes vary, the rule needs no point.
    with pytest.raises(InvalidWorkloadError, match="sparsity"):
        LINEAR.describe({"vary": "in_features,out_features", "sparsity": "0.5"})


@pytest.fixture
def grouped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkloadKind]:
    """A kind whose groups must divide its batch; by default, 4 and 16."""
    monkeypatch.syspath_prepend(tmp_path)
    with loaded_anew():
        install_kind(tmp_path, "grouped", GROUPED, attribute="GROUPED")
        yield get_workload_kind("grouped")


def test_rules_see_the_values_that_are_measured(grouped: WorkloadKind) -> None:
    given = {"vary": "batch,size", "groups": "5"}
    by_five = grouped.describe(given)  # the default batch of 16 isn't asked about
    assert build_window(by_five, (60, 8), max_growth=0).first == (60, 8)
    with pytest.raises(InvalidWorkloadError, match="at batch=16, size=8: groups must") as caught:
        build_window(by_five, (16, 8), max_growth=0)
    assert caught.value.hint == "choose a multiple of groups"
    with pytest.raises(InvalidWorkloadError, match=r"^groups must divide batch"):
        grouped.describe({"groups": "5"})


def test_points_that_a_rule_refuses_are_named(grouped: WorkloadKind) -> None:
    both = grouped.describe({"vary": "batch,groups", "size": "8"})
    # batch 8, 9, 10 × groups 2, 3: all but 8/2, 9/3 and 10/2.
    assert find_refused(both, Grid.window((8, 2), (2, 1))).tolist() == [1, 2, 5]
    # Own axes make no difference: batch 8, 9 × size 5, 6.
    sized = grouped.describe({"vary": "batch,size"})
    assert find_refused(sized, Grid.window((8, 5), (1, 1))).tolist() == [2, 3]
    assert not len(find_refused(grouped.describe(), Grid.window((5,), (9,))))


@pytest.mark.parametrize("mode", ["race", "survey", "nearest", "largest"])
def test_a_race_visits_no_point_that_a_rule_refuses(grouped: WorkloadKind, mode: Mode) -> None:
    workload = grouped.describe({"vary": "batch,size"})
    grid = Grid.window((60, 60), (20, 20))
    batch = grid.all_dims()[:, 0]
    # A larger batch is faster: the fastest is 80, and 79 to 77 are refused.
    device = SyntheticDevice(latency_s=1e-4 * (1 - (batch - 60) / 100), noise=0.01)
    planner = create_planner(SweepSpec(workload=workload, mode=mode, grid=grid))
    visited: set[int] = set()
    while (asked := planner.next_batch()) is not None:
        visited.update(batch[asked.point].tolist())
        planner.record(device.measure(asked))
    assert visited <= {60, 64, 68, 72, 76, 80}
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    target = int(planner.build_curve(PLATFORM, PROTOCOL, now).answers.target[0])
    assert batch[target] > 60 and batch[target] % 4 == 0


def test_kernels_and_guides_are_for_the_own_axes() -> None:
    assert find_kernels(LINEAR.describe(), (5, 6)) is not None
    assert find_kernels(VARIED, (5, 6)) is None
    own = {"batch": 16}
    assert find_factors(LSTM.describe(own), LINEAR.describe(own)) is not None
    varied = LSTM.describe({"vary": "steps,hidden_size", "input_size": 5, **own})
    assert find_factors(varied, LINEAR.describe(own)) is None
    assert find_factors(LSTM.describe(), VARIED) is None
