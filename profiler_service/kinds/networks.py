"""Whole networks: the kinds `lstm`, `gru`, `hlstm`, `hlstm_lm`, `lstm_lm` and `deepspeech2`.

Pure. It counts the weights and products of a network, and knows nothing of how they are carried
out. The formulas are those of `docs/explanation/networks.md`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from profiler_service.errors import InvalidWorkloadError
from profiler_service.kinds.products import (
    BATCH,
    DTYPE,
    SPARSITY,
    check_sparsity,
    count_nonzero,
    weight_bytes,
)
from profiler_service.workload import (
    DTYPE_SIZES_BYTES,
    Dims,
    Parameter,
    ParamValue,
    WorkloadKind,
)

STEPS = Parameter(
    name="steps",
    default=70,
    description="Length of the sequences (70 words in Table 1 of Yin et al.).",
)
INPUT_SIZE = Parameter(
    name="input_size",
    default=400,
    description="Width of the input at each step: the embedding's width.",
)
VOCABULARY = Parameter(name="vocabulary", default=10_000, description="Number of words.")
DENSE_BACKEND = Parameter(
    name="backend",
    default="dense",
    choices=("dense",),
    description="Which kernels run: `dense` is torch's own choice for dense products.",
)
HLSTM_BACKEND = Parameter(
    name="backend",
    default="dense",
    choices=("dense", "packed", "csr"),
    description=(
        "Which kernels carry out the H-LSTM layers' products: `dense` is torch's own choice,"
        " `packed` oneDNN's with weights rearranged once, `csr` sparse ones (compressed sparse"
        " rows). All other products are torch's own choice."
    ),
)
_LAYERS = "Number of recurrent layers, one on top of the other."


def _size_bytes(params: Mapping[str, ParamValue]) -> int:
    return DTYPE_SIZES_BYTES[str(params["dtype"])]


def _sequences(params: Mapping[str, ParamValue]) -> int:
    """Time steps of all sequences of the batch."""
    return int(params["batch"]) * int(params["steps"])


# For each direction, a layer of an LSTM has 4 gates of `hidden` units, and one of a GRU has 3. Each
# unit has a weight for every input and every state, and two biases. An LSTM has two states, h and
# c.
_LSTM_GATES, _LSTM_STATES = 4, 2
_GRU_GATES, _GRU_STATES = 3, 1


def _recurrent_layer_inputs(dims: Dims, params: Mapping[str, ParamValue]) -> list[int]:
    hidden_size, input_size = dims
    directions = 2 if params["direction"] == "bi" else 1
    return [input_size, *[hidden_size * directions] * (int(params["layers"]) - 1)]


def _recurrent_bytes(
    dims: Dims, params: Mapping[str, ParamValue], *, num_gates: int, num_states: int
) -> int:
    hidden_size = dims[0]
    directions = 2 if params["direction"] == "bi" else 1
    batch, sequences = int(params["batch"]), _sequences(params)
    elements = sequences * dims[1]
    for input_size in _recurrent_layer_inputs(dims, params):
        weights = num_gates * hidden_size * (input_size + hidden_size + 2)
        results = num_states * batch * hidden_size + sequences * hidden_size
        gates = num_gates * sequences * hidden_size  # their input's part, for all steps at once
        elements += directions * (weights + results + gates)
    return _size_bytes(params) * elements


def _recurrent_flops(dims: Dims, params: Mapping[str, ParamValue], *, num_gates: int) -> int:
    hidden_size = dims[0]
    directions = 2 if params["direction"] == "bi" else 1
    weights = sum(
        directions * num_gates * hidden_size * (input_size + hidden_size)
        for input_size in _recurrent_layer_inputs(dims, params)
    )
    return 2 * _sequences(params) * weights


# An H-LSTM's layer has 4 gates; each has a hidden layer over inputs and states, and a layer
# from there to the states.


def _hlstm_matrices(
    gate_width: int, state_width: int, input_size: int
) -> tuple[tuple[int, int], ...]:
    """Rows and columns of all gates' weights for inputs and states, and of their second layers."""
    return (
        (4 * gate_width, input_size),
        (4 * gate_width, state_width),
        (4 * state_width, gate_width),
    )


def _hlstm_weights(
    gate_width: int, state_width: int, input_size: int, params: Mapping[str, ParamValue]
) -> int:
    """Weights that are multiplied."""
    return sum(
        count_nonzero(rows, columns, params)
        for rows, columns in _hlstm_matrices(gate_width, state_width, input_size)
    )


def _hlstm_weight_bytes(
    gate_width: int, state_width: int, input_size: int, params: Mapping[str, ParamValue]
) -> int:
    return sum(
        weight_bytes(rows, columns, params)
        for rows, columns in _hlstm_matrices(gate_width, state_width, input_size)
    )


