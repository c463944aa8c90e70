"""An independent referee of the service's answers: asks over HTTP, then measures for itself.

Shares no code with the service and doesn't know how the service measures, stores or chooses;
only its documented HTTP interface. Measures on a CPU, on the machine that the service
measures on.

    python -m benchmarks.answers                 # starts a fresh service, asks, judges
    python -m benchmarks.answers --url http://127.0.0.1:8000
    python -m benchmarks.answers --self-check    # no service: checks the referee itself

Exit code: 0 if every goal is met, 1 if one is missed, 2 if no verdict was possible.
"""
