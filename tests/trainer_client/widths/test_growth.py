"""Which axes are grown: by what the oracle says of their layers, and by what a race shows."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from profiler_service.errors import MeasurementFailedError
from tests.trainer_client.groups.test_discovery import WORDS, Tagger
from tests.trainer_client.groups.test_layer_kinds import batch_net, draw, settled
from tests.trainer_client.groups.test_padding import Counting
from tests.trainer_client.widths.stand_ins import EightsOracle, RuledRace
from trainer_client.groups.layout import LayoutError
from trainer_client.oracle.protocol import ServiceAwayError
from trainer_client.widths.growth import grow_to_lhp

# Shapes: B batch.


def mlp() -> nn.Sequential:
    """The widths 45 and 37 aren't multiples of eight; the input's 40 and the output's 50 stay."""
    return settled(
        nn.Sequential(
            *(nn.Linear(40, 45), nn.ReLU(), nn.Linear(45, 37), nn.Sigmoid(), nn.Linear(37, 50)),
        )
    )


def out_features(model: nn.Module) -> tuple[int, ...]:
    return tuple(each.out_features for each in model.modules() if isinstance(each, nn.Linear))


LARGER_WINS = RuledRace(lambda each: 1 / sum(weight.numel() for weight in each.parameters()))


def test_each_axis_that_pays_is_grown() -> None:
    model, x = mlp(), draw(6, 40)
    oracle = EightsOracle()
    # Each width that isn't a multiple of eight costs a second.
    race = RuledRace(lambda each: 1.0 + sum(width % 8 != 0 for width in out_features(each)))
    grown = grow_to_lhp(model, x, oracle=oracle, race=race, time_s=8)
    assert grown.widths == {"0.units": (45, 48), "2.units": (37, 40)}
    assert out_features(grown.module) == (48, 40, 50)
    torch.testing.assert_close(grown.module(draw(3, 40, seed=5)), model(draw(3, 40, seed=5)))
    assert grown.padded is not None and grown.padded.largest_difference < 1e-6
    # The output's 50 cost a second in each. With both axes 2 s, without one of them 3 s.
    # Then the grown module is judged against the original one.
    assert race.met == [(3.0, 2.0), (3.0, 2.0), (4.0, 2.0)]
    assert race.times_s == [2.0, 2.0, 4.0]  # half of the time for the axes, shared evenly
    assert grown.outcome is not None
    assert grown.outcome.comparison.ratio == pytest.approx(0.5)
    assert grown.refused == {"4": "the model returns them"}
    assert out_features(grown.undo()) == (45, 37, 50)
    assert out_features(model) == (45, 37, 50)


def test_layers_are_asked_about_as_they_run() -> None:
    oracle = EightsOracle()
    grow_to_lhp(mlp(), draw(6, 40), oracle=oracle, race=RuledRace(lambda _: 1.0))
    shared = {"batch": 6, "bias": "yes", "dtype": "float32"}
    # Dims are (out, in). What no axis changes is kept as it is: its next multiple is too far.
    assert oracle.asked == [
        ((45, 40), "linear", shared, (1, 40)),
        ((37, 45), "linear", shared, (1, 1)),
        ((50, 37), "linear", shared, (50, 1)),
    ]


def test_recurrent_layers_and_those_of_images_are_asked_about() -> None:
    oracle = EightsOracle()
    grow_to_lhp(Tagger(layers=1), WORDS, oracle=oracle, race=RuledRace(lambda _: 1.0))
    # An embedding has no axis of its workload for its width: words are its dims.
    assert [(dims, workload) for dims, workload, *_ in oracle.asked] == [
        ((6, 5), "lstm"),
        ((7, 6), "linear"),
        ((3, 7), "linear"),
    ]
    asked_of = oracle.asked[0][2]
    assert (asked_of["batch"], asked_of["steps"], asked_of["dtype"]) == (2, 4, "float32")
    oracle = EightsOracle()
    grown = grow_to_lhp(batch_net(), draw(2, 3, 4, 4), oracle=oracle, race=LARGER_WINS)
    asked = {(dims, workload): multiples for dims, workload, _, multiples in oracle.asked}
    assert asked[(5, 3), "conv2d"] == (1, 3)
    # Each channel of the flat image is four columns.
    assert asked[(4, 24), "linear"] == (4, 4)
    assert grown.widths["0.units"] == (5, 8) and grown.widths["7.units"] == (6, 8)


