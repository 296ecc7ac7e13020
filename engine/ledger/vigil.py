"""Calls the promises on a part of the history all the time, and shows as metrics what they find.

A look takes one window of each open drop's recorded claims with all that the store keeps of their subjects, what the
ledger knows beside the claims, and one window of the operators' chain. It changes nothing: what can be repaired is the
reconciler's, and `flashclaim audit` tells the rest claim by claim. A difference counts when it is found twice in a row.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from prometheus_client import Gauge
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.bounds import VIGIL_ACTIONS, VIGIL_ROWS
from engine.claims import history, keys
from engine.claims.history import Group, RecordedClaim
from engine.claims.wire import unpack_stored, unpack_tallies
from engine.drops.model import Drop
from engine.ledger import actions, by_town, evidence, promises
from engine.ledger.actions import Link
from engine.ledger.audit import wait_until_recorded
from engine.ledger.facts import History
from engine.ledger.schema import dead_letters
from engine.runtime.connections import Stores

BROKEN = Gauge("flashclaim_broken_promises", "Differences that stand, by the promise that they break", ["promise"])
DEAD_LETTERS_KEPT = Gauge("flashclaim_dead_letters_kept", "Entries that lie in the dead letters")
# Those that can be judged by a part of the history: by a few subjects with all of their claims.
JUDGED = (
    promises.over_limit,
    promises.one_ticket_one_claim,
    promises.duplicate_serials,
    promises.outside_window,
    promises.while_shut,
    promises.accepted_when_fenced,
    promises.unread,
    by_town.from_reserve,
    by_town.tallies_off,
    promises.over_campaign_limit,
)
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Memo:
    """Where the next window of a drop in one partition begins, and what the last look found there.

    It lasts as long as the drop's epoch: a rebuild may bring back claims from before the window.
    """

    epoch: int
    cursor: int = 0
    claimed: Counter[Group] = field(default_factory=Counter)  # units of the claims up to there, given back or not
    over_campaign: list[str] = field(default_factory=list)
    suspected: dict[str, set[str]] = field(default_factory=dict)


class Vigil:
    """Looks at part after part of everything; `look` is one round."""

    def __init__(self, stores: Stores, partitions: int) -> None:
        self._stores = stores
        self._partitions = partitions
        self._memos: dict[tuple[str, int], _Memo] = {}
        self._last_link: Link | None = None

    async def look(self, drops: Sequence[Drop]) -> None:
        """Judge the next window of each drop. Raises the stores' errors."""
        standing: dict[str, int] = {promise.__name__: 0 for promise in (*JUDGED, promises.altered_actions)}
        for drop in drops:
            for partition in range(self._partitions):
                for name, count in (await self._judge(drop, partition)).items():
                    standing[name] += count
        async with self._stores.ledger.connect() as connection:
            standing[promises.altered_actions.__name__] = await self._follow_chain(connection)
            DEAD_LETTERS_KEPT.set(await connection.scalar(select(func.count()).select_from(dead_letters)) or 0)
        for name, count in standing.items():
            BROKEN.labels(name).set(count)

    async def _judge(self, drop: Drop, partition: int) -> dict[str, int]:
        memo = self._memos.get((drop.id, partition))
        if memo is None or memo.epoch != drop.epoch:
            memo = self._memos[drop.id, partition] = _Memo(drop.epoch)
        part, rows = await self._part(drop, partition, memo)
        counts = {}
        for promise in JUDGED:
            found = set(promise(part))
            standing = found & memo.suspected.get(promise.__name__, set())
            for difference in standing:
                _log.error("promise broken", drop=drop.id, promise=promise.__name__, detail=difference)
            memo.suspected[promise.__name__] = found
            counts[promise.__name__] = len(standing)
        if not any(memo.suspected.values()):  # a window with a difference is looked at again
            memo.cursor = rows[-1].claim_id.serial if rows else 0
            for row in rows:
                memo.claimed[Group(row.item, row.town, row.slogan)] += row.quantity
            if not rows:
                memo.claimed.clear()
        return counts

    async def _part(self, drop: Drop, partition: int, memo: _Memo) -> tuple[History, list[RecordedClaim]]:
        """A window of a drop's history, which is empty at its end, and the claims in it."""
        tallies, serial = await self._tallies(drop, partition)
        async with self._stores.ledger.connect() as connection:
            if partition == 0 and memo.cursor == 0:  # once for all windows: it looks at the claims of all drops
                memo.over_campaign = await evidence.over_campaign(connection, drop.id) if drop.spec.campaign else []
            rows = await history.window(connection, drop.id, partition, memo.cursor, VIGIL_ROWS)
            returned = await history.returned(connection, drop.id, partition, memo.cursor, drop.closes_ms)
        subjects = list({row.subject for row in rows})
        place = keys.claims(partition, drop.id)
        values = await self._stores.scripts.ask("HMGET", place, *subjects) if subjects else []
        # Read after the claims: an act that allowed them is there by now.
        async with self._stores.ledger.connect() as connection:
            known = await evidence.of_drop(connection, drop.id, self._partitions)
        return History(
            limit=drop.spec.limit_per_member,
            limits=known.limits,
            opens_ms=drop.opens_ms,
            closes_ms=drop.closes_ms,
            waves=evidence.releases(drop, self._partitions, partition),
            allotments=evidence.allotted(drop, self._partitions, partition),
            is_part=True,
            carried={group: units - sum(returned.get(group, ())) for group, units in memo.claimed.items()},
            tallies=tallies if serial == (rows[-1].claim_id.serial if rows else memo.cursor) else None,
            stored=[
                evidence.stored_fact(drop.id, partition, subject, claim)
                for subject, value in zip(subjects, values, strict=True)
                for claim in unpack_stored(value or b"")
            ],
            recorded=[evidence.recorded_fact(row) for row in rows],
            shut=known.shut,
            fenced=known.fenced,
            buried=known.buried,
            over_campaign=memo.over_campaign,
        ), rows

    async def _tallies(self, drop: Drop, partition: int) -> tuple[Counter[tuple[int, int]] | None, int]:
        """The store's tallies, None while the ledger has not all of what they count; and its last serial."""
        async with self._stores.redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(keys.drop(partition, drop.id), "serial")
            pipeline.hgetall(keys.tally(partition, drop.id))
            serial, tallies = await pipeline.execute()
        is_recorded = await wait_until_recorded(self._stores.redis, self._partitions, 0)
        return unpack_tallies([tallies]) if is_recorded else None, int(serial or 0)

    async def _follow_chain(self, connection: AsyncConnection) -> int:
        """How many links of the chain's next window do not hold."""
        links = await actions.chain(connection, self._last_link, VIGIL_ACTIONS)
        broken = actions.broken_links(links, self._last_link)
        for difference in broken:
            _log.error("promise broken", promise=promises.altered_actions.__name__, detail=difference)
        if not broken:
            self._last_link = links[-1] if links else None
        return len(broken)
