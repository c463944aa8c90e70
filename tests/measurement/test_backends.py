"""Which element types and kernels a device has, found by trying them on this one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from profiler_service.kinds.backends import HOST_BACKENDS
from profiler_service.measurement.backends import probe_backends, probe_dtypes
from profiler_service.networks.compilation import can_generate_code


def test_float32_is_always_among_the_dtypes() -> None:
    assert probe_dtypes("cpu")[0] == "float32"


def test_dtypes_that_a_device_fails_to_multiply_are_left_out() -> None:
    assert probe_dtypes("meta") == ()  # has shapes only: nothing can be copied from it


@pytest.mark.gpu
def test_a_gpu_with_tensor_cores_of_all_kinds_multiplies_all_dtypes() -> None:
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("needs a CUDA device of compute capability 8.0 or more")
    assert probe_dtypes("cuda") == ("float32", "bfloat16", "float16")


def test_every_backend_is_tried_for_every_dtype() -> None:
    backends = probe_backends("cpu", ("float32", "bfloat16"))
    assert tuple(backends) == HOST_BACKENDS
    for name in ("dense", "math", "fused", "csr"):
        assert "float32" in backends[name]
    # MKL has no sparse product of bfloat16, so torch has none on a CPU; attention has kernels.
    assert backends["csr"] == ("float32",)
    assert backends["math"] == backends["fused"] == ("float32", "bfloat16")
    assert probe_backends("cpu", ()) == dict.fromkeys(HOST_BACKENDS, ())


def test_a_device_without_kernels_has_none() -> None:
    # Tensors on `meta` have shapes only: nothing can be copied from them.
    backends = probe_backends("meta", ("float32",))
    assert [name for name in ("dense", "packed", "packed_conv2d", "math") if backends[name]] == []


def test_without_a_compiler_of_c_layers_are_not_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "compiler"
    compiler.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert can_generate_code("cpu")
    monkeypatch.setenv("CXX", str(tmp_path / "nothing"))
    assert not can_generate_code("cpu")
    backends = probe_backends("cpu", ("float32",))
    # A product is one call of a library.
    assert (backends["compiled"], backends["compiled_layer"]) == (("float32",), ())
