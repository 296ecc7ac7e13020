"""Lets a store decide again that is new to us: one that was restarted, promoted, copied, or put in another's place.

Such a store may lack what members were told. So nothing is decided by it (`fc:{p}:home`, lua/claim.lua) until the
worker has compared each drop's state in it with the ledger: the epoch, the revision, and the last serial; and with the
highest serial that the API's processes say they were told. What is behind is rebuilt from the ledger; what is missing
stays missing, and is told to the operator.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import structlog
from prometheus_client import Gauge
from sqlalchemy import text

import lua
from engine.bounds import HOMECOMING_GRACE_S, LEDGER_LOCK_TIMEOUT
from engine.claims import keys
from engine.claims.store import pairs
from engine.drops.model import Actor
from engine.errors import FlashclaimError, Unavailable
from engine.ledger import homes, migrations
from engine.ledger.plan import RebuildRefused
from engine.ledger.rebuild import Rebuild
from engine.runtime.connections import Stores

AT_HOME = Gauge(
    "flashclaim_store_at_home", "Whether the store may decide: 1, or 0 until it was compared", ["partition"]
)
_log = structlog.get_logger(__name__)
_KEEPER = Actor("homecoming")
# The last serial by the primary key, for each drop that was created; one index look-up each.
_DROPS = """
    select id, status, revision, epoch,
        coalesce((select max(serial) from claims where drop_id = drops.id and partition = :partition), 0) as serial
    from drops order by id
"""


class Standing(StrEnum):
    """How a drop's state in the store stands to the ledger."""

    WHOLE = "whole"
    MISSING = "missing"
    OUTDATED = "outdated"  # an act of an operator is missing, no claim
    BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a drop in one partition: by the ledger, or by the store."""

    revision: int
    epoch: int
    serial: int
    is_fenced: bool = False


def standing(recorded: Known, stored: Known | None, told: int) -> Standing:
    """Whether a drop may be decided by what the store has of it.

    A store that is further than the ledger is whole: its outbox tells the ledger the rest. One of another epoch than
    the ledger's was fenced, and waits for its rebuild.
    """
    if stored is None:
        return Standing.MISSING
    is_fenced = stored.is_fenced or (stored.epoch != recorded.epoch and stored.revision <= recorded.revision)
    if is_fenced or stored.serial < max(recorded.serial, told):
        return Standing.BEHIND
    return Standing.OUTDATED if stored.revision < recorded.revision else Standing.WHOLE


class Beside(NamedTuple):
    """How a drop's state in the store, over all partitions, stands to a ledger that was restored beside it.

    `serials` and `acts` are those that the store knows and the ledger does not; some may still come by the outbox.
    """

    is_missing: bool = False
    serials: int = 0
    acts: int = 0


_NEEDED = (
    b"status",
    b"waves",
    b"revision",
    b"epoch",
    b"serial",
    b"opens_ms",
    b"closes_ms",
    b"limit",
    b"items",
    b"allotments",
    b"family",
    b"scopes",
    b"prizes",
    b"dealt",
)


def known_by(fields: Mapping[bytes, bytes]) -> Known | None:
    """What a drop's hash says; None when it is not whole (`lua/includes/_drop.lua` decides nothing by it either)."""
    if any(name not in fields for name in _NEEDED):
        return None
    if any(b"taken:%d" % item not in fields for item in range(1, int(fields[b"items"]) + 1)):
        return None
    return Known(int(fields[b"revision"]), int(fields[b"epoch"]), int(fields[b"serial"]), b"fenced" in fields)


