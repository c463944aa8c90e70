"""The layouts of layers: the H-LSTM of the paper, and torch's recurrent layers.

Legend of shapes: K the four gates, G gate_width, I input_size, S state_width, H hidden_size.
"""

from __future__ import annotations

from trainer_client.groups.layout import Layout, Matrix, Part, Role, UnitGroup

GATES = ("f", "i", "o", "g")
GATE_AXIS = "gate_width"
STATE_AXIS = "state_width"


def hlstm_layout() -> Layout:
    """The units of one H-LSTM layer, by the names of its parameters.

    - A hidden unit is one row of its gate's H (input and state part) and one column of its W. Each
      gate has its own hidden units: the four H are separate matrices and share no index. All gates
      have the same number of them, the axis `gate_width`.
    - A state unit is one row of every gate's W, and one column of the state part of every H. It is
      also a column of the next layer, which always reads it. A dead state is always zero (its W and
      b are zero), so that column has no effect and needs no mask.

    Its matrices are each gate's whole H and each gate's W.
    """
    hidden = tuple(
        UnitGroup(
            name=f"hidden_{name}",
            axis=GATE_AXIS,
            parts=(
                _at_gate("input_kgi", gate, 1, "incoming"),
                _at_gate("recurrent_kgs", gate, 1, "incoming"),
                _at_gate("hidden_bias_kg", gate, 1, "bias"),
                _at_gate("gate_ksg", gate, 2, "outgoing"),
            ),
        )
        for gate, name in enumerate(GATES)
    )
    state = UnitGroup(
        name="state",
        axis=STATE_AXIS,
        is_output=True,
        parts=(
            Part(parameter="gate_ksg", axis=1, role="incoming"),
            Part(parameter="gate_bias_ks", axis=1, role="bias"),
            Part(parameter="recurrent_kgs", axis=2, role="outgoing"),
        ),
    )
    gates = range(len(GATES))
    return Layout(
        groups=(*hidden, state),
        matrices=(
            *(Matrix(blocks=(("input_kgi", (k,)), ("recurrent_kgs", (k,)))) for k in gates),
            *(Matrix(blocks=(("gate_ksg", (k,)),)) for k in gates),
        ),
    )


def _at_gate(parameter: str, gate: int, axis: int, role: Role) -> Part:
    return Part(parameter=parameter, at=(gate,), axis=axis, role=role)


HLSTM_LAYOUT = hlstm_layout()
HIDDEN = tuple(group.name for group in HLSTM_LAYOUT.groups[:-1])
STATE = HLSTM_LAYOUT.groups[-1].name


def recurrent_layout(
    prefix: str,
    *,
    num_gates: int,
    layers: int = 1,
    bias: bool = True,
    directions: int = 1,
    readers: tuple[Part, ...] = (),
) -> Layout:
    """The units of an `nn.LSTM` (four gates), `nn.GRU` (three) or `nn.RNN` (one) called `prefix`.

    One group a layer. A unit is, in each gate, one row of both matrices and of both biases; one
    column of the recurrent matrix; and one column of the next layer's input matrix. With two
    directions, a unit is one of each direction: what reads the layer reads all of the first, then
    all of the second. `readers` are the parts that read the last layer; without them, its units are
    the network's output. Only for layers without a projection.
    """
    start = f"{prefix}." if prefix else ""
    suffixes = ("", "_reverse")[:directions]
    groups = []
    matrices = []
    for layer in range(layers):
        parts = []
        for suffix in suffixes:
            input_name = f"{start}weight_ih_l{layer}{suffix}"
            recurrent_name = f"{start}weight_hh_l{layer}{suffix}"
            parts += [
                Part(parameter=input_name, axis=0, role="incoming", before=num_gates),
                Part(parameter=recurrent_name, axis=0, role="incoming", before=num_gates),
                Part(parameter=recurrent_name, axis=1, role="outgoing"),
            ]
            if bias:
                names = (f"{start}bias_{of}_l{layer}{suffix}" for of in ("ih", "hh"))
                parts += [
                    Part(parameter=name, axis=0, role="bias", before=num_gates) for name in names
                ]
            matrices.append(Matrix(blocks=((input_name, ()), (recurrent_name, ()))))
        is_last = layer == layers - 1
        if is_last:
            parts += readers
        else:
            parts += [
                Part(
                    parameter=f"{start}weight_ih_l{layer + 1}{suffix}",
                    axis=1,
                    role="outgoing",
                    before=directions,
                )
                for suffix in suffixes
            ]
        groups.append(
            UnitGroup(
                name=f"{start}l{layer}", parts=tuple(parts), is_output=is_last and not readers
            )
        )
    return Layout(groups=tuple(groups), matrices=tuple(matrices))
