"""Compares store and ledger all the time, repairs what is provably safe, pauses the drop and tells people of the rest.

One worker of all does it (an advisory lock of the ledger says which). In each round it sees to the store itself
(homecoming.py), then looks at each open drop: the counters against sums of rows, and one window of rows against the
claims that the store keeps. The books of the store are kept until the ledger has recorded everything up to them; only
then are both compared. A difference counts when it is found twice in a row: an act may have come between two reads.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from prometheus_client import Counter, Gauge
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

import lua
from engine.bounds import LEDGER_LOCK_TIMEOUT, REBUILD_AGAIN_S, RECONCILE_ROWS, RECONCILE_S, RECOUNT_S, VIGIL_S
from engine.claims import history, keys
from engine.claims.outbox import GROUP, entry_order
from engine.claims.wire import pack_stored, unpack_stored, unpack_tallies
from engine.drops.model import Actor, Drop, Status
from engine.drops.service import Drops
from engine.errors import FlashclaimError
from engine.ledger import balance, migrations
from engine.ledger.balance import Books, Finding, Flow, Record, Remedy, Units
from engine.ledger.homecoming import Homecoming, Known, Standing, bring_back, known_by, standing
from engine.ledger.locks import held
from engine.ledger.remake import stored_claim
from engine.ledger.vigil import Vigil
from engine.runtime.connections import LEDGER_AWAY, Stores

UNITS = Gauge("flashclaim_units", "Where an item's units are: issued, held, returned, free", ["drop", "item", "state"])
DIFFERENCES = Gauge("flashclaim_differences", "Differences between store and ledger that stand", ["drop"])
REPAIRS = Counter("flashclaim_repairs", "What the reconciler has done", ["remedy"])
CHECKED = Counter("flashclaim_reconciled_claims", "Claims compared one by one")
_LOCK = 0x62616C616E6365  # "balance": one reconciler at a time
_log = structlog.get_logger(__name__)
_ACTOR = Actor("reconciler")
# Closed ones too: a rebuild may have been cut off before the close, and members may still ask. And whatever belongs to
# the family of one of these, however long it has been closed: without its claims none of them decides.
_OPEN = """
    with looked_after as (
        select id, spec->'campaign'->'drops' as family from drops where status <> 'draft'
            and (spec->>'closes_at')::timestamptz > now() - interval '1 day'
    )
    select id from looked_after
    union select drops.id from drops, looked_after where status <> 'draft' and family ? drops.id
    order by id
