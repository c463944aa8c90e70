"""The processes that run on a host: the service, its supervisor, and the measuring worker.

Each module puts parts together, and knows the order in which they start and stop.
"""
