"""Torch-Pruning's groups, and pruning to given widths; every width by hand.

The pruner prunes 37 %, so n units become int(0.63 n).
"""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest
import torch
import torch_pruning
from torch import nn

from profiler_service.advice.example import Example
from profiler_service.client import ServiceClient
from profiler_service.errors import ModelError
from profiler_service.widths.pruning import (
    MakePruner,
    Pruned,
    copy_model,
    find_groups,
    prune_to,
    prune_to_fastest,
)
from tests.processes.fake_worker import wait_until
from tests.widths.pruned_models import (
    Encoder,
    Recurrent,
    Residual,
    Separable,
    images,
    pruner_of,
    sentences,
)

QKV = {"attention.query": 4, "attention.key": 4, "attention.value": 4}


def widths_of(model: nn.Module, make_pruner: MakePruner) -> dict[str, tuple[int, int]]:
    """Each group's width and target, by its name."""
    return {each.name: (each.width, each.target) for each in find_groups(model, make_pruner)}


def pruned_to(model: nn.Module, make_pruner: MakePruner, **widths: int) -> nn.Module:
    return prune_to(model, make_pruner, find_groups(model, make_pruner), widths)


def shape(model: nn.Module, name: str) -> tuple[int, ...]:
    return tuple(model.get_parameter(f"{name}.weight").shape)


# Groups


def test_a_residual_stream_is_one_group() -> None:
    # int(0.63 * 20) = 12, int(0.63 * 12) = 7.
    groups = {each.name: each for each in find_groups(Residual(), pruner_of(images()))}
    stream = groups.pop("stem")
    assert (stream.width, stream.target) == (20, 12)
    assert stream.layers == ("stem", "conv2")
    (inner,) = groups.values()
    assert (inner.name, inner.width, inner.target) == ("conv1", 12, 7)


def test_channels_of_grouped_convolutions_are_counted_in_each_group() -> None:
    # 24 channels in 4 groups are 6 in each, and int(0.63 * 6) = 3. The 32 that enter are 8 in each.
    assert widths_of(Separable(), pruner_of(images())) == {
        "grouped": (6, 3),
        "point": (8, 5),
        "depthwise": (16, 10),
    }


@pytest.mark.parametrize(
    ("how", "heads"),
    [
        ({}, QKV),
        ({"fused": True}, {"attention.qkv": 4}),
    ],
)
def test_units_of_attention_are_counted_in_each_head(
    how: dict[str, Any], heads: dict[str, int]
) -> None:
    found = widths_of(Encoder(**how), pruner_of(sentences(), heads=heads))
    (attention,) = {name for name in found if name.startswith("attention.")} - {"attention.output"}
    assert found.pop(attention) == (8, 5)  # int(0.63 * 8)
    assert sorted(found.values()) == [(32, 20), (48, 30)]


def test_a_pruner_of_several_steps_is_followed_to_the_last() -> None:
    found = widths_of(Residual(), pruner_of(images(), iterative_steps=4))
    assert found == {"stem": (20, 12), "conv1": (12, 7)}


def test_entries_of_the_users_own_say_how_much_is_pruned() -> None:
    make_pruner = pruner_of(images(), own={"conv1": 0.0, "conv2": 0.5})
    assert widths_of(Residual(), make_pruner) == {"stem": (20, 10), "conv1": (12, 12)}


