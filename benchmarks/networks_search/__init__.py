"""How good and how fast a race is if calls are long: windows of whole networks.

    python -m benchmarks.networks_search --out docs/results         # about 8 minutes
    python -m benchmarks.networks_search --kind hlstm_lm            # about 15 minutes
    python -m benchmarks.networks_search --queries 1 --earlier 1    # a quick look

The service's own planner and measuring process race each random query's window, in this process,
without HTTP or storage. They do so twice: as an *empty* host, which knows nothing, and as a
*learned* one, which has made races in other windows before. Every race has a budget of 4.8 % of the
time of calling each point once, as a caller gives it who has no more than 5 %.

An independent referee measures with its own timer. Before a race, it estimates the time of calling
each point once, from a random sample of points that are called for the first time. Then it measures
how much slower the answers are than the best point that it knows. To call every point often would
take hours, so it knows the answers, the queried point, the races' last contestants, and the sample.
Windows with known truth: `benchmarks.synthetic_search`.

Doesn't know how a race decides. Measures on a CPU. Run it on an otherwise idle machine.

Exit code: 0 if every goal is met, 1 if one is missed, 2 if no verdict was possible.
"""
