"""Plain torch networks: the network that is measured is the network that is trained.

Knows nothing of measuring, of workloads or of the service.
"""

from __future__ import annotations

from profiler_service.networks.hlstm import HLSTM, HLSTMWeights
from profiler_service.networks.hlstm_backends import (
    BoundHLSTM,
    HLSTMMatrices,
    HLSTMRun,
    bind_csr,
    bind_hlstm,
    block_diagonal,
)
from profiler_service.networks.language_model import HLSTMLanguageModel, LSTMLanguageModel
from profiler_service.networks.speech import DeepSpeech2

__all__ = [
    "HLSTM",
    "BoundHLSTM",
    "DeepSpeech2",
    "HLSTMLanguageModel",
    "HLSTMMatrices",
    "HLSTMRun",
    "HLSTMWeights",
    "LSTMLanguageModel",
    "bind_csr",
    "bind_hlstm",
    "block_diagonal",
]
