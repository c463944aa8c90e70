"""Alembic migrations: the only truth about the database's schema.

Installed as `profiler_service.migrations`; `profiler_service.storage.schema` runs them.
"""
