"""Gathers what clients were told, what the store holds and what the ledger recorded; calls the promises."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from engine.claims import history as recorded_claims
from engine.claims import keys
from engine.claims.keyring import Keyring
from engine.claims.model import NotReady
from engine.claims.outbox import GROUP, ClaimsEntry, EntryUnreadable, ReleaseEntry, decode, entry_order
from engine.claims.wire import unpack_stored, unpack_tallies
from engine.drops import store as drops_store
from engine.drops.figures import LiveFigures, sum_up
from engine.drops.model import Drop, NoSuchDrop, from_ms, to_ms
from engine.ids import ClaimId
from engine.ledger import evidence, promises
from engine.ledger.client_log import ClientLog, fact, read_client_log
from engine.ledger.evidence import Evidence
from engine.ledger.facts import Fact, History
from engine.runtime.connections import Stores

_SNAPSHOTS_MAX = 10  # tries to read the store while it stands still
_POLL_S = 0.05
_PENDING_MAX = 100_000  # entries that workers have read and not committed: in practice a few hundred


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the audit counted; `differences` is the number of `details`, and must be nothing."""

    drop_id: str
    accepted: int
    told: int
    in_ledger: int
    released: int
    waiting: int
    oversold: int
    over_limit: int
    lost: int
    duplicate_serials: int
    differences: int
    is_moving: bool
    items: list[dict[str, object]]
    details: list[str]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    hashes: list[dict[bytes, bytes]]
    tallies: list[dict[bytes, bytes]]
    facts: list[Fact]
    is_still: bool


