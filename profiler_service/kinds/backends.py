"""Which kernels a kind of workloads has, and what a host must have for them.

Pure. A host registers the dtypes of each name in HOST_BACKENDS; what a name means is tried by
`profiler_service.measurement.backends`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from profiler_service.kinds.products import BACKEND, DTYPE, LINEAR_BACKEND
from profiler_service.workload import Parameter, ParamValue, WorkloadKind


def _backend(*choices: str, description: str, is_later: bool = True) -> Parameter:
    """The parameter `backend`; `is_later` if its kinds had none at first."""
    return Parameter(
        name=BACKEND.name,
        default=BACKEND.default,
        choices=choices,
        omitted_at_default=is_later,
        description=f"Which kernel runs: `dense` is torch's own choice, {description}.",
    )


CONV_BACKEND: Final = _backend(
    *("dense", "packed", "compiled"),
    description=(
        "`packed` oneDNN's with the weight rearranged once (it works on `channels_last`; other"
        " images are rearranged in each call, and back), `compiled` what `torch.compile` makes of a"
        " frozen weight"
    ),
)
BLOCK_BACKEND: Final = _backend(
    *("dense", "packed", "compiled"),
    description=(
        "`packed` oneDNN's for the products, with weights rearranged once, `compiled` what"
        " `torch.compile` makes of the whole block with frozen weights"
    ),
)
MLP_BACKEND: Final = _backend(
    *("dense", "packed", "compiled"),
    is_later=False,
    description=(
        "`packed` oneDNN's for the products, with weights rearranged once, `compiled` what"
        " `torch.compile` makes of the whole MLP with frozen weights"
    ),
)
ATTENTION_BACKEND: Final = _backend(
    *("dense", "math", "fused", "compiled"),
    description=(
        "`math` two products with all scores between them, `fused` torch's kernel for CPUs that"
        " never holds all scores, `compiled` what `torch.compile` makes of it"
    ),
)

_NAMES_ON_HOSTS: Final[Mapping[Parameter, Mapping[str, str]]] = {
    LINEAR_BACKEND: {},
    CONV_BACKEND: {"packed": "packed_conv2d", "compiled": "compiled_layer"},
    BLOCK_BACKEND: {"compiled": "compiled_layer"},
    MLP_BACKEND: {"compiled": "compiled_layer"},
    ATTENTION_BACKEND: {"compiled": "compiled_layer"},
}
HOST_BACKENDS: Final = (
    *LINEAR_BACKEND.choices,
    *("packed_conv2d", "compiled_layer", "math", "fused"),
)
"""What a host registers: the backends of products, and those that layers have beside them.

A layer's `compiled` has its own name: it needs a compiler of C++, or Triton. A compiled product is
one call of a library.
"""


def find_host_backends(kind: WorkloadKind) -> Mapping[str, str]:
    """Each backend of the kind that a host may lack for some dtype → its name on hosts.

    Empty for the kind of another package that uses the name `backend` for something else.
    """
    for parameter in kind.parameters:
        if parameter.name != BACKEND.name or DTYPE not in kind.parameters:
            continue
        names = _NAMES_ON_HOSTS.get(parameter)
        if names is not None or set(parameter.choices) <= set(BACKEND.choices):
            return {each: (names or {}).get(each, each) for each in parameter.choices}
    return {}


def find_missing_backend(
    kind: WorkloadKind,
    params: Mapping[str, ParamValue],
    on_host: Mapping[str, Collection[str]],
) -> tuple[str, list[str]] | None:
    """The backend of `params` that a host lacks for their dtype, and those that it has.

    None if it lacks none. `on_host` is what the host registered: name → dtypes.
    """
    names, dtype = find_host_backends(kind), str(params.get("dtype"))
    backend = str(params.get(BACKEND.name))
    having = [each for each, name in names.items() if dtype in on_host.get(name, ())]
    return (backend, having) if backend in names and backend not in having else None
