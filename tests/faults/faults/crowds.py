"""Strangers take up room: idle connections, connections that trickle, an outbox that nobody empties."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engine.bounds import BATCH_CLAIMS_MAX, MEMBER_ID_BYTES_MAX, OUTBOX_LOOK_S, OUTBOX_SAMPLES, REQUEST_S_MAX
from engine.claims import keys, store
from engine.claims.wire import ClaimRequest, pack_request
from engine.drops.model import Actor, to_ms
from engine.drops.service import Drops
from engine.ledger.audit import audit, wait_until_recorded
from engine.runtime.connections import Stores, open_stores
from tests.factories.drops import drop_spec
from tests.faults.patience import until
from tests.faults.scene import Fault, Scene
from tests.faults.stack import Stack, Wish

IDLE, IDLE_S, AT_ONCE = 5_000, 2.0, 250
TRICKLING, TRICKLE_EVERY_S = 500, 0.5
OUTBOX_BYTES_MAX = 1_000_000
FULL_S_MAX, DRAINED_S_MAX = 20.0, 60.0


async def _idle(scene: Scene[Stack]) -> None:
    await scene.moment()
    writers: list[asyncio.StreamWriter] = []
    try:
        while len(writers) < IDLE:
            opened = await asyncio.gather(*(_connect(scene) for _ in range(AT_ONCE)))
            writers += [writer for _, writer in opened]
        scene.heals()  # they stay, and claims are accepted all the same
        await asyncio.sleep(IDLE_S)
        assert scene.rush.told.accepted(scene.healed_s), "no claim was accepted beside idle connections"
    finally:
        for writer in writers:
            writer.transport.abort()


async def _slowloris(scene: Scene[Stack]) -> None:
    await scene.moment()
    lasted_s = await asyncio.gather(*(_trickle(scene) for _ in range(TRICKLING)))
    assert max(lasted_s) < REQUEST_S_MAX + 2, f"a request that trickled was held for {max(lasted_s):.1f} s"
    scene.heals()


async def _trickle(scene: Scene[Stack]) -> float:
    """Send a head byte by byte, never its end; how many seconds the API put up with it."""
    reader, writer = await _connect(scene)
    started_s = time.monotonic()
    gone = asyncio.ensure_future(reader.read())
    head = f"POST /v1/drops/{scene.rush.drop_id}/claims HTTP/1.1\r\nHost: here\r\nX-Slow: ".encode()
    writer.write(head)
    while not gone.done():
        with suppress(OSError):
            writer.write(b"x")
        await asyncio.wait([gone], timeout=TRICKLE_EVERY_S)
    with suppress(OSError):
        assert (await gone).startswith(b"HTTP/1.1 408 "), "closed without a word"
    writer.transport.abort()
    return time.monotonic() - started_s


async def _connect(scene: Scene[Stack]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", scene.stack.port)


async def _outbox_full(scene: Scene[Stack]) -> None:
    """The worker is away and another drop fills the outbox: claims are shed, then accepted again."""
    await scene.moment()
    filler = f"{scene.rush.drop_id}-filler"
    await asyncio.to_thread(scene.stack.worker.kill)
    async with open_stores(scene.stack.settings) as stores:
        await _fill(stores, filler)
        await until(lambda: bool(scene.rush.told.codes()["overloaded"]), FULL_S_MAX, "a claim shed")
        await asyncio.sleep(OUTBOX_LOOK_S)
        since_s = time.time()
        await asyncio.sleep(scene.chance.random() + 0.5)
        assert not scene.rush.told.accepted(since_s), "claims were accepted past the outbox's bound"
        scene.heals()
        await asyncio.to_thread(scene.stack.worker.start)
        assert await wait_until_recorded(stores.redis, 1, DRAINED_S_MAX), "the worker did not catch up"
        report = await audit(stores, 1, scene.stack.settings.receipt_keyring, filler)
        assert report.differences == 0, report.details
        assert report.accepted == report.in_ledger > 0


async def _fill(stores: Stores, drop_id: str) -> None:
    """Claims of members with the longest names, in full batches, until the outbox is past its bound."""
    opens_at = datetime.now(UTC) - timedelta(minutes=1)
    window = to_ms(opens_at).to_bytes(6, "big") + to_ms(opens_at + timedelta(hours=1)).to_bytes(6, "big")
    drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
    await drops.create(drop_spec(drop_id, opens_at, stock=100_000), Actor("filler"))
    drop = await drops.launch(drop_id, Actor("filler"))
    number = 0
    while int(await stores.redis.memory_usage(keys.outbox(0), samples=OUTBOX_SAMPLES) or 0) <= OUTBOX_BYTES_MAX:
        batch = []
        for number in range(number + 1, number + 1 + BATCH_CLAIMS_MAX):  # noqa: B020 (counts on from batch to batch)
            member = f"{drop_id}-{number}".ljust(MEMBER_ID_BYTES_MAX, "x")
            batch.append(window + pack_request(ClaimRequest(number.to_bytes(8, "big"), 1, 1, member, member)))
        decided = await store.claim_batch(stores.scripts, 0, store.Believed(drop_id, drop.epoch), 0, batch)
        assert all(type(found) is int for found in decided.decisions), decided.decisions[:3]


def _small_outbox(place: Path) -> Stack:
    return Stack(place, Wish(api={"FLASHCLAIM_OUTBOX_BYTES_MAX": str(OUTBOX_BYTES_MAX)}))


CROWDS = [
    Fault("idle-connections", f"{IDLE:,} connections that never say a word", _idle),
    Fault(
        "slowloris", f"{TRICKLING} connections that send a byte of a head each half second", _slowloris, goes_on=True
    ),
    Fault(
        "outbox-full",
        f"the worker is away and the outbox past its bound of {OUTBOX_BYTES_MAX:,} bytes",
        _outbox_full,
        _small_outbox,
        goes_on=True,
    ),
]
