"""A draw on real stores, as services work it; what waits for days in earnest waits for a clock that can be moved."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from engine.bounds import OUTBOX_BYTES_MAX
from engine.claims.backlog import Backlog
from engine.claims.model import Claim
from engine.claims.service import Claims
from engine.draws import packing
from engine.draws.model import Award, Draw, prizes_id
from engine.draws.packing import Published
from engine.draws.publication import BeaconValue
from engine.draws.service import Draws
from engine.draws.verify import Json
from engine.drops.model import Actor, Drop
from engine.drops.service import Drops
from engine.drops.spec import DropSpec, parse
from engine.ids import ClaimId
from engine.ledger.audit import AuditReport, audit
from engine.ledger.ingest import writer_of
from engine.ledger.persist import Persister
from engine.members.model import Session
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings

BOSS = Actor("boss")
VALUE = "5a" * 32
HOUR = timedelta(hours=1)


def draw_json(draw_id: str = "goose", opens_at: datetime | None = None, **rules: Any) -> dict[str, Any]:
    """A draw that opened an hour ago, or when it is said, and closes in an hour; the beacon is due an hour later."""
    opens = opens_at or datetime.now(UTC) - HOUR
    closes = datetime.now(UTC) + HOUR
    due = closes.replace(microsecond=0) + HOUR

    def at(hours: float) -> str:
        return (due + hours * HOUR).isoformat()

    return {
        "id": draw_id,
        "title": {"zh": "烧鹅", "en": "Roast geese"},
        "organisation": "dongguan",
        "allocation": "draw",
        "opens_at": opens.isoformat(),
        "closes_at": closes.isoformat(),
        "draw": {
            "prizes": [
                {"id": "goose", "title": {"zh": "烧鹅", "en": "Goose"}, "stock": 2},
                {"id": "mooncake", "title": {"en": "Mooncakes"}, "stock": 1},
            ],
            "rules": {"en": "One prize a person.", "zh": "每人限中一次。"},
            "waiting": 2,
            "weights": {"base": 1, "misses_max": 3, "points_each": 100, "points_max": 2, "weight_max": 5},
            "confirm": {"within_hours": 48},
            "collect_until": at(24 * 30),
            "beacon": {
                "source": "an example",
                "value_bytes": 32,
                "rounds": [
                    {"round": 7, "due_at": at(0), "wait_until": at(2)},
                    {"round": 9, "due_at": at(3), "wait_until": at(5)},
                ],
            },
            **rules,
        },
    }


def draw_spec(draw_id: str = "goose", opens_at: datetime | None = None, **rules: Any) -> DropSpec:
    return parse(draw_json(draw_id, opens_at, **rules), "test")


class Shifted(Drops):
    """Drops by a clock that can be moved. The scripts go by the store's own: claims are what they are."""

    shift = timedelta()

    async def now(self) -> datetime:
        return await super().now() + self.shift

    async def _act(self, *what: Any, **more: Any) -> Drop:
        """Acts are dated by the store's clock, as claims are."""
        shift, self.shift = self.shift, timedelta()
        try:
            return await super()._act(*what, **more)
        finally:
            self.shift = shift


