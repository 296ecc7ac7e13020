"""The promise: a store that is new to an API process hears what members were told, though nobody claims meanwhile."""

import asyncio

from engine.bounds import HOMECOMING_GRACE_S
from engine.claims import keys
from engine.claims.backlog import Backlog
from engine.claims.service import Claims
from engine.drops.service import Drops
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings


async def test_a_process_says_what_it_was_told_before_a_new_store_is_compared(
    stores: Stores, settings: Settings
) -> None:
    drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
    claims = Claims(stores.scripts, stores.ledger, drops, settings, Backlog(stores.redis, 1, 1_000_000))
    claims._told["trial", 0] = 7
    await stores.redis.set(keys.home(0), "the store before")
    stop = asyncio.Event()
    reminding = asyncio.create_task(claims.remind(stop))
    async with asyncio.timeout(HOMECOMING_GRACE_S):
        while await stores.redis.hget(keys.told(0), "trial") != b"7":  # noqa: ASYNC110 (a store tells nobody)
            await asyncio.sleep(0.02)
    stop.set()
    await reminding
