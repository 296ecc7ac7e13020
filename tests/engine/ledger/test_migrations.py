"""The promise: the migrations make the tables that the code expects, from an empty database and from any before."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.ledger import migrations
from engine.ledger.schema import metadata


async def test_the_migrations_make_the_tables_of_the_code(ledger: AsyncEngine) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with ledger.connect() as connection:
        assert await connection.run_sync(differences) == []
    assert await migrations.current(ledger) == migrations.newest()