def test_gradients_are_there_for_measures_of_importance_that_need_them() -> None:
    model = Residual()
    model(images()).sum().backward()
    for mine, theirs in zip(model.parameters(), copy_model(model).parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert torch.equal(mine.grad, theirs.grad) and mine.grad is not theirs.grad
    taylor = torch_pruning.importance.TaylorImportance()
    assert widths_of(model, pruner_of(images(), importance=taylor))["conv1"] == (12, 7)


# Widths


def test_every_width_is_met_exactly() -> None:
    model, make_pruner = Residual(), pruner_of(images())
    groups = find_groups(model, make_pruner)
    for inner in range(1, 13):
        for stream in (1, 11, 19, 20):
            pruned = prune_to(model, make_pruner, groups, {"conv1": inner, "stem": stream})
            assert shape(pruned, "stem") == (stream, 3, 3, 3)
            assert shape(pruned, "conv1") == (inner, stream, 3, 3)
            assert shape(pruned, "conv2") == (stream, inner, 3, 3)
            assert shape(pruned, "head") == (5, stream)
            assert pruned(images()).shape == (2, 5)


def test_groups_without_a_wish_go_to_their_targets() -> None:
    pruned = pruned_to(Residual(), pruner_of(images()), conv1=9)
    assert shape(pruned, "conv1") == (9, 12, 3, 3)


def test_widths_of_grouped_and_depthwise_convolutions() -> None:
    pruned = pruned_to(Separable(), pruner_of(images()), grouped=4, point=6, depthwise=11)
    assert shape(pruned, "stem") == (11, 3, 3, 3)
    assert shape(pruned, "depthwise") == (11, 1, 3, 3)
    assert shape(pruned, "point") == (24, 11, 1, 1)  # 6 in each of 4
    assert shape(pruned, "grouped") == (16, 6, 3, 3)
    assert pruned(images()).shape == (2, 5)


@pytest.mark.parametrize(
    ("how", "heads", "rows"),
    [
        ({}, QKV, {"query": 28, "key": 28, "value": 28}),
        ({"fused": True}, {"attention.qkv": 4}, {"qkv": 84}),
    ],
)
def test_widths_of_heads(how: dict[str, Any], heads: dict[str, int], rows: dict[str, int]) -> None:
    model, make_pruner = Encoder(**how), pruner_of(sentences(), heads=heads)
    groups = find_groups(model, make_pruner)
    (name,) = {each.name for each in groups if each.width == 8}
    pruned = prune_to(model, make_pruner, groups, {name: 7})  # of each of 4 heads
    stream = 20
    for layer, number in rows.items():
        assert shape(pruned, f"attention.{layer}") == (number, stream)
    assert shape(pruned, "attention.output") == (stream, 28)
    assert pruned(sentences()).shape == (2, 5)


def test_whole_heads_may_be_pruned_as_well() -> None:
    """A quarter of four heads goes; the width is still that of each head."""
    model = Encoder()
    make_pruner = pruner_of(sentences(), heads=QKV, prune_num_heads=True, head_pruning_ratio=0.25)
    groups = find_groups(model, make_pruner)
    (head,) = (each for each in groups if each.name.startswith("attention.") and each.width == 8)
    assert head.target == 5
    pruned = prune_to(model, make_pruner, groups, {head.name: 7})
    assert shape(pruned, "attention.query") == (3 * 7, 20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_common_threshold_gives_the_targets_and_not_the_widths(dtype: torch.dtype) -> None:
    """Equal importances, which are common in bfloat16, are not pruned together."""
    model = Residual().to(dtype)
    nn.init.constant_(model.conv1.weight, 0.5)
    model.conv1.weight.data[:4] = 2.0
    make_pruner = pruner_of(images().to(dtype), global_pruning=True)
    groups = find_groups(model, make_pruner)
    pruned = prune_to(model, make_pruner, groups, {"conv1": 6, "stem": 17})
    assert shape(pruned, "conv1") == (6, 17, 3, 3)


def test_the_model_itself_stays_as_it_is() -> None:
    model = Residual().train()
    model.norm1.eval()
    before = copy.deepcopy(model)
    pruned = pruned_to(model, pruner_of(images()), conv1=9)
    assert model.state_dict().keys() == before.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before.state_dict()[name])
    # The copy is in the same modes, though the pruner evaluates it.
    for each in (model, pruned):
        assert each.training and each.get_submodule("conv1").training
        assert not each.get_submodule("norm1").training


def test_a_model_in_channels_last_stays_so() -> None:
    model = Residual().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pruned = pruned_to(model, pruner_of(images()), conv1=9)
    weight = pruned.get_parameter("conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert pruned_to(Residual(), pruner_of(images())).get_parameter("conv1.weight").is_contiguous()


def test_the_finish_is_called_with_each_pruned_model() -> None:
    model, make_pruner = Residual(), pruner_of(images())
    seen: list[nn.Module] = []
    pruned = prune_to(model, make_pruner, find_groups(model, make_pruner), {}, finish=seen.append)
    assert seen == [pruned]


def test_an_ignored_lstm_keeps_its_units() -> None:
    make_pruner = pruner_of(torch.randn(3, 2, 10), ignored=("head", "lstm"))
    found = widths_of(Recurrent(), make_pruner)
    assert found == {"first": (24, 15), "second": (16, 10)}
    pruned = pruned_to(Recurrent(), make_pruner, second=13)
    assert pruned.get_submodule("lstm").input_size == 13
    assert pruned(torch.randn(3, 2, 10)).shape == (3, 2, 5)


# The whole


def test_a_real_service_is_asked_and_whole_models_are_raced(real_service: str) -> None:
    wait_until(lambda: httpx.get(f"{real_service}/readyz").status_code == 200)
    model, lines = Residual(), list[str]()

    def search(params: tuple[float, float] | None) -> Pruned:
        with ServiceClient(real_service) as client:
            return prune_to_fastest(
                client,
                model,
                pruner_of(images()),
                Example(args=(images(),)),
                params=params,
                time_s=4.0,
                say=lines.append,
            )

    within = search((0.9, 1.1))
    found = within.found
    assert found.now.widths == {"stem": 12, "conv1": 7}
    assert found.now.num_parameters == sum(
        # stem, conv1 and its norm, conv2, head, each with a bias or two
        (12 * 3 * 9 + 12, 7 * 12 * 9 + 7, 2 * 7, 12 * 7 * 9 + 12, 5 * 12 + 5)
    )
    for proposal in found.proposals.values():
        assert 0.9 <= proposal.num_parameters / found.now.num_parameters <= 1.1
    chosen = found.best.widths
    assert shape(within.model, "conv1") == (chosen["conv1"], chosen["stem"], 3, 3)
    assert within.model(images()).shape == (2, 5)
    assert not found.missing
    assert [each.name for each in found.left_out] == ["norm1"]  # no workload kind measures it
    assert "layers that follow these widths: 4" in lines
    # Without bounds, nothing is smaller than its target, and nothing larger than before.
    for proposal in search(None).found.proposals.values():
        assert 12 <= proposal.widths["stem"] <= 20
        assert 7 <= proposal.widths["conv1"] <= 12


# Bad input


def complaint_of(model: nn.Module, make_pruner: MakePruner, given: torch.Tensor) -> ModelError:
    """What stops the search: nobody listens on port 9, so it never asks the service."""
    with (
        ServiceClient("http://127.0.0.1:9") as client,
        pytest.raises(ModelError) as caught,
    ):
        prune_to_fastest(client, model, make_pruner, Example(args=(given,)))
    return caught.value


def test_a_pruner_that_prunes_nothing() -> None:
    found = complaint_of(Residual(), pruner_of(images(), pruning_ratio=0.0), images())
    assert str(found) == "the pruner leaves every width as it is"
    assert "pruning_ratio above 0" in found.hint


def test_a_pruner_that_rounds_by_itself() -> None:
    found = complaint_of(Residual(), pruner_of(images(), round_to=4), images())
    # 20 becomes 12, a multiple of 4. The candidates are 9 to 15: the least is rounded down to 8.
    assert "the pruner left 8 of stem, and not 9" in str(found)
    assert "no round_to" in found.hint


def test_a_pruner_that_ignores_the_ratios() -> None:
    make_pruner = pruner_of(images())
    found = complaint_of(Residual(), lambda model, _: make_pruner(model, {}), images())
    assert "the pruner left 12 of stem, and not 9" in str(found)
    assert "pruning_ratio_dict" in found.hint


def test_entries_of_the_users_own_come_before_ours() -> None:
    assert shape(
        pruned_to(Residual(), pruner_of(images(), own={"conv1": 0.5}), conv1=9), "conv1"
    ) == (9, 12, 3, 3)
    # Also those of another layer of the group.
    of_block = pruner_of(images(), own={"conv2": 0.5})
    assert shape(pruned_to(Residual(), of_block, stem=17), "stem") == (17, 3, 3, 3)
    after = pruner_of(images(), own={"conv1": 0.5}, own_first=False)
    found = complaint_of(Residual(), after, images())
    assert "the pruner left 6 of conv1, and not 5" in str(found)
    assert "after entries of your own" in found.hint


def test_layers_of_the_original_instead_of_the_copy() -> None:
    """Torch-Pruning takes them, and then prunes the head, or forgets the heads of attention."""
    model = Residual()

    def make_pruner(copied: nn.Module, ratios: dict[nn.Module, float]) -> Any:
        return torch_pruning.pruner.BasePruner(
            copied,
            images(),
            importance=torch_pruning.importance.MagnitudeImportance(),
            pruning_ratio_dict=ratios,
            ignored_layers=[model.head],
        )

    found = complaint_of(model, make_pruner, images())
    assert "of another model than the one that it gets" in str(found)
    assert "a copy" in found.hint
    whole = complaint_of(model, lambda _, ratios: pruner_of(images())(model, {}), images())
    assert str(whole) == str(found)
    assert shape(model, "conv1") == (12, 20, 3, 3)  # nothing happened to it


def test_what_is_no_pruner() -> None:
    found = complaint_of(Residual(), lambda model, ratios: None, images())
    assert str(found) == "make_pruner gives a NoneType, no pruner of Torch-Pruning"


def test_a_make_pruner_that_raises() -> None:
    found = complaint_of(Residual(), pruner_of(images(), ignored=("tail",)), images())
    assert "make_pruner raised AttributeError" in str(found)
    assert "tail" in str(found)


def test_a_layer_that_torch_pruning_cannot_prune() -> None:
    """Version 1.6 selects the rows of an LSTM's four gates from those of one."""
    given = torch.randn(3, 2, 10)
    found = complaint_of(Recurrent(), pruner_of(given), given)
    assert "the pruner raised IndexError" in str(found)
    assert "ignored_layers" in found.hint


def test_heads_that_share_keys_and_values() -> None:
    """Version 1.6 prunes the queries, the keys and the values each in their own way."""
    heads = {**QKV, "attention.key": 2, "attention.value": 2}
    found = complaint_of(Encoder(shared=2), pruner_of(sentences(), heads=heads), sentences())
    # Two heads of 8 are 16 values. It takes the queries' share off them, and then their own.
    assert "the pruner left 8 of attention.value, and not 2" in str(found)


def test_an_example_that_the_model_does_not_take() -> None:
    found = complaint_of(Residual(), pruner_of(images()), torch.randn(2, 4, 8, 8))
    assert "the model, run on the example input, raised RuntimeError" in str(found)


class Stubborn(Residual):
    """It keeps the size of its stream as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 20

    def forward(self, x_bcrr: torch.Tensor) -> torch.Tensor:
        # The pruner's run may not see it: only what the convolutions give decides there.
        assert torch.is_grad_enabled() or self.stem(x_bcrr).shape[1] == self.num_features, "sizes"
        return super().forward(x_bcrr)


def test_a_model_that_keeps_a_size_of_its_own() -> None:
    found = complaint_of(Stubborn(), pruner_of(images()), images())
    assert str(found).startswith("the pruned model doesn't run: the model, run on the example")
    assert "finish" in found.hint
