from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from profiler_service.kinds import HLSTM_LM
from profiler_service.networks import HLSTMLanguageModel
from tests.trainer_client.groups.layers import units
from tests.trainer_client.stand_ins import make_run
from tests.trainer_client.texts import WORDS, tiny_config
from trainer_client.export import (
    ModelFileError,
    load_baseline,
    load_dense,
    load_sparse,
    shrink_model,
    write_dense,
    write_models,
    write_sparse,
)
from trainer_client.groups.masks import full_masks, without_units
from trainer_client.groups.pruning import prune_matrices, prune_units
from trainer_client.tasks.language_model.networks import MaskedHLSTM, StackedLSTM

WORDS_TB = torch.randint(WORDS, (9, 3), generator=torch.Generator().manual_seed(4))


@pytest.fixture
def model() -> MaskedHLSTM:
    """9 of 12 hidden units, 6 of 8 states, and 60 % of their weights live."""
    torch.manual_seed(0)
    model = MaskedHLSTM(WORDS, tiny_config()).eval()
    torch.nn.init.normal_(model.network.decoder_bias_v)
    counts = {"gate_width": 3, "state_width": 2}
    masks = prune_units(model.layout, model.weights, model.masks, counts=counts)
    model.masks = prune_matrices(model.layout, model.weights, masks, ratio=0.4)
    return model


def scores_of(model: MaskedHLSTM) -> torch.Tensor:
    scores_nv, _ = model(WORDS_TB, model.zero_state(3))
    scores_tbv: torch.Tensor = scores_nv.view(9, 3, WORDS).detach()
    return scores_tbv


def assert_equal_output(found_tbv: torch.Tensor, model: MaskedHLSTM) -> None:
    torch.testing.assert_close(found_tbv, scores_of(model), rtol=0, atol=1e-5)


def test_a_dense_file_is_small_and_says_the_same(model: MaskedHLSTM, tmp_path: Path) -> None:
    write_dense(shrink_model(model), tmp_path / "model.safetensors")
    loaded = load_dense(tmp_path / "model.safetensors")
    assert (loaded.layer.gate_width, loaded.layer.state_width) == model.dims == (9, 6)
    assert_equal_output(loaded(WORDS_TB)[0], model)
    tensors = load_file(tmp_path / "model.safetensors")
    # No mask among them, and no more weights than 4 · 9 · (8 + 6 + 6).
    assert all(each.is_floating_point() for each in tensors.values())
    layer = ("layer.input_kgi", "layer.recurrent_kgs", "layer.gate_ksg")
    assert sum(tensors[name].numel() for name in layer) == 720


def test_dead_units_may_stay_up_to_an_lhp(model: MaskedHLSTM) -> None:
    network = shrink_model(model, gate_width=11, state_width=7)
    assert (network.layer.gate_width, network.layer.state_width) == (11, 7)
    assert_equal_output(network(WORDS_TB)[0], model)


def test_more_states_than_the_embedding_has_columns() -> None:
    torch.manual_seed(0)
    model = MaskedHLSTM(WORDS, tiny_config()).eval()
    model.widen({"gate_width": 14, "state_width": 11})
    model.masks = full_masks(model.layout, model.weights)
    with torch.no_grad():
        model.weights["gate_ksg"].normal_()
    network = shrink_model(model)
    assert network.table_vm.shape == (WORDS, 11)
    assert_equal_output(network(WORDS_TB)[0], model)


def test_a_dead_state_within_the_embedding_stays_where_one_beyond_it_lives() -> None:
    torch.manual_seed(0)
    model = MaskedHLSTM(WORDS, tiny_config()).eval()
    model.widen({"gate_width": 14, "state_width": 9})
    with torch.no_grad():
        for weight in model.weights.values():
            weight.normal_()
    state_s = torch.arange(9) != 2
    hidden_kg = torch.ones(4, 14, dtype=torch.bool)
    model.masks = without_units(
        model.layout,
        full_masks(model.layout, model.weights),
        units(hidden_kg=~hidden_kg, state_s=~state_s),
    )
    assert model.dims == (14, 8)
    network = shrink_model(model)
    assert network.layer.state_width == 9
    assert_equal_output(network(WORDS_TB)[0], model)


