import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from profiler_service.storage import schema
from profiler_service.storage.database import create_database_engine, parse_url
from profiler_service.storage.tables import metadata


def test_the_migrations_make_the_tables_that_the_code_uses(database_url: str) -> None:
    engine = create_database_engine(parse_url(database_url))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
