"""Which environment variables the measuring child gets. Reads none itself.

The child runs the calls of third parties, so it gets what measuring needs and nothing else: no
database URL, no password, no token. What changes kernels is part of the platform's key and always
passed on (`kernel_variables.kernel_variables`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Final

from profiler_service.measurement.kernel_variables import kernel_variables

_OF_ANY_PROCESS: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TMP", "TEMP", "TZ", "LANG", "LANGUAGE", "LC_*"),
    *("LD_*", "PYTHON*", "VIRTUAL_ENV", "CONDA_PREFIX", "XDG_CACHE_HOME"),
)
"""Where it finds programs, libraries and caches."""
_OF_COMPILERS: Final = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPATH", "LIBRARY_PATH")
_OF_LIBRARIES: Final = (
    *("TORCH_*", "TORCHINDUCTOR_*", "PYTORCH_*", "TRITON_*", "ATEN_*", "CUDA_*", "CUBLAS*"),
    *("CUDNN_*", "NVIDIA_*", "NCCL_*", "HIP_*", "HSA_*", "ROCR_*", "ROCBLAS_*", "MIOPEN_*"),
    *("MKL_*", "ONEDNN_*", "DNNL_*", "OPENBLAS_*", "BLIS_*", "OMP_*", "KMP_*", "GOMP_*"),
)
PASSED_ON: Final = (*_OF_ANY_PROCESS, *_OF_COMPILERS, *_OF_LIBRARIES)
"""Names and patterns of names, besides those that belong to a platform."""
_SECRET: Final = re.compile(r".*(TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY).*", re.IGNORECASE)
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def child_environment(
    environment: Mapping[str, str], *, threads: int, keep: Collection[str] = ()
) -> dict[str, str]:
    """The variables of a child that measures with so many threads.

    `keep` are further names or patterns, for kinds of third parties that need a variable.
    """
    passed_on = set(kernel_variables(environment))
    for name in environment:
        if _matches(name, keep) or (_matches(name, PASSED_ON) and not _SECRET.fullmatch(name)):
            passed_on.add(name)
    # Libraries read the number of threads once, when they are loaded.
    chosen = {name: value for name, value in environment.items() if name in passed_on}
    return {**chosen, **dict.fromkeys(_THREADS, str(threads))}


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
