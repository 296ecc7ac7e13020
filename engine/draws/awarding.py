"""What happens to a revealed draw's prizes: offered, claimed, declined or lapsed, and offered to the next who waits.

A prize is claimed like anything else: by a ticket of the prizes' drop, decided by the store, told to the ledger. So an
offer ends by the store's clock: its tickets expire with it, and it lapses only when the ledger has all that the store
decided until then and no claim is among it. A member who declines with a ticket in hand keeps the unit until that
ticket has expired, for it may still be shown.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from itertools import chain
from typing import NamedTuple

from engine.bounds import BATCH_CLAIMS_MAX, DRAW_DRAIN_S_MAX, LEDGER_LOCK_TIMEOUT
from engine.claims.model import Verdict, refusal
from engine.claims.store import Believed, claim_batch
from engine.claims.wire import ClaimRequest, pack_request
from engine.draws import store
from engine.draws.model import (
    Award,
    AwardState,
    NoAward,
    NoSuchDraw,
    Offer,
    State,
    WrongStage,
    confirm_by,
    draw_of,
    messages_for,
    nonce,
    prizes_id,
    replacements,
    rules_of,
)
from engine.drops.model import Actor, Drop, Status, WrongStatus
from engine.drops.service import Drops
from engine.ids import is_name, partition_of
from engine.ledger import actions, drained, migrations
from engine.notices import service as notices
from engine.runtime.connections import Stores

TICKET_SLACK = timedelta(minutes=1)  # between the note that a ticket is taken and its sealing
AWARDS_SHOWN_MAX = 50  # of one person, each of another draw
_IS_HELD = frozenset({Verdict.REPEATED, Verdict.LIMIT_REACHED})  # it was claimed before, by us or by the member


class Changed(NamedTuple):
    """Places whose state a step has changed; their people are to be told (`engine.draws.model.messages_for`)."""

    claimed: Sequence[int] = ()
    lapsed: Sequence[int] = ()
    declined: Sequence[int] = ()
    offered: Sequence[int] = ()


class Awarding:
    """What is done with the prizes of revealed draws, by one process."""

    def __init__(self, stores: Stores, drops: Drops, partitions: int) -> None:
        self._stores = stores
        self._drops = drops
        self._partitions = partitions

    async def open(self, draw_id: str, actor: Actor) -> None:
        """Let the prizes be claimed; without `confirm` claim them for the winners. May be done again at any time."""
        drop, prizes = await self._drops.read(draw_id), await self._drops.read(prizes_id(draw_id))
        if prizes.status is Status.DRAFT:
            try:
                prizes = await self._drops.launch(prizes.id, Actor(actor.member_id))
            except WrongStatus:  # launched by somebody else in this moment
                prizes = await self._drops.read(prizes.id)
        if rules_of(drop.spec).confirm is None:
            await self.grant_all(draw_id, actor)

    async def grant_all(self, draw_id: str, actor: Actor) -> Changed:
        """Claim each winner's prize for them: by one ticket each, always the same, so that it is claimed once.

        Cut off anywhere it is run again. Raises what a claim is refused with, such as `Paused`.
        """
        prizes = await self._drops.read(prizes_id(draw_id))
        async with self._stores.ledger.connect() as connection:
            awards = await store.awards_of(connection, draw_id)
        waiting: defaultdict[int, list[bytes]] = defaultdict(list)
        for award in awards:
            if award.state is AwardState.OFFERED:
                partition = partition_of(award.subject.encode(), self._partitions)
                waiting[partition].append(_argument(prizes, award))
        for partition, arguments in waiting.items():
            for at in range(0, len(arguments), BATCH_CLAIMS_MAX):
                await self._claim(prizes, partition, arguments[at : at + BATCH_CLAIMS_MAX])
        return await self.lapse(draw_id, actor)

    async def _claim(self, prizes: Drop, partition: int, arguments: Sequence[bytes]) -> None:
        believed = Believed(prizes.id, prizes.epoch, prizes.relatives)
        batch = await claim_batch(self._stores.scripts, partition, believed, 0, arguments)
        for decision in batch.others:
            if decision.verdict not in _IS_HELD:
                raise refusal(decision, batch.now_ms)

    async def lapse(self, draw_id: str, actor: Actor) -> Changed:
        """Bring the awards up to now, by the store's clock: what was claimed, what has lapsed, who is offered it next.

        Raises `NoSuchDraw`, `WrongStage` before the reveal, `NotReady` while the ledger is behind.
        """
        drop = await self._drops.read(draw_id)
        rules = rules_of(drop.spec)  # no other drop has prizes
        now = await self._drops.now()
        # Behind the look at the clock: whatever was claimed before `now` is in the ledger then.
        await drained.drain(self._stores.redis, self._partitions, DRAW_DRAIN_S_MAX)
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            draw = await store.find(connection, draw_id, for_update=True)
            if draw is None or draw.state is not State.REVEALED:
                raise WrongStage(
                    f"draw {draw_id!r} is not revealed: nothing is offered yet", needed=str(State.REVEALED)
                )
            prizes = await self._drops.read(prizes_id(draw_id))
            claimed = await store.mark_claimed(connection, draw_id)
            declined = await store.mark_given_back(connection, draw_id, now)
            lapsed = await store.mark_lapsed(connection, draw_id, now)
            offered: list[tuple[int, str]] = []
            if now < prizes.spec.closes_at:
                stock = [(prize.id, prize.stock) for prize in rules.prizes]
                held, waiting = await store.held(connection, draw_id, now), await store.waiting(connection, draw_id)
                offered = list(replacements(stock, held, waiting))
                await store.offer(connection, draw_id, offered, now, confirm_by(rules, now, prizes.spec.closes_at))
            changed = Changed(claimed, lapsed, declined, [place for place, _ in offered])
            if any(changed):
                after = {name: len(places) for name, places in changed._asdict().items()}
                await actions.record(
                    connection, f"draw:{draw_id}", "lapse", actor.member_id, change={}, before=None, after=after
                )
                places = set(chain.from_iterable(changed))
                told = [award for award in await store.awards_of(connection, draw_id) if award.place in places]
                await notices.tell(connection, messages_for(drop.spec, told))
        return changed

    async def offer_to(self, subject: str, prizes: Drop, ttl_s: int) -> Offer:
        """What a person may take a ticket of a grant drop for; it is noted that one is taken. Raises `NoAward`."""
        now = await self._drops.now()
        until = max(now, prizes.spec.opens_at) + timedelta(seconds=ttl_s) + TICKET_SLACK
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            award = await store.take_ticket(connection, draw_of(prizes.id), subject, now, until)
        if award is None or award.prize is None or award.confirm_by is None:
            raise NoAward("no prize of this draw is offered to you now: see GET /v1/me/awards")
        return Offer(award.prize, award.confirm_by)

    async def decline(self, draw_id: str, subject: str) -> Award:
        """Give up what a person was offered, or their place on the waiting list; the award as it is then.

        Declining twice changes nothing. Raises `NoAward` where there is nothing to decline any more.
        """
        if not is_name(draw_id):
            raise NoSuchDraw(f"there is no draw {draw_id[:80]!r}", draw_id=draw_id[:80])
        now = await self._drops.now()
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            claimed = await store.mark_claimed(connection, draw_id)
            await store.decline(connection, draw_id, subject, now)
            award = await store.award_to(connection, draw_id, subject)
            told = [one for one in await store.awards_of(connection, draw_id) if one.place in claimed]
            if award is not None and award.state is AwardState.DECLINED:
                told.append(award)
            if told:
                await notices.tell(connection, messages_for((await self._drops.read(draw_id)).spec, told))
        if award is None or award.state is not AwardState.DECLINED:
            state = "you have no place in it" if award is None else f"your prize is {award.state}"
            raise NoAward(f"there is nothing to decline in draw {draw_id!r}: {state}", draw_id=draw_id)
        return award

    async def awards_to(self, subject: str) -> list[Award]:
        """What a person won or waits for, the newest first."""
        async with self._stores.ledger.connect() as connection:
            return await store.awards_to(connection, subject, AWARDS_SHOWN_MAX)


def _argument(prizes: Drop, award: Award) -> bytes:
    """What the claim script is asked for a winner: as a ticket of the whole time would say it."""
    item = prizes.item_index(award.prize or "")
    assert item is not None, "prizes and awards have the same levels"
    request = ClaimRequest(nonce(award.draw_id, award.place), item, 1, award.member_id, award.subject)
    return prizes.opens_ms.to_bytes(6, "big") + prizes.closes_ms.to_bytes(6, "big") + pack_request(request)
