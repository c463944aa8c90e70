"""The exit codes of `lhp` and of its processes, and what each says."""

from __future__ import annotations

import os
from collections.abc import Mapping

DONE = 0
FAILED = 1
USAGE = 2
PARTLY = 3
INTERRUPTED = 130
"""After Ctrl-C: 128 + SIGINT, as shells expect."""
TRY_LATER = os.EX_TEMPFAIL
"""The worker can't run now, but perhaps later."""
CANNOT_RUN = os.EX_CONFIG
"""The worker can't run as this machine is set up."""
PLATFORM_CHANGED = 1
"""The platform has changed: start the worker again, so that it registers the new one."""

MEANINGS: Mapping[int, str] = {
    DONE: "Done.",
    FAILED: "It could not be done. `error:` says why, and `hint:` says what to do. Also if"
    " standard output can't be written to, and if `lhp doctor` finds that something is wrong.",
    USAGE: "The command line is not valid, or what it asks for is malformed or out of range.",
    PARTLY: "`lhp advise` and `lhp query --file` only: there are answers, but not for every layer"
    " or question.",
    TRY_LATER: "`lhp worker` only: it can't run now, but may later (another worker holds the"
    " lock, say).",
    CANNOT_RUN: "`lhp worker` only: it can't run as this machine is set up.",
    INTERRUPTED: "Interrupted by Ctrl-C.",
}
"""What each exit code of `lhp` says, in the order of the codes."""
