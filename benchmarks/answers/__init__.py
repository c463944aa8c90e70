"""How well the service answers: asks two fresh services over HTTP, then measures for itself.

    python -m benchmarks.answers --out docs/results            # all parts
    python -m benchmarks.answers --out docs/results --resume   # goes on with a run that was ended
    python -m benchmarks.answers --busy --parts agreement --out docs/results
    python -m benchmarks.answers --queries 2 --preferences 2 --races 5     # a quick look

Parts: `agreement` asks each query of two services with empty databases, one after the other:
whether they agree, regret, slower answers, calibration, and the time of a cold answer.
`preferences` asks for `nearest` and `largest`. `noise` simulates races whose truth is known.

The referee shares no code with the service and doesn't know how it measures, stores or chooses;
only its documented HTTP interface. (The simulated races run the service's planner, in processes of
their own.) It measures each query in several processes, one at a time, on the processors that the
service measures on. Measures on a CPU. Run it on an otherwise idle machine.

With `--out`, every query is written as it comes: `answers.json`, `answers.md` and a picture of the
calibration. `--max-minutes` ends a run early; `--resume` continues it.

Exit code: 0 if every goal is met, 1 if one is missed, 2 if no verdict was possible, 3 if the time
was up first.
"""
