"""How much a host gains from what it has learned.

Two services with empty databases: one learns (the default), one doesn't (`LHP_LEARN=false`). The
first is asked the training queries. Then both are asked the same fresh queries, each in turn first.
The one that learns is asked once for a prediction, before it measures anything of the window, and
once for a measured answer. The referee shares no code with them. It measures the queried point,
what was predicted, both answers, the rules of thumb, and the best points of a search of its own,
interleaved, in processes of its own.

    python -m benchmarks.learned --out DIR
"""
