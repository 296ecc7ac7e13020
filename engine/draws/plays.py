"""Reads the plays of an instant win from the ledger, once the drop is closed and every play has got there."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

from redis.exceptions import RedisError

from engine.claims import history, keys
from engine.claims.model import NotReady, StoreUnavailable
from engine.draws.instant import Play
from engine.draws.verify import LOST, Json
from engine.drops.model import Drop, Status, WrongStatus
from engine.errors import Refused
from engine.runtime.connections import Stores


class NotInstant(Refused):
    code: ClassVar[str] = "not-instant"


async def revealed(stores: Stores, partitions: int, drop: Drop) -> Json:
    """The whole document of a closed drop: the secret, every play by its serial, and the odds that were given.

    A drop that was closed takes no play again, whatever its clock does: so the secret may be told. `drop` is as the
    ledger has it now. Raises `NotInstant`, `WrongStatus`, `CommitmentBroken`, `NotReady` while a play is on its way.
    """
    if drop.spec.instant is None:
        raise NotInstant(f"drop {drop.id!r} is no instant win", drop_id=drop.id)
    if drop.status is not Status.CLOSED:
        raise WrongStatus(
            f"drop {drop.id!r} is {drop.status}: its secret is revealed once it is closed (flashclaim drop close)",
            status=str(drop.status),
            allowed_from=[str(Status.CLOSED)],
        )
    serials = [await _last_serial(stores, partition, drop) for partition in range(partitions)]
    plays: list[dict[int, Play]] = [{} for _ in range(partitions)]
    blank = len(drop.spec.items)
    async with stores.ledger.connect() as connection:
        async for page in history.plays(connection, drop.id):
            for partition, serial, item, at_ms in page:
                plays[partition][serial] = (at_ms, 0 if item == blank else item)
        skipped = [await history.skipped(connection, drop.id, partition) for partition in range(partitions)]

    def document() -> Json:
        listed = [_listed(*known) for known in zip(plays, serials, skipped, strict=True)]
        return stores.dealer.reveal(drop, listed)

    return await asyncio.to_thread(document)


def _listed(plays: Mapping[int, Play], last: int, skipped: Sequence[tuple[int, int]]) -> list[Play]:
    """The plays of a partition, each in the place of its serial. Pure; raises `NotReady` where one is not recorded."""
    lost = {serial for first, end in skipped for serial in range(first, end + 1)}
    found: list[Play] = []
    for serial in range(1, max(last, *plays, 0) + 1):
        if serial not in plays and serial not in lost:
            raise NotReady(f"the ledger has not recorded play {serial} yet: try again in a moment", retry_after_s=1)
        found.append(plays.get(serial, (LOST[0], LOST[1])))
    return found


async def _last_serial(stores: Stores, partition: int, drop: Drop) -> int:
    """The last serial that a partition gave; raises `NotReady` where the close has not come there."""
    try:
        status, serial = await stores.scripts.ask("HMGET", keys.drop(partition, drop.id), "status", "serial")
    except (RedisError, OSError) as error:
        raise StoreUnavailable("the store cannot be reached: try again") from error
    if status != b"closed":
        raise NotReady(
            f"partition {partition} of the store is not closed: try again in a moment; if it stays so, see"
            f" `flashclaim rebuild {drop.id}`",
            retry_after_s=2,
        )
    return int(serial)
