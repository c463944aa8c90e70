"""The command `lhp`: errors become messages and exit codes here, and nowhere else.

`profiler_service.processes.exit_codes` lists the exit codes.

Knows neither how anything is measured nor how it is stored. A command imports its large
packages itself, so that `lhp --help` is quick.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from profiler_service.processes.exit_codes import FAILED, INTERRUPTED
from profiler_service.standard_streams import make_safe


def main() -> NoReturn:
    """Runs the command line and exits; never with a traceback for a known error."""
    make_safe()
    # The planners' linear algebra is small: threads would only spin on measured processors.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from profiler_service.cli.app import run

        code = run()
    except KeyboardInterrupt:
        # A second Ctrl-C while Python ends would print a traceback. Nothing is left to clean up.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe (`| head`) has ended, which is no error.
        code = FAILED
    sys.exit(code)