def test_equal_layers_are_asked_about_once() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 13), nn.Linear(13, 3)
            self.blocks = nn.ModuleList(nn.Linear(13, 13) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            for block in self.blocks:
                x = x + block(x)
            result: Tensor = self.last(x)
            return result

    oracle = EightsOracle()
    grown = grow_to_lhp(
        settled(Blocks()), draw(2, 3), oracle=oracle, race=RuledRace(lambda m: out_features(m)[0])
    )
    assert [dims for dims, *_ in oracle.asked] == [(13, 3), (3, 13), (13, 13)]
    assert grown.asked[2].names == ("blocks.0", "blocks.1", "blocks.2")
    # By the race 16 is slower than 13, whatever the layers promise.
    assert grown.widths == {"first.units": (13, 13)} and grown.axes[0].proposed == 16


def test_an_axis_that_does_not_pay_is_left() -> None:
    model = mlp()
    # Growing the first axis gains, growing the second one loses.
    race = RuledRace(lambda each: (out_features(each)[0] % 8 > 0) + out_features(each)[1])
    grown = grow_to_lhp(model, draw(6, 40), oracle=EightsOracle(), race=race)
    assert grown.widths == {"0.units": (45, 48), "2.units": (37, 37)}
    first, second = grown.axes
    assert (first.reason, second.proposed) == ("", 40)
    assert second.reason == "the module isn't surely faster by 0.5% with it than without"
    assert second.layers == ("2", "4")


def test_axes_that_pay_only_together_are_grown() -> None:
    race = RuledRace(lambda each: 1.0 if out_features(each)[:2] == (48, 40) else 2.0)
    grown = grow_to_lhp(mlp(), draw(6, 40), oracle=EightsOracle(), race=race)
    assert grown.widths == {"0.units": (45, 48), "2.units": (37, 40)}


@pytest.mark.parametrize("later", [0.996, 1.0, 1.2])
def test_a_module_that_nothing_makes_faster_stays(later: float) -> None:
    """Nor by less than another process may differ from this one."""
    model = mlp()
    race = RuledRace(lambda each: 1.0 if each is model else later)
    grown = grow_to_lhp(model, draw(6, 40), oracle=EightsOracle(), race=race)
    assert grown.module is model and grown.undo() is model and grown.padded is None
    assert grown.outcome is not None
    assert grown.outcome.comparison.ratio == pytest.approx(later)
    assert all(each.now == each.before and each.reason for each in grown.axes)


def test_without_a_proposal_there_is_no_race() -> None:
    model = settled(nn.Sequential(nn.Linear(40, 48), nn.ReLU(), nn.Linear(48, 50)))
    grown = grow_to_lhp(model, draw(6, 40), oracle=EightsOracle(), race=RuledRace(lambda _: 1.0))
    assert grown.outcome is None and grown.module is model
    assert grown.axes[0].reason == "nothing larger is faster for its layers"


def test_an_axis_that_cant_be_padded_is_refused_and_the_others_are_grown() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.counting, self.mlp = Counting(), nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 2))

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.mlp(self.counting(x))
            return result

    race = RuledRace(lambda each: 1 / sum(out_features(each)))
    grown = grow_to_lhp(settled(Both()), draw(2, 3), oracle=EightsOracle(), race=race)
    reasons = {each.axis: each.reason for each in grown.axes}
    assert "outputs differ by" in reasons["counting.first.units"]
    assert grown.widths["mlp.0.units"] == (5, 8)


def test_errors_of_the_oracle() -> None:
    model, race = Tagger(layers=1), LARGER_WINS
    failed = MeasurementFailedError("out of memory", hint="smaller")
    oracle = EightsOracle({"lstm": failed})
    grown = grow_to_lhp(model, WORDS, oracle=oracle, race=race)
    problems = {layer.names: layer.problem for layer in grown.asked}
    assert problems == {("rnn",): "out of memory", ("hidden",): "", ("tags",): ""}
    reasons = {each.axis: each.reason for each in grown.axes}
    assert reasons["embed.units"] == "not answered: out of memory"
    with pytest.raises(MeasurementFailedError):  # all failed
        grow_to_lhp(model, WORDS, oracle=EightsOracle({"lstm": failed, "linear": failed}))
    away = ServiceAwayError("no answer", hint="start it")
    with pytest.raises(ServiceAwayError):  # it concerns all
        grow_to_lhp(model, WORDS, oracle=EightsOracle({"linear": away}))
    with pytest.raises(LayoutError, match="it has no layers"):
        grow_to_lhp(nn.ReLU(), draw(2), oracle=EightsOracle())


def test_a_real_race_has_an_interval() -> None:
    model = settled(nn.Sequential(nn.Linear(40, 45), nn.ReLU(), nn.Linear(45, 50)))
    grown = grow_to_lhp(model, draw(6, 40), oracle=EightsOracle(), time_s=0.05)
    assert grown.outcome is not None
    comparison = grown.outcome.comparison
    assert comparison.num_pairs >= 6 and 0 < comparison.low <= comparison.high
    assert (grown.module is model) == (comparison.high >= 0.995)


def test_the_package_loads_no_torch_until_it_is_needed() -> None:
    program = (
        "import sys, trainer_client\nassert 'torch' not in sys.modules\n"
        "from trainer_client import grow_to_lhp\nassert 'torch' in sys.modules\n"
        "assert grow_to_lhp.__module__ == 'trainer_client.widths.growth'\n"
        "try:\n    trainer_client.nothing\nexcept AttributeError:\n    sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == 7
