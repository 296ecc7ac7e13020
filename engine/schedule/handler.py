"""What does jobs: a function that gets them, and what it works with."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.drops.service import Drops
from engine.ledger import homes
from engine.runtime.connections import Stores
from engine.schedule.model import Job


@dataclass(frozen=True, slots=True)
class Work:
    """What a handler works with: `connection` is the transaction that also marks its job as done."""

    connection: AsyncConnection
    stores: Stores
    drops: Drops
    partitions: int

    async def follow(self) -> None:
        """Go to the store that the ledger names, before it is acted on or its clock is believed; no other decides."""
        named = set((await homes.read(self.connection)).values())
        await self.stores.scripts.follow(named.pop() if len(named) == 1 else "")


Handler = Callable[[Sequence[Job], Work], Awaitable[None]]


class Kind(NamedTuple):
    """A kind of jobs: what does them, and how many that are due it is given at once."""

    do: Handler
    at_once: int = 1
