"""The processes that run on a host: the service, its supervisor, and the measuring worker.

Composition roots: they know the parts and the order in which they start and stop.
"""
