"""The environment variables that belong to a platform, in one table.

A variable belongs to it if it changes which kernels run, how they compute, where their memory
comes from, or how long a call takes in any other way. Names are given by patterns, so that a
variable that a library adds counts, too: too many variables split curves that could have been
compared, but one too few mixes curves that can't.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, kw_only=True)
class VariableRule:
    """Variables of one origin."""

    names: str
    """A regular expression that matches whole names."""
    changes: str
    """What they change, for people."""


KERNEL_VARIABLES: Final = (
    VariableRule(
        names=r"MKL_\w+",
        changes="Intel MKL: instruction sets, reproducibility, dynamic threads.",
    ),
    VariableRule(
        names=r"(ONEDNN|DNNL|MKLDNN)_\w+",
        changes="oneDNN: the largest instruction set, the default arithmetic, its caches.",
    ),
    VariableRule(
        names=r"(OPENBLAS|GOTO|BLIS|ARMPL|ACL|LIBXSMM)_\w+",
        changes="Other product libraries: the processor whose kernels they choose, buffers.",
    ),
    VariableRule(
        names=r"(OMP|KMP|GOMP|LIBOMP)_\w+",
        changes="OpenMP: where threads are placed, and whether they spin or sleep in between.",
    ),
    VariableRule(
        names=r"(TORCHINDUCTOR|TORCHDYNAMO|TORCH_COMPILE|TRITON|HALIDE)_\w+|CXX",
        changes="`torch.compile`: the kernels that it generates or chooses (auto-tuning,"
        " freezing), and the compiler for them.",
    ),
    VariableRule(
        names=r"(PYTORCH_TUNABLEOP|TORCH_BLAS|TORCH_LINALG|TORCH_MKLDNN|TORCH_LINEAR)_\w+"
        r"|DISABLE_ADDMM_\w+|PYTORCH_(MIOPEN|TENSOREXPR|JIT)_\w+|TORCH_ROCM_\w+",
        changes="torch: the library that multiplies, from which size on, and tuned choices.",
    ),
    VariableRule(
        names=r"ATEN_CPU_CAPABILITY",
        changes="torch: the instruction set of its own kernels.",
    ),
    VariableRule(
        names=r"TORCH_(ALLOW_TF32|CUDNN)_\w+|NVIDIA_TF32_\w+",
        changes="TF32 in products, and how cuDNN chooses.",
    ),
    VariableRule(
        names=r"(CUBLAS|CUBLASLT|CUDNN|CUSPARSE|CUSPARSELT|CUTLASS)_\w+",
        changes="NVIDIA's libraries: workspaces, which decide on the kernels that may be used.",
    ),
    VariableRule(
        names=r"CUDA_\w+",
        changes="CUDA: blocking launches, loading of kernels, queues, shares of the GPU (MPS).",
    ),
    VariableRule(
        names=r"(ROCBLAS|HIPBLAS|HIPBLASLT|TENSILE|MIOPEN|HSA|HIP)_\w+",
        changes="The same for AMD's libraries.",
    ),
    VariableRule(
        names=r"GLIBC_TUNABLES|_?(\w+_)?MALLOC_\w+|TCMALLOC_\w+|MIMALLOC_\w+|JEMALLOC_\w+"
        r"|PYTORCH_(\w+_)?ALLOC_CONF|PYTORCH_NO_CUDA_MEMORY_CACHING|THP_MEM_ALLOC_ENABLE",
        changes="Allocators: where operands and results lie, huge pages, memory given back and"
        " faulted in again at each call.",
    ),
    VariableRule(
        names=r"LD_PRELOAD",
        changes="Preloaded libraries, mostly allocators and OpenMP: the names of their files.",
    ),
)
"""What belongs to a platform."""

_OTHERWISE: Final = re.compile(
    # Set by this project; the number of threads is a field of the platform.
    r"(OMP|MKL|OPENBLAS)_NUM_THREADS"
    # Where things lie. What is found there counts by its version.
    r"|\w+_(CACHE_DIR|HOME|ROOT|CACHE_PATH|DUMP_DIR|DIRECTORY)"
    r"|CUDA_(PATH|BIN_PATH|LIB_PATH|INC_PATH|TOOLKIT_\w+|VERSION|CACHE_\w+|\w*COREDUMP\w*|LOG_FILE)"
    # Which device measures; its model is a field of the platform.
    r"|(CUDA|HIP|HSA)_VISIBLE_DEVICES|CUDA_DEVICE_ORDER"
    # How torch.compile works, not what it makes.
    r"|TORCHINDUCTOR_(COMPILE_THREADS|WORKER_START|FORCE_DISABLE_CACHES|FX_GRAPH_\w+)"
)
"""Names that match a pattern above and change no latency."""

_MATCHING: Final = re.compile("|".join(f"(?:{rule.names})" for rule in KERNEL_VARIABLES))


def kernel_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environment` that belong to a platform; those that aren't set don't.

    Of LD_PRELOAD, only the names of the files, not their directories.
    """
    variables = {
        name: value
        for name, value in environment.items()
        if _MATCHING.fullmatch(name) and not _OTHERWISE.fullmatch(name)
    }
    preloaded = re.split(r"[\s:]+", variables.pop("LD_PRELOAD", "").strip(" :"))
    if preloaded != [""]:
        variables["LD_PRELOAD"] = " ".join(Path(path).name for path in preloaded)
    return variables
