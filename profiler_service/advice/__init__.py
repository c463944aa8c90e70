"""Finds the layers of a user's model that the service can answer for.

Needs torch, and runs where the model is. Only sizes leave that process.
"""
