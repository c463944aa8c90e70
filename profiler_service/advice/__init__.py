"""Advice for a model of the user's own: which of its layers the service can be asked about.

Needs torch, and runs where the model is; nothing but sizes leaves that process.
"""
