"""The race: the fastest point of a window from a small part of its visits, and confirmed.

numpy only. `planner` runs the stages in order, on what `visits` gives them all. What to visit, and
when to stop, is decided by small objects that tests run alone: `budget`, `warmup`, `survey`,
`narrow`, `contest`, `confirm`, each with its own part of `settings`. `structure` fits latency along
the axes, to what `seen` holds; `guide` says what a stored curve of an operator tells of a network;
`stages` and `curve` are what a race leaves.
"""
