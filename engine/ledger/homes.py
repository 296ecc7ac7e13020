"""Which store decides for each partition, by the ledger's word: all processes read it, the worker writes it.

A store that was left behind can't know that it was: it answers whoever still reaches it. So each process asks the one
place that all share (`Claims.follow`).
"""

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.ledger.schema import homes


async def read(connection: AsyncConnection) -> dict[int, str]:
    """Partition → replication id of its store; none before a worker has seen one."""
    rows = await connection.execute(select(homes.c.partition, homes.c.home))
    return {row.partition: row.home for row in rows}


async def forget(connection: AsyncConnection) -> None:
    """No store may decide before a worker has compared it with this ledger."""
    await connection.execute(delete(homes))


async def name(connection: AsyncConnection, partition: int, home: str) -> None:
    """Write down the store that decides from now on."""
    row = insert(homes).values(partition=partition, home=home)
    await connection.execute(
        row.on_conflict_do_update(index_elements=["partition"], set_={"home": home, "named_at": func.now()})
    )
