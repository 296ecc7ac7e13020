"""The promise: what the outbox holds reaches the ledger once, in whatever order workers die; nothing is dropped."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.bounds import TAKE_OVER_IDLE_MS
from engine.claims import keys
from engine.claims.outbox import GROUP, control_text
from engine.claims.wire import ClaimRequest, pack_request
from engine.drops.model import Control, Verb, from_ms
from engine.ledger import ingest
from engine.ledger.audit import wait_until_recorded
from engine.ledger.persist import Outbox, Persister
from engine.ledger.schema import claims, dead_letters
from engine.runtime.connections import Stores
from tests.factories.drops import drop_json
from tests.factories.ledger import record_all

STREAM = keys.outbox(0)


def entry(first: int, count: int, member: str = "m", **more: str) -> Mapping[str, str | bytes]:
    packed = b"".join(
        pack_request(ClaimRequest(serial.to_bytes(8, "big"), 1, 1, f"{member}-{serial}", f"{member}-{serial}"))
        for serial in range(first, first + count)
    )
    fields = {"kind": "claim", "drop": "trial", "epoch": "1", "at": "1750000000000", "serial": str(first)}
    return {**fields, "claims": packed, **more}


async def add(redis: "Redis", fields: Mapping[str, str | bytes]) -> bytes:
    entry_id: bytes = await redis.xadd(STREAM, fields)  # type: ignore[arg-type, assignment]
    return entry_id


async def rows(ledger: AsyncEngine) -> int:
    async with ledger.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(claims)) or 0


async def buried(ledger: AsyncEngine) -> list[tuple[str, str]]:
    async with ledger.connect() as connection:
        found = await connection.execute(select(dead_letters.c.entry_id, dead_letters.c.error))
        return [(row.entry_id, row.error) for row in found]


async def test_entries_become_rows_and_are_acknowledged(stores: Stores) -> None:
    for first in (1, 513, 1025):
        await add(stores.redis, entry(first, 512))
    await record_all(stores)
    assert await rows(stores.ledger) == 1536
    assert (await stores.redis.xpending(STREAM, GROUP))["pending"] == 0
    assert await buried(stores.ledger) == []


async def test_a_replayed_entry_changes_nothing(stores: Stores) -> None:
    for _ in range(3):
        await add(stores.redis, entry(1, 10))
    await record_all(stores)
    await add(stores.redis, entry(1, 10))
    await record_all(stores)
    assert await rows(stores.ledger) == 10
    assert await buried(stores.ledger) == []


async def test_two_decisions_under_one_serial_are_never_written_over(stores: Stores) -> None:
    await add(stores.redis, entry(1, 10))
    await record_all(stores)
    other = await add(stores.redis, entry(5, 10, member="other"))
    await record_all(stores)
    assert await rows(stores.ledger) == 14
    ((entry_id, error),) = await buried(stores.ledger)
    assert entry_id == other.decode()
    assert "[5, 6, 7, 8, 9, 10]" in error


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "nonsense"},
        {"nothing": "at all"},
        {**entry(1, 2), "claims": b"\x00\x01cut"},
        {**entry(1, 2), "serial": "x"},
        {"kind": "release", "drop": "trial", "epoch": "1"},
        {"kind": "control", "drop": "trial", "control": "{}"},
        {"kind": "control", "drop": "trial", "control": "[" * 50},
    ],
)
async def test_what_cannot_be_read_is_kept_and_the_rest_goes_on(stores: Stores, fields: Mapping[str, str]) -> None:
    await add(stores.redis, entry(1, 3))
    bad = await add(stores.redis, fields)
    await add(stores.redis, entry(4, 3))
    await record_all(stores)
    assert await rows(stores.ledger) == 6
    assert [entry_id for entry_id, _ in await buried(stores.ledger)] == [bad.decode()]


async def test_a_release_of_an_unknown_claim_is_a_dead_letter(stores: Stores) -> None:
    why = '{"actor": "boss", "reason": ""}'
    fields = {"kind": "release", "drop": "trial", "epoch": "1", "at": "1750000000001", "serial": "9", "item": "1"}
    await add(stores.redis, {**fields, "quantity": "1", "subject": "m-9", "reason": why})
    await record_all(stores)
    assert "no such claim" in (await buried(stores.ledger))[0][1]


async def test_a_release_that_comes_again_changes_nothing_and_another_is_a_dead_letter(stores: Stores) -> None:
    await add(stores.redis, entry(1, 1))
    why = '{"actor": "boss", "reason": ""}'
    fields = {"kind": "release", "drop": "trial", "epoch": "1", "serial": "1", "item": "1", "quantity": "1"}
    release = {**fields, "subject": "m-1", "reason": why}
    for _ in range(2):
        await add(stores.redis, {**release, "at": "1750000000001"})
    await record_all(stores)
    assert await buried(stores.ledger) == []
    await add(stores.redis, {**release, "at": "1750000000002"})
    await record_all(stores)
    assert [error for _, error in await buried(stores.ledger)] == ["given back twice"]
    async with stores.ledger.connect() as connection:
        assert await connection.scalar(select(claims.c.released_at)) == from_ms(1_750_000_000_001)


async def test_what_a_dead_worker_had_read_is_taken_over(stores: Stores) -> None:
    dead = Outbox(stores.redis, 0, "dead")
    await dead.open()
    entry_id = await add(stores.redis, entry(1, 5))
    assert [found for found, _ in await dead.read()] == [entry_id]
    await stores.redis.xclaim(STREAM, GROUP, "dead", 0, [entry_id], idle=TAKE_OVER_IDLE_MS + 1)
    await asyncio.wait_for(record_all(stores, name="heir"), 15)
    assert await rows(stores.ledger) == 5


async def test_a_worker_takes_up_its_own_unfinished_work_at_once(stores: Stores) -> None:
    before = Outbox(stores.redis, 0, "same")
    await before.open()
    await add(stores.redis, entry(1, 5))
    assert len(await before.read()) == 1
    await asyncio.wait_for(record_all(stores, name="same"), 5)
    assert await rows(stores.ledger) == 5


async def test_what_was_not_committed_is_neither_acknowledged_nor_trimmed(stores: Stores) -> None:
    """The ledger breaks at each commit; when it works again nothing is missing."""
    await add(stores.redis, entry(1, 5))
    broken = asyncio.Event()

    class Breaking(ingest.LedgerWriter):
        async def commit(self) -> None:
            broken.set()
            raise ConnectionError("the ledger is gone")

    @asynccontextmanager
    async def breaking() -> AsyncIterator[ingest.LedgerWriter]:
        async with ingest.writer_of(stores.ledger)() as writer:
            assert isinstance(writer, ingest.LedgerWriter)
            yield Breaking(writer._connection)

    stop = asyncio.Event()
    working = asyncio.create_task(Persister(stores.redis, breaking, 1, "worker").run(stop))
    await asyncio.wait_for(broken.wait(), 10)
    stop.set()
    await working
    outbox = Outbox(stores.redis, 0, "worker")
    await outbox.open()
    await outbox.trim()
    assert (await stores.redis.xpending(STREAM, GROUP))["pending"] == 1
    assert await stores.redis.xlen(STREAM) == 1
    assert await rows(stores.ledger) == 0
    await record_all(stores, name="worker")
    assert await rows(stores.ledger) == 5


async def test_only_what_every_group_has_acknowledged_is_trimmed(stores: Stores) -> None:
    ids = [await add(stores.redis, entry(first, 1)) for first in (1, 2, 3)]
    slow = Outbox(stores.redis, 0, "w")
    await slow.open()
    await stores.redis.xgroup_create(STREAM, "another", id="0")
    await record_all(stores)
    await slow.trim()
    assert await stores.redis.xlen(STREAM) == 3, "the other group has read nothing yet"
    await stores.redis.xreadgroup("another", "c", {STREAM: ">"}, count=2)
    await slow.trim()
    assert await stores.redis.xlen(STREAM) == 3, "the other group has acknowledged nothing yet"
    await stores.redis.xack(STREAM, "another", ids[0], ids[1])
    await slow.trim()
    assert await stores.redis.xlen(STREAM) == 2


async def test_a_worker_survives_a_ledger_that_is_away(stores: Stores, ledger: AsyncEngine) -> None:
    """The ledger refuses to write for a while: the entry stays pending, and is written when it works again."""
    await add(stores.redis, entry(1, 5))
    async with ledger.connect() as blocking:
        await blocking.execute(update(claims).values(quantity=1))
        await blocking.exec_driver_sql("lock table claims in access exclusive mode")
        working = asyncio.create_task(record_all(stores))
        await asyncio.sleep(0.5)
        assert not working.done()
        await blocking.rollback()
    await asyncio.wait_for(working, 15)
    assert await rows(stores.ledger) == 5


async def test_an_act_that_the_ledger_can_never_take_does_not_hold_up_what_is_behind_it(stores: Stores) -> None:
    spec = drop_json("trial") | {"title": {"en": "a"}}
    for revision, actor in ((1, "boss\x00"), (2, "boss")):
        control = Control(Verb.CREATE, revision, actor, datetime.now(UTC), "act", {"spec": spec})
        fields = {"kind": "control", "drop": "trial", "at": "1", "revision": str(revision)}
        await add(stores.redis, {**fields, "control": control_text(control)})
    control = Control(Verb.AMEND, 3, "boss", datetime.now(UTC), "act", {"nothing": 1})
    await add(stores.redis, {"kind": "control", "drop": "trial", "at": "1", "control": control_text(control)})
    await add(stores.redis, entry(1, 5))
    await record_all(stores)
    assert await rows(stores.ledger) == 5
    assert len(await buried(stores.ledger)) == 2


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"claims": bytes(8) + b"\x01\x00\x01\x00\x00\x02\xff\xfe\x00"}, "invalid byte sequence"),
        ({"claims": bytes(8) + b"\x01\x00\x01\x00\x00\x02a\x00\x00"}, "cannot take it"),
        ({"claims": bytes(8) + b"\x01\xff\xff\x00\x00\x01m\x00"}, "units"),
        ({"claims": bytes(8) + b"\x01\x00"}, "cut off"),
        ({"serial": "3000000000"}, "serial"),
        ({"serial": "-5"}, "out of bounds"),
        ({"epoch": str(2**31)}, "out of bounds"),
        ({"at": str(2**60)}, "out of bounds"),
        ({"drop": "a\x00b"}, "cannot take it"),
    ],
)
async def test_an_entry_that_no_ledger_takes_is_buried_and_no_other(
    stores: Stores, change: dict[str, str | bytes], word: str
) -> None:
    """The claims go into the ledger as the bytes that the script wrote; that no script writes these is not trusted."""
    await add(stores.redis, entry(1, 5))
    bad = await add(stores.redis, {**entry(6, 1), **change})
    await add(stores.redis, entry(7, 5))
    await record_all(stores)
    assert await rows(stores.ledger) == 10
    ((entry_id, error),) = await buried(stores.ledger)
    assert entry_id == bad.decode()
    assert word in error


async def test_a_worker_survives_a_ledger_that_is_locked(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while an index is made; and as while a worker that was thought dead holds its rows."""
    monkeypatch.setattr(ingest, "LOCK_TIMEOUT", "50ms")
    await add(stores.redis, entry(1, 5))
    stop = asyncio.Event()
    async with stores.ledger.connect() as connection:
        await connection.execute(text("lock table claims in share mode"))
        working = asyncio.create_task(Persister(stores.redis, ingest.writer_of(stores.ledger), 1, "worker").run(stop))
        await asyncio.sleep(0.3)
        assert not working.done()
        assert await rows(stores.ledger) == 0
    assert await wait_until_recorded(stores.redis, 1, 10)
    assert await rows(stores.ledger) == 5
    stop.set()
    await working
