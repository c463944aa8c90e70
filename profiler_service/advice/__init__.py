"""Finds the layers of a user's model that the service can answer for.

Needs torch, and runs in the process that has the model. Only sizes leave that process.
"""