def test_it_is_the_workload_that_was_measured(model: MaskedHLSTM) -> None:
    network = shrink_model(model)
    dims = (network.layer.gate_width, network.layer.state_width)
    workload = HLSTM_LM.describe({"batch": 3, "steps": 9, "input_size": 8, "vocabulary": WORDS})
    assert workload.check_dims(dims) == dims
    measured = HLSTMLanguageModel(WORDS, 8, dims[1], dims[0])
    shapes = {name: each.shape for name, each in measured.state_dict().items()}
    assert {name: each.shape for name, each in network.state_dict().items()} == shapes


def test_a_sparse_file_holds_what_lives_and_says_the_same(
    model: MaskedHLSTM, tmp_path: Path
) -> None:
    write_sparse(shrink_model(model), tmp_path / "model.csr.safetensors")
    loaded = load_sparse(tmp_path / "model.csr.safetensors")
    assert loaded.num_weights == model.count_recurrent_parameters()
    found_tbv, (h_bs, c_bs) = loaded(WORDS_TB)
    assert_equal_output(found_tbv, model)
    expected_tbv, (expected_h_bs, expected_c_bs) = shrink_model(model)(WORDS_TB)
    torch.testing.assert_close(h_bs, expected_h_bs)
    torch.testing.assert_close(c_bs, expected_c_bs)
    # And it goes on from its state, which stays as it was.
    first, state = loaded(WORDS_TB[:4])
    before = [each.clone() for each in state]
    second, _ = loaded(WORDS_TB[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), expected_tbv)
    assert all(a.equal(b) for a, b in zip(state, before, strict=True))
    one, _ = loaded(WORDS_TB[4:5, :1], (state[0][:1], state[1][:1]))  # a single word
    torch.testing.assert_close(one[0, 0], expected_tbv[4, 0])
    # What it returns is anybody's.
    for each in (first, *state):
        each.zero_()


def test_the_baseline_is_loaded_as_it_was_trained(tmp_path: Path) -> None:
    run = make_run(tiny_config(precision="bfloat16"), tmp_path)
    run.step = "baseline"
    assert isinstance(run.model, StackedLSTM)
    write_models(run, run.model.dims, tmp_path / "models")
    loaded = load_baseline(tmp_path / "models" / "baseline.safetensors")
    expected = StackedLSTM(WORDS, tiny_config()).eval()  # in float32
    expected.load_state_dict(run.model.state_dict())
    found_tbv, _ = loaded(WORDS_TB)
    assert found_tbv.flatten(0, 1).equal(expected(WORDS_TB, expected.zero_state(3))[0])
    with pytest.raises(ModelFileError) as raised:
        load_dense(tmp_path / "models" / "baseline.safetensors")
    assert "load_baseline reads" in raised.value.hint


def test_exporting_draws_no_random_numbers(model: MaskedHLSTM) -> None:
    before = torch.get_rng_state()
    shrink_model(model)
    assert torch.get_rng_state().equal(before)


def test_files_that_hold_no_such_model_are_refused(model: MaskedHLSTM, tmp_path: Path) -> None:
    dense, sparse = tmp_path / "a.safetensors", tmp_path / "a.csr.safetensors"
    write_dense(shrink_model(model), dense)
    write_sparse(shrink_model(model), sparse)
    with pytest.raises(ModelFileError, match="csr"):
        load_dense(sparse)
    with pytest.raises(ModelFileError, match="not 'lhp-hlstm-lm-csr-1'"):
        load_sparse(dense)
    with pytest.raises(ModelFileError):
        load_dense(tmp_path / "nonesuch.safetensors")
    dense.write_bytes(dense.read_bytes()[:-100])
    with pytest.raises(ModelFileError):
        load_dense(dense)


@pytest.mark.parametrize("fault", ["a column too many", "a row missing", "a part missing"])
def test_indices_outside_the_matrix_never_reach_a_kernel(
    model: MaskedHLSTM, tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "a.csr.safetensors"
    write_sparse(shrink_model(model), path)
    tensors = load_file(path)
    if fault == "a column too many":
        tensors["recurrent_qs_column"][0] = 6
    elif fault == "a row missing":
        tensors["input_qi_crow"] = tensors["input_qi_crow"][1:].clone()
    else:
        del tensors["gate_uq_value"]
    metadata = {"lhp": '{"format": "lhp-hlstm-lm-csr-1", "embedding_width": 8}'}
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ModelFileError, match="don't fit"):
        load_sparse(path)
