"""The kinds of whole networks: keys, parameters, and their sizes counted by hand."""

from __future__ import annotations

import pytest

from profiler_service.errors import InvalidWorkloadError
from profiler_service.kinds import (
    DEEPSPEECH2,
    GRU,
    HLSTM,
    HLSTM_LM,
    LSTM,
    LSTM_LM,
    workload_kinds,
)
from profiler_service.workload import ParamValue, WorkloadKind


def params_of(kind: WorkloadKind, **given: ParamValue) -> dict[str, ParamValue]:
    return dict(kind.describe(given).params)


def test_keys_are_stable() -> None:
    # Keys are in every database: a changed key orphans its curves.
    keys = [kind.describe().key for kind in (LSTM, GRU, HLSTM, HLSTM_LM, LSTM_LM, DEEPSPEECH2)]
    assert keys == [
        "lstm[backend=dense,batch=16,direction=uni,dtype=float32,layers=1,steps=70]",
        "gru[backend=dense,batch=16,direction=uni,dtype=float32,layers=1,steps=70]",
        "hlstm[backend=dense,batch=16,dtype=float32,input_size=400,steps=70]",
        "hlstm_lm[backend=dense,batch=16,dtype=float32,input_size=400,steps=70,vocabulary=10000]",
        "lstm_lm[backend=dense,batch=16,dtype=float32,steps=70,vocabulary=10000]",
        "deepspeech2[backend=dense,batch=16,cell=hlstm,dtype=float32,frames=300,layers=3]",
    ]


def test_keys_with_a_sparsity() -> None:
    given = {"backend": "csr", "sparsity": "0.90"}
    assert [kind.describe(given).key for kind in (HLSTM, HLSTM_LM, DEEPSPEECH2)] == [
        "hlstm[backend=csr,batch=16,dtype=float32,input_size=400,sparsity=0.9,steps=70]",
        "hlstm_lm[backend=csr,batch=16,dtype=float32,input_size=400,sparsity=0.9,steps=70,"
        "vocabulary=10000]",
        "deepspeech2[backend=csr,batch=16,cell=hlstm,dtype=float32,frames=300,layers=3,"
        "sparsity=0.9]",
    ]


def test_all_are_installed() -> None:
    assert {"lstm", "gru", "hlstm", "hlstm_lm", "lstm_lm", "deepspeech2"} <= set(workload_kinds())


def test_axes() -> None:
    assert LSTM.axes == GRU.axes == ("hidden_size", "input_size")
    assert HLSTM.axes == HLSTM_LM.axes == ("gate_width", "state_width")
    assert DEEPSPEECH2.axes == ("width",)


@pytest.mark.parametrize(
    ("kind", "given", "complaint"),
    [
        (LSTM, {"direction": "both"}, "uni, bi"),
        (LSTM, {"layers": 65}, "outside 1 to 64"),
        (LSTM, {"steps": 0}, "outside"),
        (LSTM, {"backend": "cudnn"}, "dense"),
        (LSTM, {"backend": "csr"}, "dense"),
        (GRU, {"backend": "packed"}, "dense"),
        (LSTM, {"sparsity": "0.9"}, "no parameter 'sparsity'"),
        (HLSTM, {"backend": "compiled"}, "dense, packed, csr"),
        (HLSTM, {"sparsity": "0.9"}, "no difference to backend=dense"),
        (HLSTM_LM, {"backend": "packed", "sparsity": "0.9"}, "no difference to backend=packed"),
        (HLSTM_LM, {"backend": "csr", "sparsity": "1"}, "from 0 to below 1"),
        (DEEPSPEECH2, {"sparsity": "0.9"}, "no difference to backend=dense"),
        (DEEPSPEECH2, {"cell": "lstm", "backend": "csr"}, "has no csr backend"),
        (DEEPSPEECH2, {"cell": "lstm", "backend": "packed"}, "has no packed backend"),
        (HLSTM, {"vocabulary": 10}, "no parameter 'vocabulary'"),
        (HLSTM, {"input_size": 0}, "outside"),
        (HLSTM_LM, {"vocabulary": 0}, "outside"),
        (LSTM_LM, {"backend": "packed"}, "dense"),
        (LSTM_LM, {"input_size": 5}, "no parameter 'input_size'"),
        (DEEPSPEECH2, {"cell": "gru"}, "hlstm, lstm"),
        (DEEPSPEECH2, {"frames": 30}, "outside 31"),
        (DEEPSPEECH2, {"steps": 70}, "no parameter 'steps'"),
    ],
)
def test_parameters_not_allowed(
    kind: WorkloadKind, given: dict[str, object], complaint: str
) -> None:
    with pytest.raises(InvalidWorkloadError, match=complaint) as caught:
        kind.describe(given)
    assert caught.value.hint