def _hlstm_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    gate_width, state_width = dims
    batch, input_size, sequences = (
        int(params["batch"]),
        int(params["input_size"]),
        _sequences(params),
    )
    biases = 4 * (gate_width + state_width)
    # The input's part of the gates' hidden layers is computed for all steps before the first.
    hidden = 4 * gate_width * sequences
    results = state_width * (sequences + 2 * batch)
    elements = biases + sequences * input_size + hidden + results
    weights_bytes = _hlstm_weight_bytes(gate_width, state_width, input_size, params)
    return weights_bytes + _size_bytes(params) * elements


def _hlstm_flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    gate_width, state_width = dims
    weights = _hlstm_weights(gate_width, state_width, int(params["input_size"]), params)
    return 2 * _sequences(params) * weights


def _hlstm_lm_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    vocabulary, sequences = int(params["vocabulary"]), _sequences(params)
    table = vocabulary * (max(int(params["input_size"]), dims[1]) + 1)  # and the decoder's bias
    scores = sequences * vocabulary
    words_bytes = 8 * sequences
    return _hlstm_bytes(dims, params) + _size_bytes(params) * (table + scores) + words_bytes


def _hlstm_lm_flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    decoder = 2 * _sequences(params) * dims[1] * int(params["vocabulary"])
    return _hlstm_flops(dims, params) + decoder


def _lstm_lm_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    hidden_size, width = dims
    batch, vocabulary, sequences = (
        int(params["batch"]),
        int(params["vocabulary"]),
        _sequences(params),
    )
    units = hidden_size + width
    weights = _LSTM_GATES * units * (units + 2)
    results = _LSTM_STATES * batch * units + sequences * units
    gates = _LSTM_GATES * sequences * units
    table = vocabulary * (width + 1)
    elements = weights + results + gates + table + sequences * (width + vocabulary)
    return _size_bytes(params) * elements + 8 * sequences


def _lstm_lm_flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    hidden_size, width = dims
    weights = _LSTM_GATES * (hidden_size + width) ** 2 + width * int(params["vocabulary"])
    return 2 * _sequences(params) * weights


# DeepSpeech2: 32 channels of 41 × 11 over 161 bins, then 32 of 32 × 21 × 11.
_BINS, _CHANNELS, _FEATURES, _CHARACTERS = 161, 32, 672, 29
_FIRST_KERNEL, _SECOND_KERNEL = 41 * 11, _CHANNELS * 21 * 11
_FIRST_HEIGHT, _SECOND_HEIGHT = 61, 21


def _speech_lengths(params: Mapping[str, ParamValue]) -> tuple[int, int]:
    """Lengths of a sequence after the first and after the second convolution."""
    first = (int(params["frames"]) - 11) // 2 + 1
    return first, first - 10


def _speech_inputs(width: int, params: Mapping[str, ParamValue]) -> list[int]:
    """Width of each recurrent layer's input."""
    return [_FEATURES, *[width] * (int(params["layers"]) - 1)]


def _speech_layer_weights(width: int, params: Mapping[str, ParamValue]) -> int:
    """Weights of all recurrent layers, both directions, that are multiplied; without biases."""
    inputs = _speech_inputs(width, params)
    if params["cell"] == "lstm":
        return sum(2 * 4 * width * (each + width) for each in inputs)
    return sum(2 * _hlstm_weights(width, width, each, params) for each in inputs)


def _speech_layer_bytes(width: int, params: Mapping[str, ParamValue]) -> int:
    if params["cell"] == "lstm":
        return _size_bytes(params) * _speech_layer_weights(width, params)
    inputs = _speech_inputs(width, params)
    return sum(2 * _hlstm_weight_bytes(width, width, each, params) for each in inputs)


