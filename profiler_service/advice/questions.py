"""The questions to ask the service about the layers of a torch model.

Reads sizes only; runs nothing. Knows neither classes of layers nor the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from profiler_service.advice.attention import AttentionCall
from profiler_service.advice.seen import Seen
from profiler_service.workload import DTYPE_SIZES_BYTES, Dims, ParamValue

DTYPES = f"{', '.join(list(DTYPE_SIZES_BYTES)[:-1])} or {list(DTYPE_SIZES_BYTES)[-1]}"
NO_KIND = "no workload kind measures it"
SCRIPTED = "scripted: give the model as it is before torch.jit"
NO_EXAMPLE = "its sizes aren't known before it has run: give an --example"
NO_IMAGE = "the height and width of its images aren't known: give an --example that reaches it"
NO_SEQUENCE = "the sequences of its attention aren't known: give an --example that reaches it"
GROWS_TOGETHER = "attention grows only together with the projections that make its heads"
NOT_REACHED = "the example doesn't reach it"
FAILED_BEFORE = "the example failed without reaching it"
QUANTISED = "quantised: no workload kind measures such kernels"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the service is asked: a workload, and the dims that a layer has now."""

    kind: str
    dims: Dims
    params: tuple[tuple[str, ParamValue], ...]
    multiple_of: Dims = ()
    """What the layer's class demands that the dims are multiples of; empty if nothing."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A layer, or one product of a layer: the question about it, or why there is none."""

    name: str = ""
    """Name of the product within the layer; empty if the part is the layer."""
    weights: tuple[str, ...] | None = None
    """Names of the layer's parameters that belong to the part; None: all of them."""
    question: Question | None = None
    arguments: tuple[tuple[str, int], ...] = ()
    """Constructor arguments of the layer, and which of the dims each one is."""
    problem: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the questions about all layers of a model have in common."""

    assumed: Seen
    """Size of the input of each layer of which no call was seen."""
    why_assumed: str
    """Why an input that no call showed is assumed; empty if no example was given."""
    dtype: str | None
    """The dtype to ask about; None: each layer's own."""
    tables: frozenset[int] = field(default_factory=frozenset)
    """`id` of the weight of each nn.Embedding."""

    def see(self, seen: Seen | None, *, steps: bool = False) -> tuple[Seen, tuple[str, ...]]:
        """The input that a question assumes, and a note if the example didn't show it."""
        if seen is not None or not self.why_assumed:
            return seen or self.assumed, ()
        guess = f"batch={self.assumed.batch}" + (f" steps={self.assumed.steps}" if steps else "")
        return self.assumed, (f"{self.why_assumed}: {guess} is assumed",)


def ask(
    module: nn.Module,
    context: Context,
    kind: str,
    dims: Dims,
    *,
    params: Mapping[str, ParamValue],
    multiple_of: Dims = (),
) -> Question:
    """The question about these dims, with the module's dtype unless the context has another."""
    dtype = context.dtype or str(next(module.parameters()).dtype).removeprefix("torch.")
    given = {**params, "dtype": dtype}
    return Question(
        kind=kind, dims=dims, params=tuple(sorted(given.items())), multiple_of=multiple_of
    )


def make_attention_part(call: AttentionCall, context: Context, *, name: str = "") -> Part:
    """What is asked about the attention of a layer, or why nothing is."""
    if call.problem:
        return Part(name=name, weights=(), problem=call.problem)
    params: dict[str, ParamValue] = {
        "batch": call.batch,
        "dtype": context.dtype or call.dtype,
        "mask": call.mask,
        "sequence": call.sequence,
    }
    question = Question(
        kind="attention", dims=(call.heads, call.head_dim), params=tuple(params.items())
    )
    return Part(name=name, weights=(), question=question, notes=(GROWS_TOGETHER, *call.notes))