class Homecoming:
    """Watches which store there is, for all partitions."""

    def __init__(self, stores: Stores, partitions: int) -> None:
        self._stores = stores
        self._partitions = partitions
        self._seen: dict[int, tuple[str, float]] = {}  # partition → a store that is not at home, and since when

    async def look(self) -> bool:
        """Compare whatever store is new; whether all are at home. Raises `Unavailable` and the ledger's errors."""
        try:
            await self._stores.scripts.find()
        except Unavailable:
            for partition in range(self._partitions):
                AT_HOME.labels(str(partition)).set(0)
            raise
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            named = await homes.read(connection)
        return all([await self._look(partition, named.get(partition, "")) for partition in range(self._partitions)])

    async def _look(self, partition: int, named: str) -> bool:
        home = await self._stores.scripts.home()
        known = (await self._stores.scripts.ask("GET", keys.home(partition)) or b"none").decode()
        if known == named == home:
            self._seen.pop(partition, None)
            AT_HOME.labels(str(partition)).set(1)
            return True
        AT_HOME.labels(str(partition)).set(0)
        if named != home:
            # Before anything is compared: whoever still serves by another store leaves it within the grace.
            async with self._stores.ledger.begin() as connection:
                await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
                await homes.name(connection, partition, home)
        now_s = asyncio.get_running_loop().time()
        if named != home or self._seen.get(partition, ("", 0.0))[0] != home:
            self._seen[partition] = (home, now_s)
            _log.warning("store is new", partition=partition, store=home[:8], before=known[:8])
        await self._stores.scripts.renew_pool()
        drops = await self._recorded(partition)
        if drops and now_s - self._seen[partition][1] < HOMECOMING_GRACE_S:
            return False  # whoever was told something by the store before has a moment to say so
        for drop_id, recorded in drops.items():
            await self._bring_home(partition, drop_id, recorded)
        reply = await self._stores.scripts.run(lua.load("settle"), (keys.home(partition),), (home,))
        _log.info("store compared", partition=partition, store=home[:8], drops=len(drops), outcome=reply.decode())
        return False  # the next look sees it

    async def _bring_home(self, partition: int, drop_id: str, recorded: Known) -> None:
        told = int(await self._stores.scripts.ask("HGET", keys.told(partition), drop_id) or 0)
        found = standing(recorded, await self._stored(partition, drop_id), told)
        if found is Standing.MISSING:
            _log.error("drop missing", drop=drop_id, partition=partition, advice=f"flashclaim rebuild {drop_id}")
        if found in (Standing.BEHIND, Standing.OUTDATED):
            _log.error("drop behind", drop=drop_id, partition=partition, recorded=recorded.serial, told=told)
            try:
                await bring_back(self._stores, self._partitions, drop_id, "the store was behind the ledger")
            except FlashclaimError as error:
                # It must not keep the others from home: fenced it decides nothing, and the reconciler sees to it.
                await Rebuild(self._stores, self._partitions, drop_id).fence()
                _log.error("drop not brought home", drop=drop_id, error=error.detail[:300])

    async def _recorded(self, partition: int) -> dict[str, Known]:
        async with self._stores.ledger.connect() as connection:
            rows = await connection.execute(text(_DROPS), {"partition": partition})
            return {row.id: Known(row.revision, row.epoch, row.serial) for row in rows}

    async def _stored(self, partition: int, drop_id: str) -> Known | None:
        return known_by(pairs(await self._stores.scripts.ask("HGETALL", keys.drop(partition, drop_id))))


async def beside(stores: Stores, partitions: int) -> dict[str, Beside]:
    """How the store stands to a ledger that was restored beside it, drop by drop. Raises `Unavailable`."""
    home, found = Homecoming(stores, partitions), dict[str, Beside]()
    for partition in range(partitions):
        for drop_id, recorded in (await home._recorded(partition)).items():
            stored = await home._stored(partition, drop_id)
            known = found.get(drop_id, Beside())
            if stored is None:
                found[drop_id] = known._replace(is_missing=True)
            else:
                serials = known.serials + max(0, stored.serial - recorded.serial)
                acts = max(known.acts, stored.revision - recorded.revision)
                found[drop_id] = Beside(known.is_missing, serials, acts)
    return found


async def bring_back(stores: Stores, partitions: int, drop_id: str, reason: str) -> bool:
    """Rebuild a drop without being asked, or say why not; whether it was done.

    One that refuses stays fenced, and people are told. Raises `Unavailable`.
    """
    try:
        report = await Rebuild(stores, partitions, drop_id).apply(_KEEPER, reason, fences_first=True)
    except RebuildRefused as error:
        _log.error("drop not rebuilt", drop=drop_id, error=error.detail[:500], advice=f"flashclaim rebuild {drop_id}")
        return False
    _log.warning(
        "drop rebuilt",
        drop=drop_id,
        epoch=report.epoch,
        claims=report.claims,
        paused=report.is_paused,
        skipped=report.skipped[:20],
        over_stock=report.over_stock,
    )
    return True