class Drawn:
    """A draw and the people in it; a worker records what they do."""

    def __init__(self, stores: Stores, settings: Settings, draw_id: str = "goose") -> None:
        self.stores, self.settings, self.id = stores, settings, draw_id
        self.drops = Drops(stores.redis, stores.scripts, stores.ledger, settings.partitions)
        self.clocked = Shifted(stores.redis, stores.scripts, stores.ledger, settings.partitions)
        self.draws = Draws(stores, self.clocked, settings.partitions)
        backlog = Backlog(stores.redis, settings.partitions, OUTBOX_BYTES_MAX)
        self.claims = Claims(stores.scripts, stores.ledger, self.drops, settings, backlog)

    async def commit(self, **rules: Any) -> Draw:
        """Defined, committed to an hour before the opening, and launched."""
        spec = draw_spec(self.id, **rules)
        await self.drops.create(spec, BOSS)
        self.clocked.shift = -2 * HOUR
        draw = await self.draws.commit(self.id, BOSS)
        self.clocked.shift = timedelta()
        await self.drops.launch(self.id, BOSS)
        return draw

    async def enter(self, *members: str | tuple[str, str]) -> list[Claim]:
        """Members, or members with the persons behind them, enter the draw."""
        return [await self.claim(self.id, *([member] if isinstance(member, str) else member)) for member in members]

    async def claim(self, drop_id: str, member: str, subject: str = "", ticket: str | None = None) -> Claim:
        drop = await self.drops.get(drop_id)
        sealed = ticket or await self.ticket(drop_id, member, subject)
        return await self.claims.claim(drop, self.claims.open_ticket(sealed), None, None)

    async def ticket(self, drop_id: str, member: str, subject: str = "") -> str:
        drop, session = await self.drops.get(drop_id), Session(member, subject or member)
        offer = None
        if drop.spec.allocation == "grant":
            offer = await self.draws.awarding.offer_to(session.subject, drop, self.settings.ticket_ttl_s)
        return self.claims.issue_ticket(session, drop, None, None, offer=offer).ticket

    async def claim_prize(self, member: str, subject: str = "", ticket: str | None = None) -> Claim:
        return await self.claim(prizes_id(self.id), member, subject, ticket)

    async def prize_ticket(self, member: str, subject: str = "") -> str:
        return await self.ticket(prizes_id(self.id), member, subject)

    async def closing(self) -> None:
        """Move the clock behind the close."""
        self.clocked.shift = HOUR + timedelta(seconds=1)

    async def close(self) -> Draw:
        await self.closing()
        return await self.draws.close(self.id, BOSS)

    async def reveal(self, value: str = VALUE, number: int = 7) -> Draw:
        self.clocked.shift = max(self.clocked.shift, 2 * HOUR + timedelta(minutes=1))
        return await self.draws.reveal(self.id, await self.beacon(value, number), BOSS)

    async def beacon(self, value: str = VALUE, number: int = 7) -> BeaconValue:
        drop = await self.drops.read(self.id)
        assert drop.spec.draw is not None
        due = {each.round: each.due_at for each in drop.spec.draw.beacon.rounds}
        return BeaconValue(number, value, due.get(number, due[7]))

    async def whole(self, *members: str | tuple[str, str], **rules: Any) -> Json:
        """From the definition to the result, which is returned."""
        await self.commit(**rules)
        await self.enter(*members)
        await self.close()
        await self.reveal()
        return (await self.document())["revealed"]  # type: ignore[no-any-return]

    async def document(self) -> Json:
        draw, packed = await self.draws.document(self.id)
        return packing.unpack(Published(packed, draw.commitment, draw.root))

    async def awards(self) -> list[Award]:
        from engine.draws import store

        async with self.stores.ledger.connect() as connection:
            return await store.awards_of(connection, self.id)

    async def states(self) -> list[str]:
        return [str(award.state) for award in await self.awards()]

    async def audits(self) -> list[AuditReport]:
        """The entries' drop and the prizes' drop, compared claim by claim."""
        keyring = self.settings.receipt_keyring
        return [
            await audit(self.stores, self.settings.partitions, keyring, drop_id)
            for drop_id in (self.id, prizes_id(self.id))
        ]

    async def release(self, claim_id: ClaimId) -> None:
        await self.claims.release(claim_id, "boss", "asked for it")

    async def sql(self, statement: str, **values: Any) -> list[Any]:
        async with self.stores.ledger.begin() as connection:
            found = await connection.execute(text(statement), values)
            return list(found) if found.returns_rows else []

    async def acts(self) -> list[dict[str, Any]]:
        rows = await self.sql(
            "select verb, actor, change, before, after from operator_actions where object = :of order by id",
            of=f"draw:{self.id}",
        )
        return [row._asdict() for row in rows]


@asynccontextmanager
async def recording(stores: Stores, partitions: int = 1) -> AsyncIterator[None]:
    """A worker that writes the outboxes into the ledger, as long as it lasts."""
    stop = asyncio.Event()
    working = asyncio.create_task(Persister(stores.redis, writer_of(stores.ledger), partitions, "test").run(stop))
    try:
        yield
    finally:
        stop.set()
        await working


def names(count: int, first: int = 0) -> list[str]:
    return [f"m-{number}" for number in range(first, first + count)]


def lines(rows: Iterable[Any]) -> str:
    return "\n".join(json.dumps(row, default=str) for row in rows)
