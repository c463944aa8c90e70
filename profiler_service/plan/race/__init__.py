"""The race: finds the fastest point of a window with few visits, and confirms it.

numpy only. `planner` runs the stages in order, the first of which are in `search`; `visits` has
what all stages share. Small objects decide what to visit and when to stop: `budget`, `survey`,
`narrow`, `contest`, `settle`. Each has its own part of `settings`, and tests run it alone. `seen`
collects samples, and `structure` fits latency along the axes to them. `standing` and `margin` say
how points stand, and how much faster than the answer others may be. `guide` reads from an
operator's curve what to expect of a network. `stages` and `curve` describe the result of a race.
`ladder` is another planner, for the nearest and the largest point.
"""
