"""What many idle workers cost one PostgreSQL, and how soon a job starts on one of them.

`python -m benchmarks.many_hosts`. The referee counts in PostgreSQL itself, and shares no code with
the service.
"""
