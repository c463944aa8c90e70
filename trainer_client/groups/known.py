"""What is known of torch's layers: how many units each makes, and where their weights lie.

Sources: torch's documentation of each class. RMSNorm's rescaling is derived in `surgery`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import nn

from trainer_client.groups.layers import recurrent_layout
from trainer_client.groups.layout import Part, UnitGroup

_GATES: dict[type[nn.Module], int] = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}
"""The gates of the recurrent layers that are known."""
_AVERAGES = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Layers that average over units. They may have no parameters, and are looked at all the same."""
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a layer. Its parts have the layer's own names of parameters."""

    units: int = 0
    """The number of units that it makes; 0 if it isn't known."""
    reason: str = ""
    """Why its units, and those that it reads, stay as many as they are; empty if they needn't."""
    axis: int = -1
    """The axis of its inputs and outputs along which units lie."""
    runs: int = 1
    """How often all units follow one another along the axis of its outputs: once for each
    direction of a recurrent layer."""
    groups: tuple[UnitGroup, ...] = ()
    """Of a layer that consists of several: the units of all but the last one."""
    makes: tuple[Part, ...] = ()
    """Where the units that it makes lie."""
    reads: tuple[Part, ...] = ()
    """Where those lie that it reads, if it reads each of them once."""

    @property
    def is_unit_by_unit(self) -> bool:
        """Whether it computes each unit from that unit alone: they are the same units."""
        return any(part in self.makes for part in self.reads)


def is_layer(module: nn.Module) -> bool:
    """Whether it has tensors of its own and no module in it, or averages over units."""
    has_tensors = any(True for _ in module.parameters(recurse=False)) or any(
        True for _ in module.buffers(recurse=False)
    )
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return False  # it has one parameter for all units, as an activation without any has none
    return isinstance(module, _AVERAGES) or (has_tensors and not list(module.children()))


def look_up(module: nn.Module) -> Known:
    """What is known of the layer. One whose class isn't known has no units and a reason."""
    known = _look_up_class(module)
    own = {name for name, _ in module.named_parameters(recurse=False)}
    own |= {name for name, _ in module.named_buffers(recurse=False)}
    needed = {part.parameter for group in known.groups for part in group.parts}
    needed |= {part.parameter for part in (*known.makes, *known.reads)}
    if needed <= own:
        return known
    return Known(reason=f"computes its {min(needed - own)} from other parameters")


def _look_up_class(module: nn.Module) -> Known:
    if isinstance(module, nn.Linear):
        return _with_bias(module, axis=-1, units=module.out_features)
    if isinstance(module, nn.Embedding):
        return Known(
            units=module.embedding_dim,
            makes=(Part(parameter="weight", axis=1, role="incoming"),),
        )
    if isinstance(module, _CONVOLUTIONS):
        return _look_up_convolution(module)
    if isinstance(module, _BATCH_NORMS):
        return _look_up_batch_norm(module)
    if isinstance(module, nn.RNNBase) and type(module) in _GATES:
        return _look_up_recurrent(module)
    if isinstance(module, nn.PReLU):
        slopes = (Part(parameter="weight", axis=0, role="bias", is_ranked=False),)
        return Known(units=module.num_parameters, axis=1, makes=slopes, reads=slopes)
    if isinstance(module, nn.RMSNorm):
        return _look_up_rms_norm(module)
    if isinstance(module, _AVERAGES):
        return Known(reason="averages over them, so that each one changes all others")
    return Known(reason="isn't a layer whose units are known")


def _with_bias(module: nn.Linear | nn.Conv1d | nn.Conv2d, *, axis: int, units: int) -> Known:
    """A layer whose weight has rows for what it makes, and columns for what it reads."""
    makes = [Part(parameter="weight", axis=0, role="incoming")]
    if module.bias is not None:
        makes.append(Part(parameter="bias", axis=0, role="bias"))
    reads = (Part(parameter="weight", axis=1, role="outgoing"),)
    return Known(units=units, axis=axis, makes=tuple(makes), reads=reads)


def _look_up_convolution(module: nn.Conv1d | nn.Conv2d) -> Known:
    axis = -2 if isinstance(module, nn.Conv1d) else -3
    known = _with_bias(module, axis=axis, units=module.out_channels)
    if module.groups == 1:
        return known
    if module.groups == module.in_channels == module.out_channels:
        # Channel by channel: row c of the weight reads channel c and makes it.
        return dataclasses.replace(known, reads=known.makes)
    return Known(
        axis=axis,
        reason=f"has {module.groups} groups of channels, which must stay equally large",
    )


def _look_up_batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d) -> Known:
    """In evaluation: a channel that is zero with a mean and a bias of zero stays zero."""
    made = [
        Part(parameter=name, axis=0, role="bias", is_ranked=False, fill=fill)
        for name, fill in (
            ("weight", 0.0),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        )
        if getattr(module, name) is not None
    ]
    return Known(units=module.num_features, axis=1, makes=tuple(made), reads=tuple(made))


def _look_up_rms_norm(module: nn.RMSNorm) -> Known:
    if len(module.normalized_shape) > 1:
        return Known(reason="averages over several axes")
    if module.weight is None:
        return Known(reason="averages over them, and has no weight that could be rescaled")
    weight = Part(parameter="weight", axis=0, role="bias", is_ranked=False, is_averaged=True)
    return Known(units=module.normalized_shape[0], makes=(weight,), reads=(weight,))


def _look_up_recurrent(module: nn.RNNBase) -> Known:
    if module.proj_size:
        return Known(reason="has a projection (proj_size), whose units aren't known")
    directions = 2 if module.bidirectional else 1
    *inner, last = recurrent_layout(
        "",
        num_gates=_GATES[type(module)],
        layers=module.num_layers,
        bias=module.bias,
        directions=directions,
    ).groups
    names = ("weight_ih_l0", "weight_ih_l0_reverse")[:directions]
    return Known(
        units=module.hidden_size,
        runs=directions,
        groups=tuple(inner),
        makes=last.parts,
        reads=tuple(Part(parameter=name, axis=1, role="outgoing") for name in names),
    )
