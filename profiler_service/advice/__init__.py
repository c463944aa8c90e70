"""Looks into a user's model: which of its layers can the service be asked about?

Needs torch, and runs where the model is. Only sizes leave that process.
"""
