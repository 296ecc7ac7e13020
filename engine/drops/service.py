"""What an operator does to a drop, in order: the ledger locks and checks, the store applies, the ledger records.

The store's outbox tells of each act as well, so an act whose recording was cut off is recorded by the worker
all the same.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import lua
from engine import ids, towns
from engine.bounds import LEDGER_LOCK_TIMEOUT
from engine.claims import keys
from engine.claims.model import NotReady, StoreUnavailable
from engine.claims.outbox import control_text
from engine.claims.store import ScriptStore
from engine.claims.wire import Prize, pack_prizes, unpack_tallies
from engine.draws.dealer import CommitmentBroken, Dealer
from engine.drops import store
from engine.drops.city_map import CityMap, draw
from engine.drops.figures import LiveFigures, sum_up
from engine.drops.model import (
    COMMITTED_FIELDS,
    Actor,
    AlreadyCommitted,
    Control,
    Drop,
    DuplicateDrop,
    KeyReused,
    NoSuchDrop,
    NotCommitted,
    StaleRevision,
    Status,
    Verb,
    after,
    from_ms,
    store_fields,
    to_ms,
)
from engine.drops.spec import DropSpec, check_towns
from engine.ledger import actions, migrations
from engine.towns import Towns

CACHE_S = 1.0  # how long a process may act on what a drop looked like; limits and stock are never read from here
CACHE_STALE_S = 2.0  # a drop that nobody asked for so long is read before it is used
LEDGER_LOOK_S = 5.0  # a store's word is taken no longer: one that was replaced by another does not know it
CACHED_DROPS_MAX = 10_000
_NEVER_S = float("-inf")
_log = structlog.get_logger(__name__)


class _Remembered(NamedTuple):
    """A drop in memory: when anybody last confirmed it, and when the ledger did."""

    seen_s: float
    recorded_s: float
    drop: Drop


class Drops:
    """The drop service of one process, with a short memory of each drop for the claim path."""

    def __init__(
        self,
        redis: "Redis",
        script_store: ScriptStore,
        ledger: AsyncEngine,
        partitions: int,
        dealer: Dealer | None = None,
        city: Towns | None = None,
    ) -> None:
        self._redis = redis
        self._scripts = script_store
        self._ledger = ledger
        self._partitions = partitions
        self._dealer = dealer or Dealer()  # without keys: instant wins are refused
        self._city = towns.load() if city is None else city
        self._cache: dict[str, _Remembered] = {}
        self._reading: dict[str, asyncio.Task[Drop]] = {}

    async def create(self, spec: DropSpec, actor: Actor) -> Drop:
        """A new drop, as a draft; raises `DuplicateDrop` when its id is taken."""
        try:
            return await self._act(spec.id, Verb.CREATE, actor, {"spec": spec.model_dump(mode="json", by_alias=True)})
        except StaleRevision:
            raise DuplicateDrop(f"there is a drop {spec.id!r} already: choose another id", drop_id=spec.id) from None

    async def launch(self, drop_id: str, actor: Actor) -> Drop:
        """Make a draft claimable from its opening on."""
        return await self._act(drop_id, Verb.LAUNCH, actor)

    async def pause(self, drop_id: str, actor: Actor, reason: str = "") -> Drop:
        """Stop giving out; tickets stay good, repeats are answered."""
        return await self._act(drop_id, Verb.PAUSE, actor, {"reason": reason} if reason else None)

    async def resume(self, drop_id: str, actor: Actor) -> Drop:
        return await self._act(drop_id, Verb.RESUME, actor)

    async def close(self, drop_id: str, actor: Actor) -> Drop:
        """End a drop for good."""
        return await self._act(drop_id, Verb.CLOSE, actor)

    async def restock(self, drop_id: str, item: str, quantity: int, actor: Actor) -> Drop:
        """Add units of an item, released at once (or at the opening, before it)."""
        return await self._act(drop_id, Verb.RESTOCK, actor, {"item": item, "quantity": quantity})

    async def amend(self, drop_id: str, change: Mapping[str, Any], expected_revision: int | None, actor: Actor) -> Drop:
        """Change the definition; raises `StaleRevision` when the drop is not at the revision that the operator saw."""
        return await self._act(drop_id, Verb.AMEND, actor, {"spec": dict(change)}, expected_revision)

    async def reapply(self, drop_id: str) -> None:
        """Bring the last act to a partition of the store that missed it."""
        async with self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            drop = await store.read(connection, drop_id, for_update=True)
            done = await store.last_act(connection, drop) if drop else None
            if drop is not None and done is not None:
                await self._apply(drop, done, repeated=True)

    async def read(self, drop_id: str) -> Drop:
        """The drop as the ledger has it now; raises `NoSuchDrop`."""
        _check_id(drop_id)
        try:
            async with self._ledger.connect() as connection:
                drop = await store.read(connection, drop_id)
        except (SQLAlchemyError, OSError) as error:
            raise NotReady("the ledger cannot be read: try again", retry_after_s=2) from error
        if drop is None:
            self._cache.pop(drop_id, None)
            raise _no_such(drop_id)
        if drop.status is Status.DRAFT:
            # What a draft holds can still change, also which number an item has: nobody may act on what it was.
            self._cache.pop(drop_id, None)
            return drop
        if len(self._cache) >= CACHED_DROPS_MAX:
            self._cache.clear()
        now_s = time.monotonic()
        self._cache[drop_id] = _Remembered(now_s, now_s, drop)
        return drop

    async def locked(self, connection: AsyncConnection, drop_id: str) -> Drop:
        """The drop with its row held, so that no act on it comes between; raises `NoSuchDrop`."""
        drop = await store.read(connection, drop_id, for_update=True)
        if drop is None:
            raise _no_such(drop_id)
        return drop

    async def get(self, drop_id: str) -> Drop:
        """The drop as it was within the last second; older while the ledger is away, so that a rush goes on."""
        found = self._cache.get(drop_id)
        if found is not None and time.monotonic() - found.seen_s < CACHE_S:
            return found.drop
        try:
            return await self._read_together(drop_id)
        except NotReady:
            if found is None:
                raise
            self._cache[drop_id] = found._replace(seen_s=time.monotonic())
            return found.drop

    async def shown(self, drop_id: str, *, to_operator: bool) -> Drop:
        """The drop as `get` has it. To anybody but operators a draft is like a drop that there is not: `NoSuchDrop`."""
        drop = await self.get(drop_id)
        if drop.status is Status.DRAFT and not to_operator:
            raise _no_such(drop_id)
        return drop

    def known(self, drop_id: str) -> Drop | None:
        """The drop as it was within the last seconds, without waiting; None when it must be asked for (`get`).

        Past its second it is read anew behind the caller's back, so that nobody in a rush waits for the ledger, and so
        that a flood of forged tickets, which never get as far as `get`, does not stay on the slow way.
        """
        found = self._cache.get(drop_id)
        if found is None:
            return None
        age_s = time.monotonic() - found.seen_s
        if age_s < CACHE_S:
            return found.drop
        if drop_id not in self._reading:
            asyncio.ensure_future(self.get(drop_id)).add_done_callback(_note_failure)
        return found.drop if age_s <= CACHE_STALE_S else None

    def forget(self, drop_id: str) -> None:
        """Read the drop anew at its next use; while the ledger is away it is as it was, so that a rush goes on."""
        found = self._cache.get(drop_id)
        if found is not None:
            self._cache[drop_id] = found._replace(seen_s=_NEVER_S, recorded_s=_NEVER_S)

    async def listed(self, after_id: str | None, limit: int, among: Sequence[str] | None = None) -> list[Drop]:
        """Drops by id, from the one after `after_id` on; only those of some organisations, if given."""
        async with self._ledger.connect() as connection:
            return await store.listed(connection, after_id, limit, among)

    async def read_all(self, drop_ids: Sequence[str]) -> dict[str, Drop]:
        """Those of some drops that there are, as the ledger has them now."""
        async with self._ledger.connect() as connection:
            return await store.read_all(connection, drop_ids)

    async def live(self, drop_id: str) -> LiveFigures:
        """What the store says at this moment: stock, taken, left, per item and over all partitions."""
        drop = await self.get(drop_id)
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for partition in range(self._partitions):
                pipeline.hgetall(keys.drop(partition, drop_id))
                pipeline.xlen(keys.outbox(partition))
            try:
                (now_s, now_us), *answers = await pipeline.execute()
            except (RedisError, OSError) as error:
                raise StoreUnavailable("the store cannot be reached: try again") from error
        now = datetime.fromtimestamp(now_s + now_us / 1e6, UTC)
        return sum_up(drop, now, answers[::2], sum(answers[1::2]))

    async def city_map(self, drop: Drop, towns: Towns) -> CityMap:
        """Units by town and slogan as the store has them at this moment, over all partitions."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for partition in range(self._partitions):
                pipeline.hgetall(keys.tally(partition, drop.id))
                pipeline.exists(keys.drop(partition, drop.id))
            try:
                answers = await pipeline.execute()
            except (RedisError, OSError) as error:
                raise StoreUnavailable("the store cannot be reached: try again") from error
        return draw(drop, towns, unpack_tallies(answers[::2]), is_ready=all(answers[1::2]))

    async def _read_together(self, drop_id: str) -> Drop:
        """One read for all who ask at the same time: at the opening that is everybody."""
        task = self._reading.get(drop_id)
        if task is None:
            task = self._reading[drop_id] = asyncio.create_task(self._renewed(drop_id))
            task.add_done_callback(lambda _: self._reading.pop(drop_id, None))
        return await asyncio.shield(task)

    async def _renewed(self, drop_id: str) -> Drop:
        """The drop as it is in memory while the store has the same revision of it; else as the ledger has it.

        The store is asked first because asking it takes a tenth of the event loop's time that the ledger takes.
        """
        found = self._cache.get(drop_id)
        is_fresh = found is not None and time.monotonic() - found.recorded_s < LEDGER_LOOK_S
        if found is not None and is_fresh and await self._is_current(found.drop):
            self._cache[drop_id] = found._replace(seen_s=time.monotonic())
            return found.drop
        return await self.read(drop_id)

    async def _is_current(self, drop: Drop) -> bool:
        try:
            revision, epoch = await self._redis.hmget(keys.drop(0, drop.id), ["revision", "epoch"])
        except (RedisError, OSError):
            return False
        return (revision, epoch) == (b"%d" % drop.revision, b"%d" % drop.epoch)

    async def _act(
        self,
        drop_id: str,
        verb: Verb,
        actor: Actor,
        change: Mapping[str, Any] | None = None,
        expected_revision: int | None = None,
    ) -> Drop:
        _check_id(drop_id)
        act, change = actor.act(), change or {}
        async with self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            drop = await store.read(connection, drop_id, for_update=True)
            if drop is None and verb is not Verb.CREATE:
                raise _no_such(drop_id)
            done = await store.acted(connection, drop, act) if drop else None
            if done is not None:
                return await self._repeat(*done, verb, change)
            if drop is not None and expected_revision not in (None, drop.revision):
                raise StaleRevision(
                    f"drop {drop_id!r} is at revision {drop.revision}, not {expected_revision}: read it again",
                    revision=drop.revision,
                )
            if drop is not None and drop.spec.draw is not None:
                _check_commitment(drop, verb, change, is_committed=await store.is_committed(connection, drop_id))
            revision = drop.revision + 1 if drop else 1
            if drop is not None and verb is Verb.LAUNCH:
                change = {**change, **self._dealer.commit(drop.spec, self._partitions)}
            control = Control(verb, revision, actor.member_id, await self.now(), act, change)
            changed = after(drop, control)
            if verb in (Verb.CREATE, Verb.AMEND):
                check_towns(changed.spec, self._city)
            applied_at = await self._apply(changed, control)
            return await self._record(connection, drop_id, control, applied_at)

    async def _record(self, connection: AsyncConnection, drop_id: str, control: Control, applied_at: datetime) -> Drop:
        drop, action = await store.record(connection, drop_id, control, applied_at)
        if action is not None:
            await actions.append(connection, [action])
        self.forget(drop_id)
        return drop

    async def _repeat(self, done: Control, drop: Drop, verb: Verb, change: Mapping[str, Any]) -> Drop:
        asked = {name: value for name, value in done.change.items() if name != "committed"}
        if (done.verb, asked) != (verb, change):
            raise KeyReused(
                f"this Idempotency-Key was used for another request on drop {drop.id!r} ({done.verb}): make a new one",
                field="Idempotency-Key",
            )
        await self._apply(drop, done, repeated=True)
        return drop

    async def _apply(self, drop: Drop, control: Control, *, repeated: bool = False) -> datetime:
        """Apply an act in every partition; one that was recorded before is for those that missed it.

        When it was done, by the store's clock: in the last partition, for an act that ends something.
        """
        text, applied_ms = control_text(control), to_ms(control.at)
        dealt = await self._deal(drop, control.verb)
        for partition in range(self._partitions):
            prizes = dealt[partition] if dealt else []
            fields = store_fields(drop, self._partitions, partition, prizes)
            if dealt is None:
                fields = {name: value for name, value in fields.items() if name not in ("waves", "prizes")}
            places = keys.drop(partition, drop.id), keys.outbox(partition), keys.home(partition)
            reply: bytes = await self._scripts.run(
                lua.load("control"),
                (*places, keys.prizes(partition, drop.id)),
                (
                    *(drop.id, control.revision, control.act, text, pack_prizes(prizes)),
                    *chain.from_iterable(fields.items()),
                ),
            )
            if reply.startswith(b"stale") and not repeated:
                raise StaleRevision(
                    f"drop {drop.id!r} is further in the store than in the ledger: wait a second, then try again;"
                    f" after a restore see `flashclaim rebuild {drop.id}`"
                )
            if reply == b"already" and not repeated:
                raise NotReady("this very request is being carried out: send it again in a moment")
            if reply == b"not-ready":
                raise NotReady(f"the state of drop {drop.id!r} is not in the store: see `flashclaim rebuild {drop.id}`")
            applied_ms = max(applied_ms, int(reply.partition(b":")[2] or 0) if reply.startswith(b"applied") else 0)
        return from_ms(applied_ms)

    async def _deal(self, drop: Drop, verb: Verb) -> list[list[Prize]] | None:
        """Each partition's prizes; None, to leave them as they are, where an act that stops a drop lacks the key."""
        try:
            return await self._dealer.deal(drop, self._partitions)
        except CommitmentBroken:
            if verb in (Verb.PAUSE, Verb.CLOSE):
                return None
            raise

    async def now(self) -> datetime:
        """The store's clock, to the millisecond; raises `StoreUnavailable`."""
        try:
            seconds, microseconds = await self._redis.time()
        except (RedisError, OSError) as error:
            raise StoreUnavailable("the store cannot be reached: try again") from error
        return datetime.fromtimestamp(seconds + microseconds // 1000 / 1000, UTC)


def _check_commitment(drop: Drop, verb: Verb, change: Mapping[str, Any], *, is_committed: bool) -> None:
    """A draw is committed to before it takes entries, and is not changed from then on."""
    if verb is Verb.LAUNCH and not is_committed:
        raise NotCommitted(f"draw {drop.id!r} is not committed to: `flashclaim draw commit {drop.id}`, then launch it")
    changed = sorted(COMMITTED_FIELDS & change.get("spec", {}).keys())
    if verb is Verb.AMEND and is_committed and changed:
        raise AlreadyCommitted(
            f"{', '.join(changed)}: draw {drop.id!r} is committed to, and published: make a new draw", fields=changed
        )


def _note_failure(reading: asyncio.Future[Drop]) -> None:
    if not reading.cancelled() and reading.exception() is not None:
        _log.warning("drop not read", error=str(reading.exception())[:200])


def _check_id(drop_id: str) -> None:
    """Ask the ledger only for what can be there: PostgreSQL refuses some texts, such as one with a zero byte."""
    if not ids.is_name(drop_id):
        raise _no_such(drop_id)


def _no_such(drop_id: str) -> NoSuchDrop:
    return NoSuchDrop(f"there is no drop {drop_id[:80]!r}", drop_id=drop_id[:80])
