"""Runs the migrations on the connection that `profiler_service.storage.schema` hands over.

Knows no URL and opens no connection. The caller's transaction holds everything, so that a
migration that fails, or whose process is killed, leaves the schema as it was.
"""

from __future__ import annotations

import logging

from alembic import context

logging.getLogger("alembic").setLevel(logging.WARNING)

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
