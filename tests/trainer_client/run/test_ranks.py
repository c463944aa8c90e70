"""Which device a process takes. What processes tell each other: test_cli.py."""

from __future__ import annotations

import pytest
import torch

from trainer_client.run.ranks import choose_device


def test_each_process_of_a_host_takes_a_cuda_device_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert choose_device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device() == torch.device("cuda", 3)
    # NCCL and new tensors go by the current device.
    assert current == [torch.device("cuda", 0), torch.device("cuda", 3)]


def test_without_cuda_it_is_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device() == torch.device("cpu")