def test_lstm_by_hand() -> None:
    params = params_of(LSTM, batch=2, steps=4, layers=2, direction="bi", dtype="bfloat16")
    # hidden 3, input 5: the second layer's input is 2 · 3. Per direction 4 · 3 units, each with
    # a weight for every input and state and two biases: 12 · 10 and 12 · 11. Results: 8 states
    # of 3, and h and c of 2 sequences: 36. Gates: 8 · 12. The network's input: 8 · 5.
    elements = 40 + 2 * (120 + 36 + 96) + 2 * (132 + 36 + 96)
    assert LSTM.operand_bytes((3, 5), params) == 2 * elements
    # Per step of a sequence 2 directions of 12 · 8, then of 12 · 9, multiply-adds.
    assert LSTM.flops((3, 5), params) == 2 * 8 * (192 + 216)
    one_way = params_of(LSTM, batch=2, steps=4)
    assert LSTM.operand_bytes((3, 5), one_way) == 4 * (40 + 120 + 36 + 96)
    assert LSTM.flops((3, 5), one_way) == 2 * 8 * 96


def test_gru_by_hand() -> None:
    params = params_of(GRU, batch=2, steps=4, layers=2, direction="bi", dtype="bfloat16")
    # As the LSTM above, but 3 · 3 units a direction, of 10 and 11 weights and biases; one state
    # of 2 sequences beside the 8: 30. Gates: 8 · 9.
    elements = 40 + 2 * (90 + 30 + 72) + 2 * (99 + 30 + 72)
    assert GRU.operand_bytes((3, 5), params) == 2 * elements
    assert GRU.flops((3, 5), params) == 2 * 8 * 2 * (9 * 8 + 9 * 9)


def test_hlstm_by_hand() -> None:
    params = params_of(HLSTM, batch=2, steps=4, input_size=5)
    # Gates of 7 hidden units, 3 states: 4 · (7 · (5 + 3) + 3 · 7) = 308 weights, 4 · (7 + 3)
    # biases. Input 8 · 5; its part of the hidden units 8 · 28; 8 states of 3, and h and c of
    # 2 sequences: 36.
    assert HLSTM.operand_bytes((7, 3), params) == 4 * (308 + 40 + 40 + 224 + 36)
    assert HLSTM.flops((7, 3), params) == 2 * 8 * 308


def test_hlstm_lm_by_hand() -> None:
    params = params_of(HLSTM_LM, batch=2, steps=4, input_size=5, vocabulary=11)
    # The layer's 648 numbers; a table of 11 · 5 and 11 biases; 8 · 11 scores; 8 words of 8 bytes.
    assert HLSTM_LM.operand_bytes((7, 3), params) == 4 * (648 + 55 + 11 + 88) + 64
    assert HLSTM_LM.flops((7, 3), params) == 2 * 8 * (308 + 3 * 11)
    # Nine states are more than the embedding's five columns: the table has nine.
    # 4 · (7 · (5 + 9) + 9 · 7) + 4 · (7 + 9) + 40 + 224 + 9 · 12 = 1,080.
    assert HLSTM_LM.operand_bytes((7, 9), params) == 4 * (1080 + 99 + 11 + 88) + 64


def test_lstm_lm_by_hand() -> None:
    params = params_of(LSTM_LM, batch=2, steps=4, vocabulary=11)
    # Layers 5 → 3 and 3 → 5: 4 · 3 · (5 + 3 + 2) + 4 · 5 · (3 + 5 + 2) weights and biases. 8 states
    # of 3 and 8 of 5, h and c of 2 sequences: 64 + 32. Gates: 8 · 12 + 8 · 20. A table of 11 · 5
    # and 11 biases, 8 · 5 inputs, 8 · 11 scores; 8 words of 8 bytes.
    elements = 120 + 200 + 96 + 256 + 66 + 40 + 88
    assert LSTM_LM.operand_bytes((3, 5), params) == 4 * elements + 64
    assert LSTM_LM.flops((3, 5), params) == 2 * 8 * (96 + 160 + 55)


