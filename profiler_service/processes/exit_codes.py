"""The exit codes of `lhp` and of its processes. Knows nothing else."""

from __future__ import annotations

import os

FAILED = 1
USAGE = 2
INTERRUPTED = 130
"""After Ctrl-C: 128 + SIGINT, as shells expect."""
TRY_LATER = os.EX_TEMPFAIL
"""Of a worker: it can't run now, but may later."""
CANNOT_RUN = os.EX_CONFIG
"""Of a worker: it can't run as this machine is set up."""
PLATFORM_CHANGED = 1
"""Of a worker that is to be started again, so that it registers the new platform."""
