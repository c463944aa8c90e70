"""How good the answer of a race is, how long it takes, and how repeatable it is.

    python -m benchmarks.search --out docs/results       # about 10 minutes on two processors
    python -m benchmarks.search --queries 2 --repeat 1   # a quick look
    python -m benchmarks.search --busy                   # races beside a busy loop

Each random query's window is raced by the service's own planner and measuring process, in
this process, without HTTP or storage. Then an independent referee measures the window for
itself, once the race is over: what calling each point once takes, what PyTorch's own timer
would need, which point is the best, and how much slower the answer is. The referee is that of
`benchmarks.answers` and shares no code with the service; only `benchmarks.contender` imports it.
Knows nothing of how a race decides. Measures on a CPU. Run it on an otherwise idle machine.

Exit code: 0 if every goal is met, 1 if one is missed, 2 if no verdict was possible.
"""
