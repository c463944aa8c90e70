"""The tests; what is set here is set before anything imports numpy."""

import os
import signal

# As the command line does: threads of small linear algebra only get in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Started in the background by a script, this process would ignore Ctrl-C, and its children, too:
# those that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
