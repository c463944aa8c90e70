"""Turns samples into curves, LHPs and crossovers: the statistics, and the mathematics of LHPs.

Pure: numpy only. Knows neither torch, nor storage, nor HTTP, nor which points are measured next.
"""
