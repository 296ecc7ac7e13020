"""A drop of which some members have claimed a box each, as the claim service does it."""

import json
from pathlib import Path
from secrets import token_bytes
from typing import Any

from sqlalchemy import text

from engine.bounds import OUTBOX_BYTES_MAX
from engine.claims.backlog import Backlog
from engine.claims.model import Claim
from engine.claims.service import Claims
from engine.claims.ticket import seal
from engine.claims.wire import ClaimRequest
from engine.drops.model import Actor
from engine.drops.service import Drops
from engine.ids import ClaimId
from engine.ledger.audit import AuditReport, audit
from engine.members.model import Session
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.drops import drop_spec
from tests.factories.ledger import record_all

CLAIMS = 12
BOSS = Actor("boss")


class Rushed:
    """The drop `trial`: twelve members have a box, the last of them has given it back."""

    def __init__(self, stores: Stores, settings: Settings, log: Path) -> None:
        self.stores = stores
        self.settings = settings
        self.log = log
        self.drops = Drops(stores.redis, stores.scripts, stores.ledger, settings.partitions, stores.dealer)
        self.claims = self.api_process()

    def api_process(self) -> Claims:
        """The claim service of one more process: it was told nothing yet."""
        backlog = Backlog(self.stores.redis, 1, OUTBOX_BYTES_MAX)
        return Claims(self.stores.scripts, self.stores.ledger, self.drops, self.settings, backlog)

    async def rush(self, **more: Any) -> None:
        """`more` are fields of the drop's definition."""
        await self.drops.create(drop_spec("trial", **{"stock": 60, **more}), BOSS)
        await self.drops.launch("trial", BOSS)
        with self.log.open("w") as log:
            for number in range(CLAIMS):
                log.write(json.dumps(told(await self.claim(f"m-{number}"))) + "\n")
        await record_all(self.stores, self.settings.partitions)
        last = json.loads(self.log.read_text().splitlines()[-1])["claim_id"]
        await self.claims.release(ClaimId.parse(last), "boss", "ill")

    async def ticket(self, member: str) -> str:
        drop = await self.drops.get("trial")
        return self.claims.issue_ticket(Session(member, member), drop, None, None).ticket

    async def claim(self, member: str, ticket: str | None = None) -> Claim:
        """Claim with a ticket, a new one unless it is given."""
        drop = await self.drops.get("trial")
        opened = self.claims.open_ticket(ticket or await self.ticket(member))
        return await self.claims.claim(drop, opened, None, None)

    async def claim_for(
        self, member: str, town: int, slogan: int = 0, *, quantity: int = 1, drop_id: str = "trial"
    ) -> Claim:
        """Claim with a ticket that says for which town and with which slogan, as the gates have it made."""
        drop, request = await self.drops.get(drop_id), ClaimRequest(token_bytes(8), 1, quantity, member, member)
        request = request._replace(town=town, slogan=slogan)
        sealed = seal(self.settings.ticket_keyring, drop.id, request, drop.opens_ms, drop.closes_ms)
        return await self.claims.claim(drop, self.claims.open_ticket(sealed), None, None)

    async def record(self) -> None:
        await record_all(self.stores, self.settings.partitions)

    async def audit(self, drop_id: str = "trial") -> AuditReport:
        keyring, log = self.settings.receipt_keyring, self.log if self.log.exists() else None
        return await audit(self.stores, self.settings.partitions, keyring, drop_id, log)

    async def sql(self, statement: str) -> None:
        async with self.stores.ledger.begin() as connection:
            await connection.execute(text(statement))


def told(claim: Claim) -> dict[str, object]:
    """A claim as a line of a client log."""
    return {
        "claim_id": str(claim.claim_id),
        "drop_id": claim.drop_id,
        "serial": claim.serial,
        "item": claim.item,
        "quantity": claim.quantity,
        "receipt": claim.receipt,
    }
