"""The exit codes of `lhp` and of its processes."""

from __future__ import annotations

import os

FAILED = 1
USAGE = 2
INTERRUPTED = 130
"""After Ctrl-C: 128 + SIGINT, as shells expect."""
TRY_LATER = os.EX_TEMPFAIL
"""The worker can't run now, but perhaps later."""
CANNOT_RUN = os.EX_CONFIG
"""The worker can't run as this machine is set up."""
PLATFORM_CHANGED = 1
"""The platform has changed: start the worker again, so that it registers the new one."""
