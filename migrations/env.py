"""Runs the migrations on the connection that `profiler_service.storage.schema` passes.

Knows no URL and opens no connection. Everything happens in the caller's transaction. So if a
migration fails, or its process is killed, the schema stays as it was.
"""

from __future__ import annotations

import logging

from alembic import context

logging.getLogger("alembic").setLevel(logging.WARNING)

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
