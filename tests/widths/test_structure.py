"""How layers and weights follow widths; sizes by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import nn

from profiler_service.advice.example import Example
from profiler_service.advice.layers import Layer, find_layers
from profiler_service.errors import ModelError
from profiler_service.widths.choice import total
from profiler_service.widths.structure import Group, read_structure


def look(model: nn.Module) -> Sequence[Layer]:
    return find_layers(model, batch=7, steps=1)


class Joined(nn.Module):
    """Two branches whose results are concatenated."""

    def __init__(self, left: int, right: int, out: int) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(5, left), nn.Linear(5, right)
        self.out = nn.Linear(left + right, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.out(torch.cat([self.left(x), self.right(x)], -1))
        return y


def mlp(widths: Mapping[str, int]) -> nn.Module:
    hidden, out = widths["hidden"], widths["out"]
    return nn.Sequential(
        nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, out), nn.Linear(out, 3)
    )


MLP = (
    Group(name="hidden", width=21, candidates=(16, 20, 24)),
    Group(name="out", width=9, candidates=(8, 12)),
)


def test_layers_follow_the_widths_of_their_groups() -> None:
    structure = read_structure(mlp, look, MLP)
    first, second, third = structure.layers
    assert (first.kind, dict(first.fixed)["in_features"]) == ("linear", 10)
    assert list(first.sizes) == ["out_features"]
    assert first.sizes["out_features"].over((0,), [3, 2]).tolist() == [16, 20, 24]
    assert second.groups == (0, 1)
    assert second.sizes["in_features"].at({0: 2, 1: 0}) == 24
    assert second.sizes["out_features"].at({0: 2, 1: 0}) == 8
    assert second.sizes["out_features"].at({}) == 9
    assert third.groups == (1,)
    assert dict(second.fixed)["batch"] == 7


def test_parameters_are_counted_at_every_choice() -> None:
    structure = read_structure(mlp, look, MLP)
    tables = structure.count_parameters()
    for hidden in range(3):
        for out in range(2):
            widths = {"hidden": MLP[0].candidates[hidden], "out": MLP[1].candidates[out]}
            built = sum(each.numel() for each in mlp(widths).parameters())
            counted = total(tables, (hidden, out)) + structure.count_fixed_parameters()
            assert counted == built
    assert structure.count_fixed_parameters() == 3  # the last bias


def test_a_sum_of_two_widths_has_the_changes_of_both() -> None:
    groups = [Group(name=name, width=10, candidates=(8, 16)) for name in ("left", "right", "out")]
    structure = read_structure(lambda widths: Joined(**widths), look, groups)
    joined = structure.layers[2]
    assert joined.sizes["in_features"].over((0, 1), [2, 2, 2]).tolist() == [[16, 24], [24, 32]]
    # The weight depends on three groups, so it is counted to first order around 10, 10, 10:
    # 200 now; left 8 or 16 changes it by -20 or +60, as right does; out by -40 or +120.
    # At (8, 8, 16): 200 - 20 - 20 + 120 = 280, while 16 x 16 = 256 is exact.
    left, right, out = (5 + 1) * 8, (5 + 1) * 8, 16
    assert total(structure.count_parameters(), (0, 0, 1)) == left + right + out + 280


def test_sizes_that_grow_in_jumps_are_read_at_each_candidate() -> None:
    def make(widths: Mapping[str, int]) -> nn.Module:
        return nn.Linear(4, -(-widths["n"] // 16) * 16)  # as Llama rounds its MLP

    group = Group(name="n", width=20, candidates=(16, 20, 24, 40))
    (layer,) = read_structure(make, look, [group]).layers
    assert layer.sizes["out_features"].over((0,), [4]).tolist() == [16, 32, 32, 48]


def test_a_group_that_changes_which_layers_there_are_is_refused_by_name() -> None:
    def make(widths: Mapping[str, int]) -> nn.Module:
        return nn.Sequential(*(nn.Linear(4, 4) for _ in range(widths["depth"])))

    with pytest.raises(ModelError, match="depth=2 changes which layers"):
        read_structure(make, look, [Group(name="depth", width=3, candidates=(2, 4))])


def test_says_at_which_widths_a_model_cannot_be_built() -> None:
    def make(widths: Mapping[str, int]) -> nn.Module:
        if widths["n"] % 8:
            raise ValueError("must be divisible by 8")
        return nn.Linear(4, widths["n"])

    with pytest.raises(ModelError, match=r"n=12.*divisible by 8"):
        read_structure(make, look, [Group(name="n", width=16, candidates=(8, 12, 16))])


def test_layers_without_a_kind_are_named_if_a_width_changes_them() -> None:
    def make(widths: Mapping[str, int]) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, widths["n"], 3), nn.BatchNorm2d(widths["n"]), nn.ConvTranspose2d(2, 2, 1)
        )

    def look_at(model: nn.Module) -> Sequence[Layer]:
        assert isinstance(model, nn.Sequential)
        return find_layers(model[0:2], batch=1, steps=1, example=Example(args=(IMAGES,)))

    structure = read_structure(make, look_at, [Group(name="n", width=8, candidates=(8, 16))])
    assert [layer.name for layer in structure.left_out] == ["1"]
    assert [layer.kind for layer in structure.layers] == ["conv2d"]


IMAGES = torch.zeros(2, 3, 8, 8)


def test_a_group_without_influence_is_refused_and_the_rest_goes_on() -> None:
    groups = [Group(name="unused", width=4, candidates=(4, 8)), *MLP]
    with pytest.raises(ModelError, match=r"no size .* depends on unused"):
        read_structure(mlp, look, groups)
    refused: dict[str, str] = {}
    structure = read_structure(
        mlp, look, groups, on_refused=lambda name, error: refused.update({name: str(error)})
    )
    assert list(refused) == ["unused"]
    assert structure.groups == MLP
    assert structure.layers[1].groups == (0, 1)
