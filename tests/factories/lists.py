"""Lists of members for tests."""

from sqlalchemy.ext.asyncio import AsyncEngine

from engine.ledger.schema import list_members, lists


async def put_list(ledger: AsyncEngine, name: str, *members: str) -> None:
    """Write a list of members down."""
    async with ledger.begin() as connection:
        await connection.execute(lists.insert().values(name=name))
        await connection.execute(list_members.insert(), [{"list": name, "member": member} for member in members])
