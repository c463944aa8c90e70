"""What opening a device changes for the whole process is changed back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def process_state() -> Iterator[None]:
    """Denormals and threads as other tests expect them: hypothesis, for one, makes denormals."""
    num_threads = torch.get_num_threads()
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(num_threads)
