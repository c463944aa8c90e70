"""From samples to curves, LHPs and crossovers: the statistics and the hysteresis mathematics.

Pure: numpy only. Knows neither torch, nor storage, nor HTTP, nor which points are measured next.
"""
