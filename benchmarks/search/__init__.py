"""How good the answer of a race is, how long it takes, and how repeatable it is.

    python -m benchmarks.search --out docs/results       # about 10 minutes on two processors
    python -m benchmarks.search --queries 2 --repeat 1   # a quick look
    python -m benchmarks.search --busy                   # races beside a busy loop

The service's own planner and measuring process race each random query's window, in this process,
without HTTP or storage. When the race is over, an independent referee measures the window: the time
of calling each point once, the time that PyTorch's own timer would need, the best point, and how
much slower the answer is. The referee is that of `benchmarks.answers` and shares no code with the
service; only `benchmarks.contender` imports it. Doesn't know how a race decides. Measures on a CPU.
Run it on an otherwise idle machine.

Exit code: 0 if every goal is met, 1 if one is missed, 2 if no verdict was possible.
"""