"""
_AWAY = (*LEDGER_AWAY, RedisError, FlashclaimError)


@dataclass(slots=True)
class _Memo:
    """What is remembered of a drop in one partition between rounds, as long as its epoch lasts, and for an hour.

    Sums of claims up to `counted` never change again but by a rebuild, which may bring back what was lost, or by
    somebody who takes rows away; `books` wait until the ledger is as far as `mark`.
    """

    epoch: int
    since_s: float
    counted: int = 0
    claims: int = 0
    claimed: dict[history.Group, int] = field(default_factory=dict)
    books: Books | None = None
    mark: bytes = b"0-0"
    cursor: int = 0
    suspected: set[str] = field(default_factory=set)
    again_s: float = 0.0  # when a rebuild that was refused may be tried again
    units: Mapping[int, Units] = field(default_factory=dict)


class Reconciler:
    """Looks at everything again and again until it is told to stop."""

    def __init__(self, stores: Stores, partitions: int) -> None:
        self._stores = stores
        self._partitions = partitions
        self._drops = Drops(stores.redis, stores.scripts, stores.ledger, partitions, stores.dealer)
        self._homecoming = Homecoming(stores, partitions)
        self._memos: dict[tuple[str, int], _Memo] = {}
        self._vigil = Vigil(stores, partitions)
        self._watched_s = float("-inf")

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; a store that is away is waited for."""
        while not stop.is_set():
            try:
                async with held(self._stores.ledger, _LOCK) as lock:
                    while lock is not None and not stop.is_set():
                        await lock.execute(text("select 1"))  # or another may be elected by now
                        await lock.commit()
                        await self.round()
                        await _pause(stop)
            except _AWAY as error:
                _log.warning("not reconciled", error=str(error)[:300])
            except Exception:  # noqa: BLE001 (whatever broke, claims must go on into the ledger)
                _log.exception("not reconciled")
            await _pause(stop)

    async def round(self) -> None:
        """One look at the store and at every open drop."""
        if not await self._homecoming.look():
            self._memos.clear()  # books of a store that was
            return
        async with self._stores.ledger.connect() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)  # the tables are those that this version knows
            open_drops = list(await connection.scalars(text(_OPEN)))
        drops = [await self._drops.read(drop_id) for drop_id in open_drops]
        for drop in drops:
            try:
                count = sum([await self._look(drop, partition) for partition in range(self._partitions)])
            except (FlashclaimError, ValueError, KeyError) as error:
                # One drop must not keep the others from being looked at.
                _log.error("drop not reconciled", drop=drop.id, error=str(error)[:300])
                count = 1
            DIFFERENCES.labels(drop.id).set(count)
        now_s = asyncio.get_running_loop().time()
        if now_s - self._watched_s >= VIGIL_S:
            self._watched_s = now_s
            await self._vigil.look(drops)

    async def _look(self, drop: Drop, partition: int) -> int:
        """Compare a drop in one partition; how many differences stand."""
        memo = self._memo(drop, partition)
        if memo.books is None and not await self._open_books(drop, partition, memo):
            return 1
        books = memo.books
        if books is None or not await self._is_recorded(partition, memo.mark):
            return len(memo.suspected)
        memo.books = None
        async with self._stores.ledger.connect() as connection:
            record = await self._record(connection, drop, partition, memo, books)
            rows = await history.window(connection, drop.id, partition, memo.cursor, RECONCILE_ROWS)
        forgotten = await self._compare_claims(drop, partition, memo, rows)
        found = [*balance.compare(books, record), *(finding for _, finding in forgotten)]
        memo.units = balance.units(books, record)
        self._show(drop)
        standing_twice = [finding for finding in found if finding.detail in memo.suspected]
        memo.suspected = {finding.detail for finding in found}
        for finding in standing_twice:
            await self._remedy(drop, partition, finding, books, record, {found.detail: row for row, found in forgotten})
        return len(found)

    def _memo(self, drop: Drop, partition: int) -> _Memo:
        now_s = asyncio.get_running_loop().time()
        found = self._memos.get((drop.id, partition))
        if found is None or found.epoch != drop.epoch or now_s - found.since_s > RECOUNT_S:
            found = self._memos[drop.id, partition] = _Memo(drop.epoch, now_s)
        return found

    async def _open_books(self, drop: Drop, partition: int, memo: _Memo) -> bool:
        """Take down what the store says; false where the drop cannot be decided by it, which is seen to."""
        # The ledger is asked first: what it has then, the store had before.
        async with self._stores.ledger.connect() as connection:
            serial = await history.last_serial(connection, drop.id, partition)
        async with self._stores.redis.pipeline(transaction=True) as pipeline:
            pipeline.time()
            pipeline.hgetall(keys.drop(partition, drop.id))
            pipeline.hgetall(keys.tally(partition, drop.id))
            pipeline.xrevrange(keys.outbox(partition), count=1)
            pipeline.hget(keys.told(partition), drop.id)
            (now_s, now_us), fields, tallies, last, told = await pipeline.execute()
        known = known_by(fields)
        found = standing(Known(drop.revision, drop.epoch, serial), known, int(told or 0))
        if found in (Standing.MISSING, Standing.BEHIND):
            await self._astray(drop, partition, memo, found)
            return False
        memo.suspected.discard(_ASTRAY)
        memo.mark = last[0][0] if last else b"0-0"
        # The ids of the outbox never go back: a clock that was set back takes no wave and no release back either.
        memo.books = _books(fields, tallies, max(int(now_s) * 1000 + int(now_us) // 1000, entry_order(memo.mark)[0]))
        return True

    async def _astray(self, drop: Drop, partition: int, memo: _Memo, found: Standing) -> None:
        if _ASTRAY not in memo.suspected:
            memo.suspected.add(_ASTRAY)
            _log.error("drop astray", drop=drop.id, partition=partition, standing=str(found))
        elif found is Standing.BEHIND and asyncio.get_running_loop().time() >= memo.again_s:
            if await bring_back(self._stores, self._partitions, drop.id, "the store was behind, or fenced"):
                REPAIRS.labels("rebuild").inc()
            else:
                memo.again_s = asyncio.get_running_loop().time() + REBUILD_AGAIN_S

    async def _is_recorded(self, partition: int, mark: bytes) -> bool:
        """Whether the ledger has acknowledged every entry up to `mark`."""
        stream = keys.outbox(partition)
        try:
            groups: list[dict[str, Any]] = await self._stores.redis.xinfo_groups(stream)
        except ResponseError:
            return True  # there is no stream: nothing was ever decided here
        for group in groups:
            if group["name"] == GROUP.encode():
                pending = await self._stores.redis.xpending(stream, GROUP)
                is_read = entry_order(group["last-delivered-id"]) >= entry_order(mark)
                return is_read and (not pending["pending"] or entry_order(pending["min"]) > entry_order(mark))
        return mark == b"0-0"

    async def _record(
        self, connection: AsyncConnection, drop: Drop, partition: int, memo: _Memo, books: Books
    ) -> Record:
        sums = await history.sums(connection, drop.id, partition, memo.counted + 1, books.serial)
        for group, (count, claimed) in sums.items():
            memo.claims += count
            memo.claimed[group] = memo.claimed.get(group, 0) + claimed
        memo.counted = max(memo.counted, books.serial)
        returned = await history.returned(connection, drop.id, partition, books.serial, books.at_ms)
        skipped = await history.skipped(connection, drop.id, partition)
        return Record(
            revision=drop.revision,
            claims=memo.claims,
            skipped=sum(last - first + 1 for first, last in skipped),
            flows={group: Flow(units, *returned.get(group, (0, 0))) for group, units in memo.claimed.items()},
        )

    async def _compare_claims(
        self, drop: Drop, partition: int, memo: _Memo, rows: Sequence[history.RecordedClaim]
    ) -> list[tuple[history.RecordedClaim, Finding]]:
        """Compare one window of the ledger's claims with those that the store keeps."""
        if not rows:
            memo.cursor = 0
            return []
        subjects = list({row.subject for row in rows})
        values = await self._stores.scripts.ask("HMGET", keys.claims(partition, drop.id), *subjects)
        held = {subject: unpack_stored(value or b"") for subject, value in zip(subjects, values, strict=True)}
        CHECKED.inc(len(rows))
        found = balance.compare_claims(rows, held)
        if not found:
            memo.cursor = rows[-1].claim_id.serial  # a window with a difference is looked at again
        return found

    async def _remedy(
        self,
        drop: Drop,
        partition: int,
        finding: Finding,
        books: Books,
        record: Record,
        forgotten: Mapping[str, history.RecordedClaim],
    ) -> None:
        is_done = True
        match finding.remedy:
            case Remedy.REAPPLY:
                await self._drops.reapply(drop.id)
            case Remedy.RECOUNT:
                is_done = await self._recount(drop, partition, books, record)
            case Remedy.RECOUNT_TALLIES:
                is_done = await self._recount_tallies(drop, partition, books, record)
            case Remedy.PUT_BACK:
                is_done = await self._put_back(drop, partition, forgotten[finding.detail])
            case Remedy.PAUSE:
                is_done = await self._pause_drop(drop, finding)
        facts = {"remedy": str(finding.remedy), "is_done": is_done, "detail": finding.detail}
        _log.error("difference", drop=drop.id, partition=partition, **facts)
        REPAIRS.labels(str(finding.remedy)).inc(is_done)

    async def _recount(self, drop: Drop, partition: int, books: Books, record: Record) -> bool:
        triples: list[str | int] = ["serial", books.serial, books.serial]
        for item, taken in books.taken.items():
            triples += [f"taken:{item}", taken, record.of_item(item).issued]
        for (item, town), taken in books.town_taken.items():
            triples += [f"taken:{item}:{town}", taken, record.of_town(item, town).issued]
        if books.dealt is not None:
            triples += ["dealt", books.dealt, record.dealt(blank=len(books.taken))]
        return await self._repair(keys.drop(partition, drop.id), partition, triples)

    async def _recount_tallies(self, drop: Drop, partition: int, books: Books, record: Record) -> bool:
        """A tally that is as it was in the books has met no claim since, so it may be set by itself."""
        triples: list[str | int] = []
        for town, slogan in sorted(books.tallies.keys() | record.tallies()):
            flow, tally = record.of_tally(town, slogan), books.tallies.get((town, slogan))
            if not flow.explains(tally or 0):
                triples += [f"{town}:{slogan}", "" if tally is None else tally, flow.issued]
        return await self._repair(keys.tally(partition, drop.id), partition, triples)

    async def _put_back(self, drop: Drop, partition: int, row: history.RecordedClaim) -> bool:
        place = keys.claims(partition, drop.id)
        value = await self._stores.scripts.ask("HGET", place, row.subject) or b""
        claims = sorted([*unpack_stored(value), stored_claim(row)], key=lambda claim: claim.serial)
        return await self._repair(place, partition, [row.subject, value, b"".join(map(pack_stored, claims))])

    async def _repair(self, place: str, partition: int, triples: Sequence[str | int | bytes]) -> bool:
        reply: bytes = await self._stores.scripts.run(lua.load("repair"), (place, keys.home(partition)), triples)
        return reply == b"repaired"

    async def _pause_drop(self, drop: Drop, finding: Finding) -> bool:
        if drop.status is Status.LAUNCHED:
            await self._drops.pause(drop.id, _ACTOR, reason=finding.detail)
        return drop.status is Status.LAUNCHED

    def _show(self, drop: Drop) -> None:
        """Show where the units of all partitions are, each as it was looked at last."""
        for number, item in enumerate(drop.spec.items, start=1):
            places = [
                memo.units[number] for (of, _), memo in self._memos.items() if of == drop.id and number in memo.units
            ]
            for state, counts in zip(Units._fields, zip(*places, strict=True), strict=False):
                UNITS.labels(drop.id, item.id, state).set(sum(counts))


_ASTRAY = "the drop's state is missing or behind"


def _books(fields: Mapping[bytes, bytes], tallies: Mapping[bytes, bytes], at_ms: int) -> Books:
    waves = [tuple(map(int, wave.split(b":"))) for wave in fields[b"waves"].split(b",") if wave]
    allotted = [tuple(map(int, part.split(b":")[:2])) for part in fields[b"allotments"].split(b",") if part]
    return Books(
        at_ms=at_ms,
        revision=int(fields[b"revision"]),
        serial=int(fields[b"serial"]),
        taken={item: int(fields[b"taken:%d" % item]) for item in range(1, int(fields[b"items"]) + 1)},
        waves=[(at, item, quantity) for at, item, quantity in waves],
        town_taken={(item, town): int(fields[b"taken:%d:%d" % (item, town)]) for item, town in allotted},
        tallies=unpack_tallies([tallies]),
        dealt=int(fields[b"dealt"]) if int(fields[b"prizes"]) else None,
    )


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), RECONCILE_S)
    except TimeoutError:
        return
