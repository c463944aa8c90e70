"""What the measuring child inherits: it runs the calls of third parties."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from profiler_service.measurement.child_environment import child_environment
from profiler_service.measurement.measurer import Measurer
from tests.measurement.batches import child_pid

SECRETS = {
    "LHP_DATABASE_URL": "postgresql://lhp:s3cret@db/lhp",
    "LHP_URL": "http://127.0.0.1:8000",
    "PGPASSWORD": "s3cret",
    "PGHOST": "db",
    "DATABASE_URL": "postgresql://lhp:s3cret@db/lhp",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "HF_TOKEN": "s3cret",
    "NVIDIA_API_KEY": "s3cret",
    "HTTPS_PROXY": "http://me:s3cret@proxy:1",
    "SSH_AUTH_SOCK": "/run/agent",
    "MINE_DATA": "/data",
}
NEEDED = {
    "PATH": "/usr/bin",
    "HOME": "/home/ann",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TMPDIR": "/scratch",
    "LD_LIBRARY_PATH": "/opt/lib",
    "LD_PRELOAD": "/opt/lib/libjemalloc.so",
    "CUDA_VISIBLE_DEVICES": "1",
    "NVIDIA_TF32_OVERRIDE": "0",
    "TORCHINDUCTOR_MAX_AUTOTUNE": "1",
    "PYTORCH_TUNABLEOP_ENABLED": "1",
    "TORCH_BLAS_PREFER_CUBLASLT": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_ARENA_MAX": "2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "PYTHONHASHSEED": "0",
}
THREADS = {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}


def test_what_measuring_needs_is_passed_on_and_nothing_else() -> None:
    given = {**SECRETS, **NEEDED, "OMP_NUM_THREADS": "64"}
    assert child_environment(given, threads=3) == {**NEEDED, **THREADS}


def test_further_variables_are_passed_on_where_the_operator_names_them() -> None:
    given = {**SECRETS, "MINE_CACHE": "/cache"}
    assert child_environment(given, threads=3, keep=["MINE_*", "HTTPS_PROXY"]) == {
        "MINE_DATA": "/data",
        "MINE_CACHE": "/cache",
        "HTTPS_PROXY": SECRETS["HTTPS_PROXY"],
        **THREADS,
    }


def test_the_child_has_neither_the_databases_url_nor_a_descriptor_of_its_parent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        with Measurer(device="cpu", keep_variables=["MINE_*"]) as measurer:
            child = child_pid(measurer)
            environment = Path(f"/proc/{child}/environ").read_bytes().decode()
            open_files = {str(each.readlink()) for each in Path(f"/proc/{child}/fd").iterdir()}
    assert "s3cret" not in environment
    assert "LHP_" not in environment
    assert "MINE_DATA=/data" in environment
    assert str(tmp_path / "open") not in open_files
    # Its pipe to the parent, and the block of samples.
    assert sum("socket:" in each for each in open_files) == 1
