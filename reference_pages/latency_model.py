"""The page of the latency model's settings, from `profiler_service.latency_model.settings`."""

from __future__ import annotations

from profiler_service.latency_model.settings import describe_settings

INTRODUCTION = """\
---
hide:
  - toc
---

# The latency model's settings

These are all the numbers that the model of a host's latencies uses.
[What a host learns](../explanation/latency-model.md) explains them. Operators can't change them:
with other features, what was learned could not be used.

"""


def latency_model_page() -> str:
    """Every setting of the latency model: its value, unit and meaning."""
    return INTRODUCTION + describe_settings()
