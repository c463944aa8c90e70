"""What is asked about each class of layers, and which of its forms are refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from profiler_service.advice.example import Example
from profiler_service.advice.layers import Layer, find_layers
from profiler_service.kinds import get_workload_kind
from tests.advice.test_layers import describe, params_of


def find(model: nn.Module, *args: object, **kwargs: object) -> list[Layer]:
    """The layers, with an example of these arguments; without any, without an example."""
    example = Example(args=args, kwargs=kwargs) if args or kwargs else None
    return find_layers(model, batch=16, steps=70, example=example)


# Convolutions


def test_a_convolution_is_asked_about_with_its_image() -> None:
    layer = nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2)
    [found] = find(layer, torch.zeros(5, 6, 20, 30))
    assert describe([found]) == [("", "conv2d", (8, 6))]
    assert params_of(found) == {
        "batch": 5,
        "height": 20,
        "width": 30,
        "kernel": 3,
        "stride": 2,
        "padding": 1,
        "groups": 2,
        "layout": "channels_first",
        "dtype": "float32",
    }
    assert found.sizes((10, 6)) == {"out_channels": 10, "in_channels": 6}
    assert found.num_parameters == 8 * 3 * 9 + 8


@pytest.mark.parametrize(
    ("layer", "padding"),
    [
        (nn.Conv2d(4, 4, 5, padding="same"), 2),
        (nn.Conv2d(4, 4, 5, padding="valid"), 0),
        (nn.Conv2d(4, 4, 1), 0),
    ],
)
def test_paddings_that_have_names(layer: nn.Module, padding: int) -> None:
    [found] = find(layer, torch.zeros(4, 9, 9))  # one image
    assert not found.problem
    assert (params_of(found)["padding"], params_of(found)["batch"]) == (padding, 1)


def test_a_convolution_with_a_kernel_a_channel_is_depthwise() -> None:
    [found] = find(nn.Conv2d(6, 6, 3, groups=6), torch.zeros(1, 6, 9, 9))
    assert describe([found]) == [("", "depthwise_conv2d", (6,))]
    assert "groups" not in params_of(found)
    assert found.sizes((8,)) == {"in_channels": 8, "out_channels": 8, "groups": 8}
    # Two kernels a channel: groups that must stay.
    [found] = find(nn.Conv2d(6, 12, 3, groups=6), torch.zeros(1, 6, 9, 9))
    assert describe([found]) == [("", "conv2d", (12, 6))]
    # One channel is no group.
    [found] = find(nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 9, 9))
    assert describe([found]) == [("", "conv2d", (1, 1))]


def test_the_layout_is_that_of_the_images_or_of_the_weight() -> None:
    images = torch.zeros(2, 4, 9, 9)
    last = images.to(memory_format=torch.channels_last)
    weight_last = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer, given, layout in (
        (nn.Conv2d(4, 8, 3), images, "channels_first"),
        (nn.Conv2d(4, 8, 3), last, "channels_last"),
        (weight_last, images, "channels_last"),
    ):
        [found] = find(layer, given)
        assert params_of(found)["layout"] == layout


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (nn.Conv2d(4, 4, (3, 5)), "its kernel is 3 × 5"),
        (nn.Conv2d(4, 4, 3, stride=(1, 2)), "its stride is 1 × 2"),
        (nn.Conv2d(4, 4, 3, padding=(1, 2)), "its padding isn't the same on each side"),
        (nn.Conv2d(4, 4, 2, padding="same"), "its padding isn't the same on each side"),
        (nn.Conv2d(4, 4, 3, dilation=2), "its dilation is 2"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "it pads by circular"),
        (nn.ConvTranspose2d(4, 4, 3), "no workload kind measures it"),
        (nn.Conv1d(4, 4, 3), "no workload kind measures it"),
    ],
)
# torch says that padding to an even kernel's size copies the images.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_convolutions_that_arent_measured(layer: nn.Module, problem: str) -> None:
    [found] = find(
        layer, torch.zeros(1, 4, 9, 9) if "2d" in type(layer).__name__ else torch.zeros(1, 4, 9)
    )
    assert problem in found.problem


def test_a_convolution_whose_image_isnt_known() -> None:
    [found] = find(nn.Conv2d(4, 4, 3))
    assert "the height and width of its images aren't known: give an --example" in found.problem


# Vocabularies


def test_an_embedding_copies() -> None:
    [found] = find(nn.Embedding(50, 6), torch.zeros(2, 7, dtype=torch.long))
    assert describe([found]) == [("", "embedding", (50,))]
    assert params_of(found) == {"batch": 14, "width": 6, "dtype": "float32"}
    assert found.notes == ("copies rows of its table, and multiplies nothing (no FLOPs)",)
    assert found.sizes((64,)) == {"num_embeddings": 64}


def test_embeddings_that_arent_measured() -> None:
    [found] = find(nn.Embedding(50, 6, max_norm=1.0))
    assert "max_norm" in found.problem
    [found] = find(nn.EmbeddingBag(50, 6))
    assert found.problem == "no workload kind measures it"


# Attention


def test_self_attention_projects_its_input_by_one_product() -> None:
    x_bse = torch.zeros(2, 5, 6)
    layer = nn.MultiheadAttention(6, 3, batch_first=True)
    projection, attention, output = find(layer, x_bse, x_bse, value=x_bse)
    assert describe([projection, output]) == [
        ("in_proj", "linear", (18, 6)),
        ("out_proj", "linear", (6, 6)),
    ]
    # 2 · 5 tokens.
    with_bias = {"batch": 10, "bias": "yes", "dtype": "float32"}
    assert params_of(projection) == params_of(output) == with_bias
    assert projection.question and projection.question.multiple_of == (9, 3)
    assert output.question and output.question.multiple_of == (3, 3)
    assert (projection.num_parameters, output.num_parameters) == (18 * 6 + 18, 6 * 6 + 6)
    assert "3 × embed_dim rows" in projection.notes[0]
    assert projection.sizes((21, 7)) == {}  # embed_dim is one number
    assert (attention.name, attention.num_parameters) == ("attention", 0)
    assert "need_weights=True" in attention.problem


def test_attention_to_other_tokens_projects_keys_and_values_by_another_product() -> None:
    query_bse, memory_bse = torch.zeros(2, 5, 6), torch.zeros(2, 9, 6)
    layer = nn.MultiheadAttention(6, 3, batch_first=True)
    *found, attention, output = find(layer, query_bse, memory_bse, memory_bse, need_weights=False)
    assert attention.problem == "5 queries and 9 keys: only equal numbers are measured"
    found.append(output)
    assert [
        (*each, params_of(layer)["batch"])
        for each, layer in zip(describe(found), found, strict=True)
    ] == [
        ("in_proj.query", "linear", (6, 6), 10),
        ("in_proj.key_value", "linear", (12, 6), 18),
        ("out_proj", "linear", (6, 6), 10),
    ]
    assert sum(each.num_parameters for each in found) == 4 * (6 * 6 + 6)
    found = find(layer, query_bse, memory_bse, memory_bse.clone())
    assert [each.name for each in found] == [
        "in_proj.query",
        "in_proj.key",
        "in_proj.value",
        "attention",
        "out_proj",
    ]


def test_attention_with_keys_of_another_width() -> None:
    layer = nn.MultiheadAttention(6, 3, kdim=4, vdim=5)
    query, keys, values = torch.zeros(5, 2, 6), torch.zeros(9, 2, 4), torch.zeros(9, 2, 5)
    found = [each for each in find(layer, query, keys, values) if each.question]
    assert [
        (*each, params_of(layer)["batch"])
        for each, layer in zip(describe(found), found, strict=True)
    ] == [
        ("q_proj", "linear", (6, 6), 10),
        ("k_proj", "linear", (6, 4), 18),
        ("v_proj", "linear", (6, 5), 18),
        ("out_proj", "linear", (6, 6), 10),
    ]
    total = sum(each.num_parameters for each in found)
    assert total == sum(each.numel() for each in layer.parameters())


def test_attention_that_no_example_shows_is_said_to_be_a_guess() -> None:
    found = find(nn.MultiheadAttention(6, 3))
    assert [each.name for each in found] == ["in_proj", "attention", "out_proj"]
    assert all("taken for self-attention" in each.notes for each in found if each.question)
    assert "sequences of its attention aren't known" in found[1].problem


def test_an_encoder_of_torch_shows_its_layers() -> None:
    # Without hooks, torch would run the whole layer as one kernel.
    encoder = nn.TransformerEncoderLayer(6, 3, dim_feedforward=8, batch_first=True)
    found = find(encoder, torch.zeros(2, 5, 6))
    assert [(name, dims) for name, _, dims in describe(found)] == [
        ("self_attn.in_proj", (18, 6)),
        ("self_attn.attention", (3, 2)),
        ("self_attn.out_proj", (6, 6)),
        ("linear1", (8, 6)),
        ("linear2", (6, 8)),
    ]
    # 2 · 5 tokens, and 2 sequences.
    assert [params_of(each)["batch"] for each in found if each.question] == [10, 2, 10, 10, 10]
    assert [each.name for each in found if each.problem] == ["norm1", "norm2"]


def test_an_encoder_of_torch_with_padding_shows_its_layers() -> None:
    # Its fused kernels would run on nested tensors, whose rows differ in length.
    layer = nn.TransformerEncoderLayer(6, 2, dim_feedforward=8, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2)
    is_padding_bs = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    found = find(encoder, torch.zeros(2, 5, 6), src_key_padding_mask=is_padding_bs)
    asked = [each for each in found if each.question]
    assert len(asked) == 2 * 5
    masks = [dict(each.question.params).get("mask") for each in asked if each.question]
    assert masks == 2 * [None, "dense", None, None, None]
    assert not any("doesn't reach" in note for each in asked for note in each.notes)


# Cells


@pytest.mark.parametrize(
    ("layer", "gates"), [(nn.LSTMCell(5, 6), 4), (nn.GRUCell(5, 6), 3), (nn.RNNCell(5, 6), 1)]
)
def test_the_products_of_a_cell_are_asked_about(layer: nn.Module, gates: int) -> None:
    fed, kept = find(layer, torch.zeros(7, 5))
    assert describe([fed, kept]) == [
        ("weight_ih", "linear", (gates * 6, 5)),
        ("weight_hh", "linear", (gates * 6, 6)),
    ]
    assert params_of(fed) == params_of(kept) == {"batch": 7, "bias": "yes", "dtype": "float32"}
    assert fed.question and fed.question.multiple_of == (gates, 1)
    assert fed.num_parameters == gates * 6 * (5 + 1)
    assert kept.num_parameters == gates * 6 * (6 + 1)
    assert f"one product of nn.{type(layer).__name__}: {gates} × hidden_size rows" in fed.notes


# Biases


@pytest.mark.parametrize(
    ("create", "shapes"),
    [
        (lambda bias: nn.Linear(5, 8, bias=bias), [(2, 5)]),
        (lambda bias: nn.LSTMCell(5, 6, bias=bias), [(2, 5)]),
        (lambda bias: nn.MultiheadAttention(6, 3, bias=bias), [(5, 2, 6)] * 3),
        (lambda bias: nn.MultiheadAttention(6, 3, bias=bias, kdim=4, vdim=4), []),
        (lambda bias: make_transposed(bias=bias), []),
    ],
)
def test_a_product_is_asked_about_with_the_bias_that_it_has(
    create: Callable[[bool], nn.Module], shapes: list[tuple[int, ...]]
) -> None:
    given = [torch.zeros(shape) for shape in shapes]
    for bias in (True, False):
        found = find(create(bias), *given)
        asked = [
            params_of(each) for each in found if each.question and each.question.kind == "linear"
        ]
        assert asked
        assert {each.get("bias") for each in asked} == ({"yes"} if bias else {None})


# Classes that aren't torch's


class Conv1D(nn.Module):
    """As HuggingFace has it: a linear layer, whose weight is transposed."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.zeros(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


