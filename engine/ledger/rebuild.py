"""Makes the store's state of a drop anew from the ledger, under a new epoch, and fences the old one.

In this order, so that it may be cut off anywhere and run again:
1. fence: nothing is decided under the old epoch any more;
2. drain: what the old state decided gets into the ledger;
3. restore: claims that receipts prove and the ledger never saw are recorded;
4. make: the claims are written beside the old ones;
5. rebuild: one script puts the new state in the place of the old, and the outbox tells of it.

Until the fifth step is done the drop decides nothing (`not-ready`); it is never made from its start value.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from itertools import chain, islice
from typing import Any, ClassVar

from sqlalchemy.dialects.postgresql import insert

import lua
from engine.bounds import LEDGER_LOCK_TIMEOUT, REBUILD_CHUNK_SUBJECTS, REBUILD_DRAIN_S_MAX
from engine.claims import history, keys
from engine.claims.history import RecordedClaim
from engine.claims.outbox import control_text
from engine.claims.receipt import ReceiptBody
from engine.claims.store import pairs
from engine.claims.wire import StoredClaim, pack_prizes, pack_stored, unpack_stored
from engine.drops import store as drops_store
from engine.drops.model import Actor, Control, Drop, NoSuchDrop, Verb, after, from_ms, store_fields, to_ms
from engine.errors import Unavailable
from engine.ledger import actions, evidence, migrations, remake
from engine.ledger.audit import wait_until_recorded
from engine.ledger.ingest import writer_of
from engine.ledger.locks import held
from engine.ledger.persist import Persister
from engine.ledger.plan import Plan, Report
from engine.ledger.remake import Made
from engine.ledger.schema import claims
from engine.runtime.connections import Stores


class RebuildBusy(Unavailable):
    code: ClassVar[str] = "rebuild-busy"


class Rebuild:
    """One rebuild of one drop; `report` is the dry run, `apply` does it.

    `forgets_acts` gives up acts that the store has and the ledger has not, as after the restore of a backup, instead of
    refusing; a drop that was launched is left paused, for one of them may have been a pause or a close.
    """

    def __init__(
        self,
        stores: Stores,
        partitions: int,
        drop_id: str,
        receipts: Sequence[ReceiptBody] = (),
        *,
        forgets_acts: bool = False,
    ) -> None:
        self._stores = stores
        self._partitions = partitions
        self._drop_id = drop_id
        self._forgets_acts = forgets_acts
        self._receipts = [body for body in receipts if body.claim_id.drop_id == drop_id]

    async def report(self) -> Report:
        """What `apply` would do now. The drop stays as it is; what the outbox holds is recorded, as a worker would.

        Raises `NoSuchDrop`, `Unavailable`.
        """
        return (await self._plan(pause=False)).report

    async def apply(self, actor: Actor, reason: str, *, pause: bool = False, fences_first: bool = False) -> Report:
        """Do it. `pause` leaves a launched drop paused; so does a serial that was told and that nobody can prove, and
        more units told than there are.

        A refusal leaves the drop as it was, unless it comes after the fence: with `fences_first`, for a state that is
        not trusted, or of what came in since the first look. Then the drop stays fenced, and acts that were given up
        stay so, as they do where it is cut off or `Unavailable` in its middle: it is run again.

        Raises `NoSuchDrop`, `RebuildRefused`, `RebuildBusy`, `CommitmentBroken`, `Unavailable`.
        """
        async with held(self._stores.ledger, lock_of(self._drop_id)) as lock:
            if lock is None:
                raise RebuildBusy(
                    f"drop {self._drop_id!r} is being rebuilt already: look again in a moment", retry_after_s=5
                )
            acts_lost = 0
            if not fences_first:
                first = await self._plan(pause=pause)
                first.check()
                acts_lost = first.acts_lost
                if acts_lost:
                    await self._overtake(first, actor, reason)
            pause = pause or acts_lost > 0
            if not await self.fence():
                raise Unavailable(f"drop {self._drop_id!r} is at a later epoch in the store: try again in a moment")
            plan = await self._plan(pause=pause)
            plan.check()
            await self._restore(plan.drop, plan.restored)
            for partition, made in plan.made.items():
                await self._make(partition, made)
            await self._install(plan, actor, reason)
        return replace(plan.report, is_applied=True, acts_lost=acts_lost)

    async def _overtake(self, plan: Plan, actor: Actor, reason: str) -> None:
        """Bring the ledger to the store's revision and epoch, and pause the drop there.

        Cut off after it, the rebuild is run as any other, also by whoever knows nothing of acts that were given up.
        """
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            place = self._drop_id, plan.revision, plan.epoch
            done = actor.member_id, await self._now(), reason
            action = await drops_store.overtake(connection, *place, *done, was_launched=plan.is_launch_lost)
            if action is not None:
                await actions.append(connection, [action])

    async def _read(self) -> Drop:
        async with self._stores.ledger.connect() as connection:
            drop = await drops_store.read(connection, self._drop_id)
        if drop is None:
            raise NoSuchDrop(f"there is no drop {self._drop_id!r}", drop_id=self._drop_id)
        return drop

    async def fence(self) -> bool:
        """End the drop's epoch in the store: it decides nothing before it is rebuilt. Raises `Unavailable`.

        False where a partition is at a later epoch than the next: what the ledger knows of is over there anyway.
        """
        epoch = (await self._read()).epoch + 1
        places = [keys.drop(partition, self._drop_id) for partition in range(self._partitions)]
        replies = [await self._stores.scripts.run(lua.load("fence"), (place,), (epoch,)) for place in places]
        return b"later" not in replies

    async def _drain(self) -> None:
        """Record what the outboxes hold, whether or not a worker lives."""
        stop = asyncio.Event()
        redis, ledger = self._stores.redis, self._stores.ledger
        worker = Persister(redis, writer_of(ledger), self._partitions, f"rebuild-{self._drop_id}")
        working = asyncio.create_task(worker.run(stop))
        try:
            if not await wait_until_recorded(redis, self._partitions, REBUILD_DRAIN_S_MAX):
                raise Unavailable("the ledger does not catch up with the outbox: see the worker's log, then try again")
        finally:
            stop.set()
            await working

    async def _plan(self, *, pause: bool) -> Plan:
        await self._read()  # or an unknown drop would be found after the wait
        # The store is read first: what it had decided by then is in the ledger once the outbox is drained.
        there = [await self._stored(partition) for partition in range(self._partitions)]
        await self._drain()
        drop = await self._read()
        prizes = await self._stores.dealer.deal(drop, self._partitions)
        async with self._stores.ledger.connect() as connection:
            recorded = [row async for page in history.of_drop(connection, drop.id) for row in page]
            limits = evidence.limits(await actions.on_drop(connection, drop.id))
        brought = remake.brought(recorded, self._receipts)
        brought.conflicts += [
            f"{row.claim_id}: a receipt names item {row.item}, the drop has {len(drop.spec.items)}"
            for row in brought.restored
            if not 1 <= row.item <= len(drop.spec.items)
        ]
        plan = Plan(drop, brought, pause)
        rows: defaultdict[int, list[RecordedClaim]] = defaultdict(list)
        for row in () if brought.conflicts else chain(recorded, brought.restored):
            rows[row.claim_id.partition].append(row)
        for partition, (fields, stored) in enumerate(there):
            told = int(await self._stores.scripts.ask("HGET", keys.told(partition), drop.id) or 0)
            plan.add(partition, rows[partition], fields, stored, told)
        plan.weigh(limits, to_ms(await self._now()), prizes)
        if plan.acts_lost:
            plan.judge_acts(may_forget=self._forgets_acts)
        return plan

    async def _stored(self, partition: int) -> tuple[dict[bytes, bytes], dict[str, list[StoredClaim]]]:
        """The state that is there now, as it stands."""
        ask = self._stores.scripts.ask
        fields = pairs(await ask("HGETALL", keys.drop(partition, self._drop_id)))
        found: dict[str, list[StoredClaim]] = {}
        cursor: bytes = b"0"
        while True:
            cursor, page = await ask("HSCAN", keys.claims(partition, self._drop_id), cursor, "COUNT", 1_000)
            for subject, value in zip(page[::2], page[1::2], strict=True):
                found[subject.decode()] = unpack_stored(value)
            if cursor == b"0":
                return fields, found

    async def _restore(self, drop: Drop, rows: Sequence[RecordedClaim]) -> None:
        if not rows:
            return
        values = [
            {**dict(zip(("drop_id", "partition", "serial"), row.claim_id, strict=True)), "epoch": drop.epoch}
            | {name: value for name, value in row._asdict().items() if name != "claim_id"}
            for row in rows
        ]
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            for chunk in _chunks(values, 1_000):
                await connection.execute(insert(claims).values(chunk).on_conflict_do_nothing())

    async def _make(self, partition: int, made: Made) -> None:
        """Write the claims under the key that nothing decides by."""
        place = keys.made(partition, self._drop_id)
        await self._stores.redis.unlink(place)
        packed = ((subject, b"".join(map(pack_stored, held))) for subject, held in made.claims.items())
        for chunk in _chunks(packed, REBUILD_CHUNK_SUBJECTS):
            await self._stores.redis.hset(place, mapping=dict(chunk))

    async def _install(self, plan: Plan, actor: Actor, reason: str) -> None:
        drop = plan.drop
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            control = Control(
                Verb.REBUILD, drop.revision + 1, actor.member_id, await self._now(), actor.act(), plan.change(reason)
            )
            changed = after(await drops_store.read(connection, drop.id, for_update=True), control)
            applied_ms = [await self._put(changed, control, partition, made) for partition, made in plan.made.items()]
            _, action = await drops_store.record(connection, drop.id, control, from_ms(max(applied_ms)))
            if action is not None:
                await actions.append(connection, [action])

    async def _put(self, drop: Drop, control: Control, partition: int, made: Made) -> int:
        """Put the new state in the place of the old; when, in ms."""
        prizes = (await self._stores.dealer.deal(drop, self._partitions))[partition]
        fields = store_fields(drop, self._partitions, partition, prizes) | made.counters()
        places = keys.drop(partition, drop.id), keys.claims(partition, drop.id), keys.outbox(partition)
        beside = keys.tally(partition, drop.id), keys.prizes(partition, drop.id)
        reply: bytes = await self._stores.scripts.run(
            lua.load("rebuild"),
            (*places, keys.told(partition), keys.made(partition, drop.id), *beside),
            (
                drop.id,
                control.revision,
                control.act,
                control_text(control),
                len(made.claims),
                pack_prizes(prizes),
                len(made.tallies),
                *chain.from_iterable(made.tally_fields().items()),
                *chain.from_iterable(fields.items()),
            ),
        )
        if reply.startswith((b"stale", b"unfenced", b"unmade", b"told")):
            raise Unavailable(f"drop {drop.id!r} was changed in the meantime: try again in a moment")
        return int(reply.partition(b":")[2])

    async def _now(self) -> datetime:
        seconds, microseconds = await self._stores.scripts.ask("TIME")
        return from_ms(int(seconds) * 1000 + int(microseconds) // 1000)


def lock_of(drop_id: str) -> int:
    """The lock that one rebuild of a drop holds, whoever runs it."""
    return int.from_bytes(blake2b(f"rebuild {drop_id}".encode(), digest_size=8).digest(), "big", signed=True)


def _chunks(values: Any, size: int) -> Iterator[list[Any]]:
    source = iter(values)
    while chunk := list(islice(source, size)):
        yield chunk
