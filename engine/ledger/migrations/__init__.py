"""The ledger's migrations: `migrate` brings a database to the newest one, several at once are safe.

Rules: additive first; never edited once released; backfills in batches apart. Each migration runs under a lock timeout
and a statement timeout, so that it gives up instead of holding up claims that are on their way into the ledger.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

_ADVISORY_LOCK = 0x666C617368  # "flash": one migration at a time in a database
_LOCK_TIMEOUT = "10s"
_STATEMENT_TIMEOUT = "300s"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def newest() -> str | None:
    """The revision that this version of the program wants."""
    return ScriptDirectory.from_config(_config()).get_current_head()


async def migrate(ledger: AsyncEngine) -> None:
    """Bring the database to the newest revision."""
    async with ledger.begin() as connection:
        await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        await connection.execute(text(f"set local lock_timeout = '{_LOCK_TIMEOUT}'"))
        await connection.execute(text(f"set local statement_timeout = '{_STATEMENT_TIMEOUT}'"))
        await connection.run_sync(lambda sync: command.upgrade(_config(sync), "head"))


async def current(ledger: AsyncEngine) -> str | None:
    """The revision that the database is at; None for an empty one."""
    async with ledger.connect() as connection:
        exists = await connection.scalar(text("select to_regclass('alembic_version')"))
        if exists is None:
            return None
        found: str | None = await connection.scalar(text("select version_num from alembic_version"))
        return found
