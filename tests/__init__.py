"""The tests; what is set here is set before anything imports numpy."""

import os

# As the command line does: threads of small linear algebra only get in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