def make_transposed(*, bias: bool) -> Conv1D:
    layer = Conv1D(8, 5)
    if not bias:
        layer.register_parameter("bias", None)
    return layer


def test_a_transposed_linear_layer() -> None:
    [found] = find(Conv1D(8, 5), x=torch.zeros(2, 3, 5))
    assert describe([found]) == [("", "linear", (8, 5))]
    assert params_of(found)["batch"] == 6
    assert found.sizes((9, 6)) == {"nf": 9, "nx": 6}
    assert "its weight is stored transposed; measured as nn.Linear" in found.notes


def test_another_class_of_that_name() -> None:
    other = type("Conv1D", (Conv1D,), {})(8, 5)
    other.nf = 7
    [found] = find(other)
    assert found.problem == "no workload kind measures it"


def test_a_linear_layer_with_a_forward_of_its_own() -> None:
    class Scaled(nn.Linear):
        def forward(self, x_bi: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x_bi)

    class Named(nn.Linear):
        pass

    [found] = find(Scaled(5, 6))
    assert found.notes == ("its class has a forward of its own: measured as nn.Linear",)
    [found] = find(Named(5, 6))
    assert found.notes == () and describe([found]) == [("", "linear", (6, 5))]


# Weights of whole numbers


# torch announces that it will drop these classes.
@pytest.mark.filterwarnings("ignore:.*quantiz.*:UserWarning")
@pytest.mark.filterwarnings("ignore:.*quantiz.*:DeprecationWarning")
def test_quantised_layers_arent_taken_for_floats() -> None:
    from torch.ao.nn.quantized import dynamic

    linear: nn.Module = dynamic.Linear(5, 6)  # type: ignore[no-untyped-call]
    halves: nn.Module = dynamic.Linear(6, 6, dtype=torch.float16)  # type: ignore[no-untyped-call]
    recurrent: nn.Module = dynamic.LSTM(5, 6)  # type: ignore[no-untyped-call]
    model = nn.Sequential(linear, halves, recurrent, nn.Linear(6, 7))
    first, second, third, last = find(model)
    assert describe([first]) == [("0", "linear", (6, 5))]
    assert params_of(first) == {
        "backend": "int8_dynamic",
        "batch": 16,
        "bias": "yes",
        "dtype": "float32",
    }
    assert "measured with weights of 8 bits" in first.notes[0]
    kind = get_workload_kind("linear")
    assert kind.describe(params_of(first)).param("backend") == "int8_dynamic"
    assert second.problem == third.problem == "quantised: no workload kind measures such kernels"
    assert first.class_name == "dynamically quantised Linear" and second.has_kind
    assert (first.num_parameters, third.num_parameters) == (36, 24 * (5 + 6 + 2))
    assert describe([last]) == [("3", "linear", (7, 6))]


def test_a_linear_layer_with_whole_numbers_as_weights() -> None:
    layer = nn.Linear(5, 6)
    layer.weight = nn.Parameter(torch.zeros(6, 5, dtype=torch.int8), requires_grad=False)
    [found] = find_layers(layer, batch=1, steps=1, dtype="float32")
    assert found.problem.startswith("quantised")


def test_weights_packed_by_other_libraries() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("qweight", torch.zeros(6, 5, dtype=torch.int32))

    [found] = find(Packed())
    assert found.problem.startswith("quantised") and found.num_parameters == 30


def test_a_weight_of_another_tensor_class() -> None:
    class Rounded(torch.Tensor):
        pass

    layer = nn.Linear(5, 6)
    layer.weight = nn.Parameter(torch.zeros(6, 5).as_subclass(Rounded))
    [found] = find(layer)
    assert found.problem == "its weight is a Rounded, no plain tensor"