def test_packed_and_sparse_hlstms_by_hand() -> None:
    # The weights of the layer above are matrices of 28 × 5, 28 × 3 and 12 × 7 numbers, and 340
    # numbers are no weights: twice the former if they are rearranged.
    packed = params_of(HLSTM, batch=2, steps=4, input_size=5, backend="packed")
    assert HLSTM.operand_bytes((7, 3), packed) == 4 * (2 * 308 + 340)
    assert HLSTM.flops((7, 3), packed) == 2 * 8 * 308
    # A quarter remains of each: 35, 21 and 21 nonzeros of 4 bytes, 4 more for the column, 20 while
    # they are drawn; 29, 29 and 13 row starts of 4 bytes.
    given: dict[str, ParamValue] = {"backend": "csr", "sparsity": "0.75", "batch": 2, "steps": 4}
    sparse = params_of(HLSTM, input_size=5, **given)
    sparse_bytes = 77 * 28 + 71 * 4 + 4 * 340
    assert HLSTM.operand_bytes((7, 3), sparse) == sparse_bytes
    assert HLSTM.flops((7, 3), sparse) == 2 * 8 * 77
    # The language model's table stays dense: 55 + 11 numbers, 88 scores, 64 bytes of words.
    model = params_of(HLSTM_LM, input_size=5, vocabulary=11, **given)
    assert HLSTM_LM.operand_bytes((7, 3), model) == sparse_bytes + 4 * (55 + 11 + 88) + 64
    assert HLSTM_LM.flops((7, 3), model) == 2 * 8 * (77 + 33)


def test_sparse_deepspeech2_differs_in_its_layers_only() -> None:
    dense = params_of(DEEPSPEECH2, batch=2, frames=33, layers=1)
    sparse = params_of(DEEPSPEECH2, batch=2, frames=33, layers=1, backend="csr", sparsity="0.5")
    # Two directions, each of matrices of 16 × 672, 16 × 4 and 16 × 4: half of 10,880 numbers
    # remains, and each matrix has 17 row starts.
    difference = 2 * (5440 * 28 + 3 * 17 * 4 - 4 * 10_880)
    assert (
        DEEPSPEECH2.operand_bytes((4,), sparse) - DEEPSPEECH2.operand_bytes((4,), dense)
        == difference
    )
    # Two steps of two sequences.
    assert DEEPSPEECH2.flops((4,), dense) - DEEPSPEECH2.flops((4,), sparse) == 2 * 4 * 2 * 5440


def test_the_papers_language_model() -> None:
    params = params_of(HLSTM_LM)
    # Batch 16 and 70 steps, Table 1's; the pruned layer has 4,950,792 weights, and the
    # decoder's 317 · 10,000 for each of 1,120 words.
    assert HLSTM_LM.flops((1197, 317), params) == 2 * 1120 * (4_950_792 + 3_170_000)


def test_deepspeech2_by_hand() -> None:
    params = params_of(DEEPSPEECH2, batch=2, frames=33, layers=2)
    # 33 frames: 12 steps after the first convolution, 2 after the second.
    # Layers: 2 directions of 4 · (4 · (672 + 4) + 4 · 4), and of 4 · (4 · (4 + 4) + 4 · 4).
    weights = 2 * 4 * 2720 + 2 * 4 * 48
    # Kernels of 41 · 11 and 32 · 21 · 11, each with a bias; 4 numbers for each of 32 + 32
    # channels and 2 · 4 units normalised; 4 · (4 + 4) biases a direction; a head of 29 · 4.
    others = 32 * (451 + 7392 + 2) + 4 * (64 + 8) + 2 * 2 * 32 + 116
    # Per sequence: 33 · 161 pixels, 32 images of 12 · 61 and of 2 · 21; for each layer and step
    # of 4 units 2 · 4 gates, 2 states, their sum, and that normalised; 2 · 29 scores.
    activations = 5313 + 32 * (732 + 42) + 2 * 12 * 4 * 2 + 58
    assert DEEPSPEECH2.operand_bytes((4,), params) == 4 * (weights + others + 2 * activations)
    convolutions = 32 * (732 * 451 + 42 * 7392)
    assert DEEPSPEECH2.flops((4,), params) == 2 * 2 * (2 * (weights + 116) + convolutions)


def test_deepspeech2_of_lstms_has_other_weights_and_the_same_activations() -> None:
    hlstm, lstm = (params_of(DEEPSPEECH2, cell=cell, layers=5) for cell in ("hlstm", "lstm"))
    # Width 800: an H-LSTM has 640,000 weights more for each gate, direction and layer.
    # 300 frames are 145, then 135 steps.
    difference = 5 * 2 * 4 * 640_000
    assert (
        DEEPSPEECH2.operand_bytes((800,), hlstm) - DEEPSPEECH2.operand_bytes((800,), lstm)
        == 4 * difference
    )
    assert (
        DEEPSPEECH2.flops((800,), hlstm) - DEEPSPEECH2.flops((800,), lstm)
        == 2 * 16 * 135 * difference
    )