async def wait_until_recorded(redis: "Redis", partitions: int, wait_s: float) -> bool:
    """Wait until the ledger has acknowledged every entry of the outboxes; whether it did within `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    while True:
        waiting = [await _unacknowledged(redis, keys.outbox(partition)) for partition in range(partitions)]
        if not any(waiting):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)


async def audit(
    stores: Stores, partitions: int, receipt_keyring: Keyring, drop_id: str, client_log: Path | None = None
) -> AuditReport:
    """Compare claim by claim.

    The store is read before the outbox and the outbox before the ledger, so a claim on its way is seen at least once.
    Raises `NoSuchDrop`, `NotReady` when the store has no state of the drop, `ClientLogInvalid`.
    """
    async with stores.ledger.connect() as connection:
        drop = await drops_store.read(connection, drop_id)
    if drop is None:
        raise NoSuchDrop(f"there is no drop {drop_id!r}", drop_id=drop_id)
    log = read_client_log(client_log, drop, receipt_keyring)
    snapshot = await _snapshot(stores.redis, partitions, drop)
    if not all(snapshot.hashes):
        raise NotReady(f"the store has no state of drop {drop_id!r}: its claims cannot be compared")
    waiting = [fact for p in range(partitions) for fact in await _waiting(stores.redis, p, drop)]
    recorded = await _recorded(stores, drop)
    async with stores.ledger.connect() as connection:
        known = await evidence.gather(connection, drop_id, partitions)
    serials = {partition: int(fields[b"serial"]) for partition, fields in enumerate(snapshot.hashes)}
    history = _history(drop, snapshot, log, waiting, recorded, serials, known)
    figures = sum_up(drop, from_ms(int(time.time() * 1000)), snapshot.hashes, len(waiting))
    return _report(history, figures, log.faults, is_moving=not snapshot.is_still)


def _history(
    drop: Drop,
    snapshot: _Snapshot,
    log: ClientLog,
    waiting: list[Fact],
    recorded: list[Fact],
    serials: dict[int, int],
    known: Evidence,
) -> History:
    counters, town_counters, tallies = None, {}, None
    allotments = evidence.allotted(drop)
    if snapshot.is_still:
        counters = {item: _sum(snapshot.hashes, b"taken:%d" % item) for item in range(1, len(drop.spec.items) + 1)}
        town_counters = {
            (part.item, part.town): _sum(snapshot.hashes, b"taken:%d:%d" % (part.item, part.town))
            for part in allotments
        }
        tallies = unpack_tallies(snapshot.tallies)
    else:
        # Claims that came after the first look are left out on every side.
        recorded = [fact for fact in recorded if fact.claim_id.serial <= serials[fact.claim_id.partition]]
    return History(
        limit=drop.spec.limit_per_member,
        limits=known.limits,
        opens_ms=to_ms(drop.spec.opens_at),
        closes_ms=to_ms(drop.spec.closes_at),
        waves=evidence.releases(drop),
        told=log.told,
        stored=[fact for fact in snapshot.facts if fact.claim_id.serial <= serials[fact.claim_id.partition]]
        if not snapshot.is_still
        else snapshot.facts,
        waiting=waiting,
        recorded=recorded,
        counters=counters,
        allotments=allotments,
        town_counters=town_counters,
        tallies=tallies,
        serials=serials,
        skipped=known.skipped,
        shut=known.shut,
        sold_out=log.sold_out,
        fenced=known.fenced,
        buried=known.buried,
        altered=known.altered,
        over_campaign=known.over_campaign,
    )


def _report(history: History, figures: LiveFigures, forged: list[str], *, is_moving: bool) -> AuditReport:
    details = forged + promises.broken(history)
    items: list[dict[str, object]] = [
        {"id": item.id, "stock": item.stock, "released": item.released, "taken": item.taken, "left": item.left}
        for item in figures.items
    ]
    return AuditReport(
        drop_id=figures.drop_id,
        accepted=len(history.stored),
        told=len({fact.claim_id for fact in history.told}),
        in_ledger=len(history.recorded),
        released=sum(fact.is_released for fact in history.recorded),
        waiting=sum(not fact.is_released for fact in history.waiting),
        oversold=len(promises.oversold(history)),
        over_limit=len(promises.over_limit(history)),
        lost=len(promises.lost(history)),
        duplicate_serials=len(promises.duplicate_serials(history)),
        differences=len(details),
        is_moving=is_moving,
        items=items,
        details=details,
    )


async def _snapshot(redis: "Redis", partitions: int, drop: Drop) -> _Snapshot:
    for _ in range(_SNAPSHOTS_MAX):
        before = await _hashes(redis, partitions, drop)
        facts = [fact for partition in range(partitions) for fact in await _stored(redis, partition, drop)]
        found = [cast(dict[bytes, bytes], await redis.hgetall(keys.tally(p, drop.id))) for p in range(partitions)]
        if before == await _hashes(redis, partitions, drop):
            return _Snapshot(before, found, facts, is_still=True)
    return _Snapshot(before, found, facts, is_still=False)


def _sum(hashes: Iterable[Mapping[bytes, bytes]], name: bytes) -> int:
    return sum(int(fields[name]) for fields in hashes)


async def _hashes(redis: "Redis", partitions: int, drop: Drop) -> list[dict[bytes, bytes]]:
    # The client is opened without decoding, so names and values are bytes; its types cannot say so.
    return [cast(dict[bytes, bytes], await redis.hgetall(keys.drop(p, drop.id))) for p in range(partitions)]


async def _stored(redis: "Redis", partition: int, drop: Drop) -> list[Fact]:
    found: dict[bytes, bytes] = {}
    async for subject, value in redis.hscan_iter(keys.claims(partition, drop.id), count=1_000):
        found[subject] = value
    return [
        evidence.stored_fact(drop.id, partition, subject.decode(), claim)
        for subject, value in found.items()
        for claim in unpack_stored(value)
    ]


async def _waiting(redis: "Redis", partition: int, drop: Drop) -> list[Fact]:
    """Claims and releases in the outbox that the ledger has not acknowledged; the others must be in the ledger."""
    facts: list[Fact] = []
    is_waiting = await _unacknowledged_by(redis, keys.outbox(partition))
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], await redis.xrange(keys.outbox(partition)))
    for entry_id, fields in entries:
        if not is_waiting(entry_id):
            continue
        try:
            facts += _told_by(fields, drop, partition)
        except EntryUnreadable:
            continue  # the worker puts it into the dead letters; its claims then show as lost
    return facts


def _told_by(fields: Mapping[bytes, bytes], drop: Drop, partition: int) -> list[Fact]:
    entry = decode(fields)
    if entry.drop_id != drop.id:
        return []
    if isinstance(entry, ClaimsEntry):
        return [
            fact(ClaimId(drop.id, partition, serial), request, entry.at_ms)
            for serial, request in enumerate(entry.claims(), start=entry.first_serial)
        ]
    if isinstance(entry, ReleaseEntry):
        claim_id = ClaimId(drop.id, partition, entry.serial)
        return [Fact(claim_id, entry.subject, b"", entry.item, entry.quantity, entry.at_ms, is_released=True)]
    return []


async def _recorded(stores: Stores, drop: Drop) -> list[Fact]:
    async with stores.ledger.connect() as connection:
        return [
            evidence.recorded_fact(row) async for page in recorded_claims.of_drop(connection, drop.id) for row in page
        ]


async def _unacknowledged_by(redis: "Redis", stream: str) -> Callable[[bytes], bool]:
    """Which entries the ledger's group has not acknowledged: read but pending, or never read."""
    try:
        groups: list[dict[str, Any]] = await redis.xinfo_groups(stream)
    except ResponseError:
        groups = []
    delivered = next((group["last-delivered-id"] for group in groups if group["name"] == GROUP.encode()), None)
    if delivered is None:
        return lambda _: True
    pending = await redis.xpending_range(stream, GROUP, "-", "+", _PENDING_MAX)
    unfinished = {found["message_id"] for found in pending}
    return lambda entry_id: entry_id in unfinished or entry_order(entry_id) > entry_order(delivered)


async def _unacknowledged(redis: "Redis", stream: str) -> int:
    try:
        groups: list[dict[str, Any]] = await redis.xinfo_groups(stream)
    except ResponseError:
        return 0  # there is no stream: nothing was ever decided here
    for group in groups:
        if group["name"] == GROUP.encode():
            return int(group["pending"]) + int(group["lag"] or 0)
    return int(await redis.xlen(stream))
