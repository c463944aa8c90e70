"""The command `lhp`: errors become messages and exit codes here, and nowhere else.

Exit codes: 0 done; 1 it could not be done; 2 the command line is not valid; 130 interrupted
by Ctrl-C. `lhp worker` has two more: 75 it can't run now, but perhaps later; 78 it can't run
as this machine is set up.

Knows neither how anything is measured nor how it is stored. A command imports its large
packages itself, so that `lhp --help` is quick.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from profiler_service.processes.exit_codes import FAILED, INTERRUPTED


def main() -> NoReturn:
    """Runs the command line and exits; never with a traceback for a known error."""
    # The planners' linear algebra is small: threads would only spin on measured processors.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from profiler_service.cli.app import run

        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        # A second Ctrl-C while Python ends would print a traceback. Nothing is left to clean up.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe (`| head`) has ended, which is no error. Python would report it
        # again at exit, when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = FAILED
    sys.exit(code)
