"""Alembic migrations: they alone define the database's schema.

Installed as `profiler_service.migrations`; `profiler_service.storage.schema` runs them.
"""
