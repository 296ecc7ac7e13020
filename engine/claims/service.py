"""What happens to a claim, in order: a ticket is issued, shown, decided in a batch, and proved by a receipt."""

import asyncio
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import ClassVar, NamedTuple

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.bounds import LEDGER_FIRST_WORD_S, REMIND_S
from engine.claims import admission, history, receipt, store
from engine.claims.backlog import Backlog
from engine.claims.batcher import Answer, AnswerOf, Batcher, Turns, Waiter
from engine.claims.model import Claim, NoSuchClaim, NotReady, Overloaded
from engine.claims.store import Believed, ScriptStore
from engine.claims.ticket import Ticket, open_, seal
from engine.claims.wire import NONCE_BYTES, ClaimRequest
from engine.drops.model import Drop, from_ms
from engine.drops.service import Drops
from engine.errors import Refused, Unavailable
from engine.gates.model import Given, Passed
from engine.gates.service import Gates
from engine.ids import ClaimId, DropId
from engine.ledger import homes
from engine.members.model import Session
from engine.members.predicate import NOTHING_KNOWN, Known
from engine.runtime.connections import LEDGER_AWAY
from engine.runtime.settings import Settings

_NOTHING = Given()
_log = structlog.get_logger(__name__)
RENEW_S = 0.1  # between two looks at the ledger while a drop is fenced: each batch would ask for the same


class AlreadyReleased(Refused):
    code: ClassVar[str] = "already-released"


class IssuedTicket(NamedTuple):
    """A new ticket, when it may be shown, in ms since 1970, and what its member has passed for it."""

    ticket: str
    not_before_ms: int
    expires_at_ms: int
    passed: Passed


