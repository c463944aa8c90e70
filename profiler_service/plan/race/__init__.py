"""The race: the fastest point of a window from a small part of its visits, and confirmed.

numpy only. `planner` runs the stages, `structure` fits latency along the axes, `guide` says what a
stored curve of an operator tells of a network.
"""
