"""Durable sweeps: an enqueued sweep is run to its end, even if processes die meanwhile.

Only this package uses the job engine (DBOS). It knows neither planners nor measuring nor curves:
it calls `run_batch(sweep_id)` until the sweep has ended. The store holds the state of a sweep;
the engine only remembers that the sweep must go on. See
docs/decisions/0002-durable-sweeps-on-dbos.md.
"""

from profiler_service.jobs.client import JobClient
from profiler_service.jobs.engine import SCHEMA, STEP, engine_url, upgrade
from profiler_service.jobs.runner import JobRunner

__all__ = ["SCHEMA", "STEP", "JobClient", "JobRunner", "engine_url", "upgrade"]