class Claims:
    """The claim service of one process; `drain` before the process ends."""

    def __init__(
        self,
        script_store: ScriptStore,
        ledger: AsyncEngine,
        drops: Drops,
        settings: Settings,
        backlog: Backlog,
    ) -> None:
        self._store = script_store
        self._ledger = ledger
        self._drops = drops
        self._backlog = backlog
        self._partitions = settings.partitions
        self._ticket_ttl_ms = settings.ticket_ttl_s * 1000
        self._towns, self._zone = settings.towns, settings.zone
        self.gates = Gates(ledger, settings)
        self.use_keys(settings)
        self._turns = Turns()
        self._renewed_s = float("-inf")
        self._batchers: dict[DropId, list[Batcher]] = {}
        self._followed = ""  # the store that the ledger named last
        self._told: dict[tuple[str, int], int] = {}  # drop, partition → the highest serial that a member was told

    def use_keys(self, settings: Settings) -> None:
        """Seal, sign, open and verify with these settings' keys from now on."""
        self._ticket_keys, self._receipt_keys = settings.ticket_keyring, settings.receipt_keyring
        self.gates.use_keys(settings)

    def issue_ticket(
        self,
        session: Session,
        drop: Drop,
        item: str | None,
        quantity: int | None,
        given: Given = _NOTHING,
        known: Known = NOTHING_KNOWN,
    ) -> IssuedTicket:
        """A ticket for one claim by the session's member; before the opening too. `given` is for the drop's gates.

        `known` is what the ledger says of the member, where the drop's eligibility asks for it (`asks_ledger`).

        Raises `NotOpen` for a draft, `Closed`, `NotEligible`, `ClaimInvalid`, and the gates' refusals.
        """
        now_ms = round(time.time() * 1000)
        admission.check_asker(drop, session, now_ms, self._zone, known)
        expires_ms = min(drop.closes_ms, max(now_ms, drop.opens_ms) + self._ticket_ttl_ms)
        wanted, units = admission.wish(drop, item, quantity)
        passed = self.gates.check(session, drop, given)
        request = ClaimRequest(
            nonce=secrets.token_bytes(NONCE_BYTES),
            item=wanted,
            quantity=units,
            member=session.member_id,
            subject=session.subject,
            town=passed.town or (self._town(session) if drop.spec.allotments else 0),
            slogan=passed.slogan,
        )
        ticket = seal(self._ticket_keys, drop.id, request, drop.opens_ms, expires_ms)
        return IssuedTicket(ticket, drop.opens_ms, expires_ms, passed)

    def _town(self, session: Session) -> int:
        """The number of the town that a member belongs to; 0 where it is not known."""
        town = self._towns.named(str(session.attributes.get("town", "")))
        return 0 if town is None else town.number

    def open_ticket(self, text: str | bytes) -> Ticket:
        """The ticket that a text stands for; raises `TicketInvalid`."""
        return open_(self._ticket_keys, text)

    def submit(self, drop: Drop, ticket: Ticket, item: str | None, quantity: int | None, tell: Waiter) -> None:
        """Claim with an opened ticket, or learn again what it got; `tell` is called once with the claim or the refusal.

        Raises `TicketInvalid`, `ClaimInvalid`, `Overloaded`; `tell` is not called then.
        """
        asked = admission.argument(drop, ticket, item, quantity)
        batchers = self._batchers.get(drop.id) or self._new_batchers(drop.id)
        partition = admission.partition(asked, self._partitions) if self._partitions > 1 else 0
        if partition in self._backlog.full:
            raise Overloaded("the ledger is behind: send the same ticket again in a while", retry_after_s=5)
        batchers[partition].submit(asked, tell)

    async def claim(self, drop: Drop, ticket: Ticket, item: str | None, quantity: int | None) -> Claim:
        """`submit`, and wait: the claim. Raises the refusal (engine/claims/model.py), or `Unavailable`.

        A caller that goes away cancels only its own wait: the claim is decided all the same.
        """
        answer: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()

        def tell(told: Answer) -> None:
            if answer.done():
                return
            if isinstance(told, Claim):
                answer.set_result(told)
            else:
                answer.set_exception(told)

        self.submit(drop, ticket, item, quantity, tell)
        return await answer

    def _new_batchers(self, drop_id: DropId) -> list[Batcher]:
        """The batchers of a drop, one for each partition. Only for drops that exist: they are kept."""
        made = self._batchers[drop_id] = [
            Batcher(partial(self._decide, partition, drop_id), self._turns) for partition in range(self._partitions)
        ]
        return made

    async def _decide(self, partition: int, drop_id: str, arguments: Sequence[bytes]) -> AnswerOf:
        drop = self._drops.known(drop_id) or await self._drops.get(drop_id)
        batch = await self._ask(partition, drop, arguments)
        if batch.is_stale and time.monotonic() - self._renewed_s > RENEW_S:
            # The epoch was over, so nothing new was decided: the same batch may be asked again under the next one.
            self._renewed_s = time.monotonic()
            self._drops.forget(drop_id)
            renewed = await self._drops.get(drop_id)
            if (renewed.epoch, renewed.relatives) != (drop.epoch, drop.relatives):
                drop, batch = renewed, await self._ask(partition, renewed, arguments)
        return admission.Answers(self._receipt_keys, drop, partition, arguments, batch.decisions, batch.now_ms)

    async def _ask(self, partition: int, drop: Drop, arguments: Sequence[bytes]) -> store.Batch:
        place = drop.id, partition
        told = self._told.get(place, 0)
        believed = Believed(drop.id, drop.epoch, drop.relatives)
        batch = await store.claim_batch(self._store, partition, believed, told, arguments)
        if batch.serial_max:
            self._told[place] = max(batch.serial_max, self._told.get(place, 0))  # another batch may be back before
        return batch

    async def release(self, claim_id: ClaimId, actor: str, reason: str) -> datetime:
        """Give a claim's units back to its drop; when that was, by the store's clock.

        Raises `NoSuchClaim` (also for a claim that the ledger has not recorded yet), `AlreadyReleased`, `Unavailable`.
        """
        async with self._ledger.connect() as connection:
            recorded = await history.find(connection, claim_id)
        if recorded is None:
            raise NoSuchClaim(
                f"the ledger has no claim {claim_id}: a claim of the last seconds may still be on its way"
            )
        if recorded.released_at is not None:  # also where a store that failed over has forgotten it
            raise AlreadyReleased(f"claim {claim_id} was given back before", claim_id=str(claim_id))
        why = json.dumps({"actor": actor, "reason": reason}, ensure_ascii=False)
        try:
            reply = await self._release(claim_id, recorded.subject, why)
        except NotReady:
            self._drops.forget(claim_id.drop_id)  # the epoch may be over: nothing was done under it
            reply = await self._release(claim_id, recorded.subject, why)
        if reply == "already":
            raise AlreadyReleased(f"claim {claim_id} was given back before", claim_id=str(claim_id))
        if reply == "unknown":
            raise NoSuchClaim(f"the store has no claim {claim_id}, though the ledger has: see `flashclaim audit`")
        return from_ms(int(reply.partition(":")[2]))

    async def _release(self, claim_id: ClaimId, subject: str, why: str) -> str:
        drop = await self._drops.get(claim_id.drop_id)
        return await store.release(self._store, claim_id, drop.epoch, subject, why)

    async def remind(self, stop: asyncio.Event) -> None:
        """Say to each store that is new to this process what it was told before, until `stop` is set.

        Claims say it too, but nobody may claim while the worker waits for it (engine/ledger/homecoming.py).
        """
        known = ""
        while not stop.is_set():
            with suppress(Unavailable):
                home = await self._store.home()
                for (drop_id, partition), serial in list(self._told.items()) if home != known else ():
                    await store.claim_batch(self._store, partition, Believed(drop_id), serial, ())
                known = home
            await _pause(stop, REMIND_S)

    async def trust_none(self) -> None:
        """Let no store decide before the ledger's first word, which is waited for a moment: then requests may come."""
        await self._store.follow("")
        with suppress(TimeoutError, *LEDGER_AWAY):
            async with asyncio.timeout(LEDGER_FIRST_WORD_S), self._ledger.connect() as connection:
                await self._follow(await homes.read(connection))

    async def follow(self, stop: asyncio.Event) -> None:
        """Decide by no store but the one that the ledger names, until `stop` is set.

        One that was left behind, by a failover that it outlived, answers whoever still reaches it, and no worker reads
        what it gives out. While the ledger is away its last word counts.
        """
        is_heard = True
        while not stop.is_set():
            try:
                async with self._ledger.connect() as connection:  # its own: members' requests may have all others
                    while not stop.is_set():
                        await self._follow(await homes.read(connection))
                        await connection.rollback()
                        is_heard = True
                        await _pause(stop, REMIND_S)
            except Exception as error:  # noqa: BLE001 (whatever broke, the next failover must be heard of)
                if is_heard:  # once, and not four times a second
                    _log.warning("store not followed", error=str(error)[:200])
                is_heard = False
            await _pause(stop, REMIND_S)

    async def _follow(self, named: Mapping[int, str]) -> None:
        stores = {named.get(partition, "") for partition in range(self._partitions)}
        home = stores.pop() if len(stores) == 1 else ""  # while a worker names one partition after the other
        if home != self._followed:
            _log.info("store named", store=home[:8] or "none", before=self._followed[:8] or "none")
            self._followed = home
        await self._store.follow(home)

    def check_receipt(self, text: str) -> receipt.ReceiptBody:
        """What a receipt proves; raises `ReceiptInvalid`."""
        return receipt.verify(self._receipt_keys, text)

    async def drain(self) -> None:
        """Wait until every claim that was taken in has its answer."""
        await asyncio.gather(*(batcher.drain() for batchers in self._batchers.values() for batcher in batchers))


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
