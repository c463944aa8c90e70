"""Random kills under load: does every sweep end, and is nothing lost or measured twice?

`python -m benchmarks.soak`. The referee reads the database itself, and shares no code with the
service.
"""
