"""Who says what a latency is: the service, a cache of its answers, or recorded ones. No torch."""

from trainer_client.oracle.answers import LatencyAnswer
from trainer_client.oracle.http import HttpLatencyOracle
from trainer_client.oracle.protocol import LatencyOracle
from trainer_client.oracle.recordings import RecordedLatencyOracle

__all__ = ["HttpLatencyOracle", "LatencyAnswer", "LatencyOracle", "RecordedLatencyOracle"]
