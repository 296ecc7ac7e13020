"""The promise: when the ledger is away for long, claims are shed before the outbox fills the store's memory."""

import os

from engine.bounds import OUTBOX_SAMPLES
from engine.claims import keys
from engine.claims.backlog import Backlog
from engine.runtime.connections import Stores


async def test_an_outbox_past_its_bound_is_seen_and_seen_again_when_it_is_empty(stores: Stores) -> None:
    backlog = Backlog(stores.redis, 2, bytes_max=1_000_000)
    await backlog.look()
    assert backlog.full == set()
    for _ in range(150):
        await stores.redis.xadd(keys.outbox(1), {"claims": os.urandom(10_000)})
    await backlog.look()
    assert backlog.full == {1}
    size = await stores.redis.memory_usage(keys.outbox(1), samples=OUTBOX_SAMPLES) or 0
    almost = Backlog(stores.redis, 2, bytes_max=round(size * 1.05))
    await almost.look()
    assert almost.full == set()
    almost.full = {1}  # it was past its bound, and its size is an estimate: claims are not taken in turns
    await almost.look()
    assert almost.full == {1}
    await stores.redis.xtrim(keys.outbox(1), maxlen=0, approximate=False)
    for seen in (backlog, almost):
        await seen.look()
        assert seen.full == set()


async def test_the_store_tells_the_size_of_an_outbox_well_enough(stores: Stores) -> None:
    """It weighs a few nodes and multiplies: that must not be far off."""
    for _ in range(400):
        await stores.redis.xadd(keys.outbox(0), {"claims": os.urandom(5_000)})
    size = await stores.redis.memory_usage(keys.outbox(0), samples=OUTBOX_SAMPLES)
    assert 1_900_000 < (size or 0) < 4_000_000
