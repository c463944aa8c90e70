from __future__ import annotations

import re

import pytest

from profiler_service.measurement.kernel_variables import KERNEL_VARIABLES, kernel_variables


@pytest.mark.parametrize(
    "name",
    [
        *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DYNAMIC", "MKL_VERBOSE"),
        *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"),
        *("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_CPU_ISA_HINTS"),
        *("OPENBLAS_CORETYPE", "BLIS_ARCH_TYPE"),
        *("OMP_WAIT_POLICY", "OMP_PROC_BIND", "KMP_BLOCKTIME", "KMP_AFFINITY", "GOMP_SPINCOUNT"),
        *("TORCHINDUCTOR_MAX_AUTOTUNE", "TORCHINDUCTOR_FREEZING", "TORCHINDUCTOR_CPP_WRAPPER"),
        *("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE", "CXX"),
        *("PYTORCH_TUNABLEOP_ENABLED", "PYTORCH_TUNABLEOP_TUNING", "PYTORCH_TUNABLEOP_FILENAME"),
        *("TORCH_BLAS_PREFER_CUBLASLT", "TORCH_BLAS_PREFER_HIPBLASLT"),
        *("TORCH_MKLDNN_MATMUL_MIN_DIM", "TORCH_LINEAR_FLATTEN_3D", "DISABLE_ADDMM_CUDA_LT"),
        *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_CUDNN_V8_API_DISABLED"),
        *("ATEN_CPU_CAPABILITY", "NVIDIA_TF32_OVERRIDE"),
        *("CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE", "CUDNN_DETERMINISTIC"),
        *("CUDA_LAUNCH_BLOCKING", "CUDA_MODULE_LOADING", "CUDA_DEVICE_MAX_CONNECTIONS"),
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
        *("GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_CONF"),
        *("_RJEM_MALLOC_CONF", "TCMALLOC_RELEASE_RATE", "MIMALLOC_LARGE_OS_PAGES"),
        *("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING"),
        "THP_MEM_ALLOC_ENABLE",
    ],
)
def test_a_variable_that_changes_kernels_belongs_to_the_platform(name: str) -> None:
    assert kernel_variables({name: "1"}) == {name: "1"}
    assert kernel_variables({}) == {}


@pytest.mark.parametrize(
    "name",
    [
        *("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),  # set by this project
        *("HOME", "PATH", "MKLROOT", "MY_MKL_CBWR", "LHP_THREADS"),
        *("CUDA_HOME", "CUDA_PATH", "CUDA_VERSION", "CUDA_CACHE_PATH", "CUDA_TOOLKIT_ROOT_DIR"),
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_MPS_PIPE_DIRECTORY"),
        *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS"),
        *("TORCH_HOME", "TORCH_LOGS", "TORCH_SHOW_CPP_STACKTRACES", "PYTHONMALLOC"),
    ],
)
def test_a_variable_that_changes_no_latency_does_not(name: str) -> None:
    assert kernel_variables({name: "1"}) == {}


def test_another_value_is_another_flag() -> None:
    assert kernel_variables({"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}) == {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
    }


@pytest.mark.parametrize(
    ("preload", "flag"),
    [
        ("/usr/lib/libjemalloc.so.2", "libjemalloc.so.2"),
        ("/opt/b/libiomp5.so:/opt/a/libtcmalloc.so.4", "libiomp5.so libtcmalloc.so.4"),
        (" libone.so  /lib/libtwo.so ", "libone.so libtwo.so"),  # blanks separate as well
        ("/a/libtwo.so:", "libtwo.so"),
    ],
)
def test_preloaded_libraries_belong_to_the_platform_by_name(preload: str, flag: str) -> None:
    assert kernel_variables({"LD_PRELOAD": preload}) == {"LD_PRELOAD": flag}


@pytest.mark.parametrize("preload", ["", " ", ":"])
def test_nothing_preloaded_is_no_flag(preload: str) -> None:
    assert kernel_variables({"LD_PRELOAD": preload}) == {}


def test_every_rule_says_what_it_changes() -> None:
    for rule in KERNEL_VARIABLES:
        assert re.compile(rule.names)
        assert rule.changes.endswith(".")