def _speech_bytes(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    (width,) = dims
    batch, frames, layers = int(params["batch"]), int(params["frames"]), int(params["layers"])
    first, steps = _speech_lengths(params)
    kernels = _CHANNELS * (_FIRST_KERNEL + _SECOND_KERNEL + 2)
    # Of a batch norm: weight, bias, running mean and variance.
    norms = 4 * (2 * _CHANNELS + layers * width)
    biases = layers * 2 * 4 * 2 * width  # both cells have two for each gate's unit
    weights = kernels + norms + biases
    images = frames * _BINS + _CHANNELS * (first * _FIRST_HEIGHT + steps * _SECOND_HEIGHT)
    # Of each layer: both directions' gates, states, their sum, and that normalised.
    states = layers * (2 * 4 + 2 + 1 + 1) * width * steps
    scores = _CHARACTERS * steps
    head = _CHARACTERS * width
    elements = weights + head + batch * (images + states + scores)
    return _speech_layer_bytes(width, params) + _size_bytes(params) * elements


def _speech_flops(dims: Dims, params: Mapping[str, ParamValue]) -> int:
    (width,) = dims
    first, steps = _speech_lengths(params)
    weights = _speech_layer_weights(width, params) + _CHARACTERS * width
    convolutions = _CHANNELS * (
        first * _FIRST_HEIGHT * _FIRST_KERNEL + steps * _SECOND_HEIGHT * _SECOND_KERNEL
    )
    return 2 * int(params["batch"]) * (steps * weights + convolutions)


def _check_speech(params: Mapping[str, ParamValue]) -> None:
    """Returns if the cell has the backend. Raises InvalidWorkloadError if it doesn't."""
    check_sparsity(params)
    if params["cell"] == "lstm" and params["backend"] != "dense":
        raise InvalidWorkloadError(
            f"cell=lstm is torch.nn.LSTM, which has no {params['backend']} backend",
            hint="choose cell=hlstm, or backend=dense",
        )


_RECURRENT_PARAMETERS = (
    BATCH,
    STEPS,
    DTYPE,
    Parameter(name="layers", default=1, maximum=64, description=_LAYERS),
    Parameter(
        name="direction",
        default="uni",
        choices=("uni", "bi"),
        description="Whether each layer reads its sequence once, or from both ends.",
    ),
    DENSE_BACKEND,
)

LSTM = WorkloadKind(
    name="lstm",
    axes=("hidden_size", "input_size"),
    parameters=_RECURRENT_PARAMETERS,
    builder="profiler_service.measurement.networks:build_lstm",
    operand_bytes=functools.partial(
        _recurrent_bytes, num_gates=_LSTM_GATES, num_states=_LSTM_STATES
    ),
    flops=functools.partial(_recurrent_flops, num_gates=_LSTM_GATES),
    description="torch.nn.LSTM over a batch of sequences [steps, batch, input_size].",
)
GRU = WorkloadKind(
    name="gru",
    axes=("hidden_size", "input_size"),
    parameters=_RECURRENT_PARAMETERS,
    builder="profiler_service.measurement.networks:build_gru",
    operand_bytes=functools.partial(_recurrent_bytes, num_gates=_GRU_GATES, num_states=_GRU_STATES),
    flops=functools.partial(_recurrent_flops, num_gates=_GRU_GATES),
    description="torch.nn.GRU over a batch of sequences [steps, batch, input_size].",
)
HLSTM = WorkloadKind(
    name="hlstm",
    axes=("gate_width", "state_width"),
    parameters=(BATCH, STEPS, INPUT_SIZE, DTYPE, HLSTM_BACKEND, SPARSITY),
    check=check_sparsity,
    builder="profiler_service.measurement.networks:build_hlstm",
    operand_bytes=_hlstm_bytes,
    flops=_hlstm_flops,
    description=(
        "One H-LSTM layer (Yin et al., section 4): an LSTM whose gates each have a hidden"
        " layer of gate_width."
    ),
)
HLSTM_LM = WorkloadKind(
    name="hlstm_lm",
    axes=("gate_width", "state_width"),
    parameters=(
        BATCH,
        STEPS,
        INPUT_SIZE,
        VOCABULARY,
        DTYPE,
        HLSTM_BACKEND,
        SPARSITY,
    ),
    check=check_sparsity,
    builder="profiler_service.measurement.networks:build_hlstm_lm",
    operand_bytes=_hlstm_lm_bytes,
    flops=_hlstm_lm_flops,
    description=(
        "A language model: embedding of input_size, one H-LSTM layer, a decoder tied to the"
        " embedding. Its defaults are the setting of Table 1 of Yin et al."
    ),
)
LSTM_LM = WorkloadKind(
    name="lstm_lm",
    axes=("hidden_size", "embedding_width"),
    parameters=(BATCH, STEPS, VOCABULARY, DTYPE, DENSE_BACKEND),
    builder="profiler_service.measurement.networks:build_lstm_lm",
    operand_bytes=_lstm_lm_bytes,
    flops=_lstm_lm_flops,
    description=(
        "The stacked LSTM that Yin et al. compare `hlstm_lm` with: embedding, LSTM layers"
        " embedding_width → hidden_size → embedding_width, a decoder tied to the embedding."
    ),
)
DEEPSPEECH2 = WorkloadKind(
    name="deepspeech2",
    axes=("width",),
    parameters=(
        BATCH,
        Parameter(
            name="frames",
            default=300,
            minimum=31,
            description="Length of the spectrograms: 300 frames are about 3 s of speech.",
        ),
        DTYPE,
        Parameter(
            name="cell",
            default="hlstm",
            choices=("hlstm", "lstm"),
            description="Kind of the recurrent layers: H-LSTM, or torch.nn.LSTM.",
        ),
        Parameter(
            name="layers",
            default=3,
            maximum=64,
            description=f"{_LAYERS} Yin et al. have 3 of H-LSTM, 5 of LSTM.",
        ),
        HLSTM_BACKEND,
        SPARSITY,
    ),
    check=_check_speech,
    builder="profiler_service.measurement.networks:build_deepspeech2",
    operand_bytes=_speech_bytes,
    flops=_speech_flops,
    description=(
        "DeepSpeech2: two convolutions over 161 bins, bidirectional layers with batch norm"
        " between them, scores of 29 characters. `width` is that of states and of gates:"
        " Fig. 3 of Yin et al."
    ),
)
