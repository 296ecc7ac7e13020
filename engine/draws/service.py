"""What happens to a draw, in order: commit, entries, close, reveal; each step can be cut off anywhere and done again.

    commit   a secret is made, terms and commitment are published, the prizes' drop is created   before the opening
    close    the drop is closed, the ledger has all of it, entrants and root are published       before the beacon
    reveal   secret, beacon value and result are published, prizes are offered                   once, and for good

What comes after the reveal is in `awarding.py`. A step writes the ledger in one transaction under the lock of the
draw's row; what it does to drops comes before or after, and is done again by whoever repeats the step.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.bounds import DRAW_DRAIN_S_MAX, LEDGER_LOCK_TIMEOUT
from engine.draws import packing, publication, store
from engine.draws.awarding import Awarding
from engine.draws.model import (
    Award,
    Draw,
    NoSuchDraw,
    State,
    WrongStage,
    confirm_by,
    messages_for,
    prizes_id,
    prizes_spec,
    rules_of,
)
from engine.draws.packing import Published, beside
from engine.draws.publication import SECRET_BYTES, BeaconValue
from engine.draws.store import Kept
from engine.draws.verify import NUMBER_MAX, Json
from engine.drops import draw_rules
from engine.drops.model import Actor, Drop, DuplicateDrop, NoSuchDrop, Status, WrongStatus
from engine.drops.service import Drops
from engine.errors import Invalid
from engine.ids import is_name
from engine.ledger import actions, drained, migrations
from engine.notices import service as notices
from engine.notices.model import Event
from engine.runtime.connections import Stores


class PointsInvalid(Invalid):
    code = "points-invalid"


class Draws:
    """The draw service of one process."""

    def __init__(self, stores: Stores, drops: Drops, partitions: int) -> None:
        self._stores = stores
        self._drops = drops
        self._partitions = partitions
        self.awarding = Awarding(stores, drops, partitions)

    async def read(self, draw_id: str) -> Draw:
        """Where a draw stands; raises `NoSuchDraw`."""
        if not is_name(draw_id):
            raise _no_such(draw_id)
        async with self._stores.ledger.connect() as connection:
            return _known(await store.find(connection, draw_id), draw_id)

    async def commit(self, draw_id: str, actor: Actor) -> Draw:
        """Commit to a draft's rules by a secret that nobody sees before the reveal; then it can be launched.

        Raises `NoSuchDrop`, `NoSuchDraw` for a drop that is no draw or an earlier draw that there is not, `WrongStage`
        once the drop is launched or its opening is past, `DuplicateDrop` when another drop has its prizes' name.
        """
        drop = await self._drops.read(draw_id)
        await self._check_prizes_name(drop)
        now = await self._drops.now()
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            drop = await self._drops.locked(connection, draw_id)
            draw = await store.find(connection, draw_id)
            if draw is None:
                await self._commit(connection, drop, now, actor)
        await self._create_prizes(drop, actor)
        return await self.read(draw_id)

    async def _commit(self, connection: AsyncConnection, drop: Drop, now: datetime, actor: Actor) -> None:
        rules = rules_of(drop.spec)
        if drop.status is not Status.DRAFT or now >= drop.spec.opens_at:
            raise WrongStage(
                f"drop {drop.id!r} is {drop.status} and opens at {drop.spec.opens_at.isoformat()}:"
                " a draw is committed to as a draft, before it opens",
                status=str(drop.status),
            )
        for earlier in rules.misses_in:
            _known(await store.find(connection, earlier), earlier)
        secret = secrets.token_bytes(SECRET_BYTES)
        document = publication.commit(draw_rules.terms(rules, drop.id, drop.spec.closes_at), secret)
        published = Published(packing.pack(document), document["commitment"])
        await store.commit(connection, drop.id, published, secret, now)
        after = {"state": str(State.COMMITTED), "commitment": published.commitment}
        await _record(connection, drop.id, "commit", actor, before=None, after=after)

    async def close(self, draw_id: str, actor: Actor) -> Draw:
        """Close the entries and publish them, once the ledger has them all.

        Raises `NoSuchDraw`, `WrongStage` before the drop's close, for a drop that was never launched, and while an
        earlier draw whose misses count is not revealed, `NotReady` while the ledger is behind, `DrawInvalid` when the
        beacon's first round is due already: such a draw is void.
        """
        found = await self._kept(draw_id)
        if found.draw.state is not State.COMMITTED:
            return _not_void(found.draw, "close")
        drop = await self._shut(draw_id, actor)
        await drained.drain(self._stores.redis, self._partitions, DRAW_DRAIN_S_MAX)
        entrants = await self._entrants(drop)
        at = await self._drops.now()
        closed = await beside(len(entrants), packing.close, found.published, entrants, at)
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            draw = _known(await store.find(connection, draw_id, for_update=True), draw_id)
            if draw.state is State.COMMITTED:  # else somebody else was quicker
                await store.close(connection, draw_id, closed, at)
                after = {"state": str(State.CLOSED), "root": closed.published.root, "entrants": closed.entrants}
                await _record(connection, draw_id, "close", actor, before=_state(draw), after=after)
        return _not_void(await self.read(draw_id), "close")

    async def _shut(self, draw_id: str, actor: Actor) -> Drop:
        """The drop, closed in the store: from now on nobody enters, whatever the store's clock does."""
        drop = await self._drops.read(draw_id)
        now = await self._drops.now()
        if drop.status is Status.DRAFT:
            raise WrongStage(f"draw {draw_id!r} was never launched: it has no entries", status=str(drop.status))
        if now < drop.spec.closes_at:
            raise WrongStage(f"draw {draw_id!r} takes entries until {drop.spec.closes_at.isoformat()}: close it then")
        if drop.status is Status.CLOSED:
            return drop
        try:
            return await self._drops.close(draw_id, actor)
        except WrongStatus:  # closed by the schedule, or by somebody else, in this moment
            return await self._drops.read(draw_id)

    async def _entrants(self, drop: Drop) -> list[tuple[str, int, int]]:
        earlier = rules_of(drop.spec).misses_in
        async with self._stores.ledger.connect() as connection:
            for draw_id in earlier:
                draw = _known(await store.find(connection, draw_id), draw_id)
                if draw.state is not State.REVEALED:
                    raise WrongStage(f"the misses in draw {draw_id!r} count, and it is {draw.state}: reveal it first")
            return [row async for page in store.entrants(connection, drop.id, earlier) for row in page]

    async def reveal(self, draw_id: str, beacon: BeaconValue, actor: Actor) -> Draw:
        """Publish the result and offer the prizes; without `confirm` claim them for the winners.

        Revealing again with the same value ends what was cut off. Raises `NoSuchDraw`, `WrongStage` before the close,
        `DrawInvalid` for a value that does not count or is another than the draw was revealed with, `DrawAltered`.
        """
        found = await self._kept(draw_id)
        if found.draw.state not in (State.CLOSED, State.REVEALED):
            raise _wrong_stage(found.draw, "reveal", State.CLOSED)
        _check_seen(beacon, await self._drops.now())
        rows = found.draw.entrants or 0
        revealed = await beside(rows, packing.reveal, found.published, found.secret, beacon)
        drop = await self._drops.read(draw_id)
        prizes = await self._drops.read(prizes_id(draw_id))
        is_mine = await self._publish(drop, prizes, revealed, beacon, actor)
        if not is_mine and found.draw.state is State.CLOSED:
            return await self.reveal(draw_id, beacon, actor)  # somebody else was quicker: was it the same value?
        await self.awarding.open(draw_id, actor)
        return await self.read(draw_id)

    async def _publish(
        self, drop: Drop, prizes: Drop, revealed: packing.Revealed, beacon: BeaconValue, actor: Actor
    ) -> bool:
        """Write the result down, if it is not there yet; whether this was it."""
        at = await self._drops.now()
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            draw = _known(await store.find(connection, drop.id, for_update=True), drop.id)
            if draw.state is not State.CLOSED:
                return False
            await store.reveal(connection, drop.id, revealed.published.document, at)
            places: list[tuple[str, str | None]] = [(entrant, prize) for entrant, prize in revealed.winners]
            places += [(entrant, None) for entrant in revealed.waiting]
            until = confirm_by(rules_of(drop.spec), at, prizes.spec.closes_at)
            await store.award(connection, drop.id, places, at, until)
            awards = await store.awards_of(connection, drop.id)
            after = {"state": str(State.REVEALED), "round": beacon.round, "value": beacon.value}
            after |= {"winners": len(revealed.winners), "waiting": len(revealed.waiting)}
            await _record(connection, drop.id, "reveal", actor, before=_state(draw), after=after)
            await notices.announce(connection, [Event("draw-revealed", f"draw:{drop.id}", {"round": beacon.round})])
            await notices.tell(connection, messages_for(drop.spec, awards))
        return True

    async def void(self, draw_id: str, actor: Actor, reason: str) -> Draw:
        """End a draw that can have no result: no round had a value, or entries were closed too late.

        Raises `NoSuchDraw`, `WrongStage` while a result is possible, and for a draw that is revealed.
        """
        drop = await self._drops.read(draw_id)
        rounds, now = rules_of(drop.spec).beacon.rounds, await self._drops.now()
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            draw = _known(await store.find(connection, draw_id, for_update=True), draw_id)
            if draw.state is State.VOID:
                return draw
            until = rounds[0].due_at if draw.state is State.COMMITTED else rounds[-1].wait_until
            if draw.state is State.REVEALED or now <= until:
                raise WrongStage(
                    f"draw {draw_id!r} is {draw.state}: it can be void after {until.isoformat()}, without result"
                )
            await store.void(connection, draw_id)
            after = {"state": str(State.VOID)}
            await _record(connection, draw_id, "void", actor, before=_state(draw), after=after, reason=reason)
        return await self.read(draw_id)

    async def give_points(self, draw_id: str, points: Mapping[str, int], actor: Actor) -> None:
        """Write down points by subject, over those that were there; raises `WrongStage` once entries are closed."""
        for subject, value in points.items():
            if not 0 <= value < 2**31:
                raise PointsInvalid(f"points: {value} of {subject[:64]!r} is not from 0 to {2**31 - 1}", field="points")
        async with self._stores.ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            draw = _known(await store.find(connection, draw_id, for_update=True), draw_id)
            if draw.state is not State.COMMITTED:
                raise _wrong_stage(draw, "points", State.COMMITTED)
            await store.put_points(connection, draw_id, points)
            listed = "".join(f"{subject}\0{value}\n" for subject, value in sorted(points.items()))
            after = {"people": len(points), "sha256": hashlib.sha256(listed.encode()).hexdigest()}
            await _record(connection, draw_id, "points", actor, before=None, after=after)

    async def results(self, draw_id: str, after: int, limit: int) -> tuple[Draw, dict[str, int], list[Award]]:
        """A draw, how many of its awards are in each state, and a page of them from the one after a place on."""
        draw = await self.read(draw_id)
        async with self._stores.ledger.connect() as connection:
            counts = await store.counts(connection, draw_id)
            return draw, counts, await store.awards_of(connection, draw_id, after, limit)

    async def document(self, draw_id: str) -> tuple[Draw, bytes]:
        """What is published of a draw, as gzipped JSON; never with the secret before the reveal."""
        await self.read(draw_id)
        async with self._stores.ledger.connect() as connection:
            found = await store.document(connection, draw_id)
        if found is None:
            raise _no_such(draw_id)
        return found

    async def proof(self, draw_id: str, entrant: str) -> Json:
        """An entry's inclusion proof; raises `NoSuchDraw`, `WrongStage` before the close, `DrawInvalid`."""
        draw = await self.read(draw_id)
        if draw.root is None:
            raise _wrong_stage(draw, "proof", State.CLOSED)
        async with self._stores.ledger.connect() as connection:
            page = await store.page_of(connection, draw_id, entrant)
            roots = await store.roots(connection, draw_id)
        if page is None:
            raise publication.DrawInvalid(f"{entrant[:80]!r} is not among the entrants", field="entrant")
        head = {"draw": draw_id, "commitment": draw.commitment, "count": draw.entrants, "root": draw.root}
        return packing.proof(head, page[0], page[1].entries, roots, entrant)

    async def proof_for(self, draw_id: str, member_id: str) -> Json:
        """The inclusion proof of a member's own entry; raises as `proof` does."""
        await self.read(draw_id)
        async with self._stores.ledger.connect() as connection:
            entries = await store.entry_of(connection, draw_id, member_id)
        for entrant in entries[:-1]:
            try:
                return await self.proof(draw_id, entrant)
            except publication.DrawInvalid:
                continue  # it was given back, and another one made
        return await self.proof(draw_id, entries[-1] if entries else "")

    async def _check_prizes_name(self, drop: Drop) -> None:
        wanted = prizes_spec(drop.spec)
        try:
            there = await self._drops.read(wanted.id)
        except NoSuchDrop:
            return
        if there.spec != wanted and not await self._is_committed(drop.id):
            raise DuplicateDrop(f"there is a drop {wanted.id!r} already: choose another id", drop_id=wanted.id)

    async def _is_committed(self, draw_id: str) -> bool:
        async with self._stores.ledger.connect() as connection:
            return await store.find(connection, draw_id) is not None

    async def _create_prizes(self, drop: Drop, actor: Actor) -> None:
        try:
            await self._drops.create(prizes_spec(drop.spec), Actor(actor.member_id))
        except DuplicateDrop:
            return  # made by the attempt before, or by somebody at the same moment

    async def _kept(self, draw_id: str) -> Kept:
        await self.read(draw_id)
        async with self._stores.ledger.connect() as connection:
            found = await store.kept(connection, draw_id)
        if found is None:
            raise _no_such(draw_id)
        return found


async def _record(
    connection: AsyncConnection,
    draw_id: str,
    verb: str,
    actor: Actor,
    *,
    before: Mapping[str, object] | None,
    after: Mapping[str, object],
    reason: str = "",
) -> None:
    change = {"reason": reason} if reason else {}
    await actions.record(
        connection, f"draw:{draw_id}", verb, actor.member_id, change=change, before=before, after=after
    )


def _check_seen(beacon: BeaconValue, now: datetime) -> None:
    if beacon.seen_at.tzinfo is None or beacon.seen_at > now.astimezone(UTC):
        raise publication.DrawInvalid(f"seen_at: {beacon.seen_at.isoformat()} has not come yet", field="seen_at")
    if not 0 <= beacon.round <= NUMBER_MAX:
        raise publication.DrawInvalid(f"round: {beacon.round} is none", field="round")


def _state(draw: Draw) -> dict[str, object]:
    return {"state": str(draw.state)}


def _known(found: Draw | None, draw_id: str) -> Draw:
    if found is None:
        raise _no_such(draw_id)
    return found


def _no_such(draw_id: str) -> NoSuchDraw:
    return NoSuchDraw(f"there is no draw {draw_id[:80]!r}, or it is not committed to yet", draw_id=draw_id[:80])


def _not_void(draw: Draw, act: str) -> Draw:
    if draw.state is State.VOID:
        raise _wrong_stage(draw, act, State.COMMITTED)
    return draw


def _wrong_stage(draw: Draw, act: str, needed: State) -> WrongStage:
    return WrongStage(
        f"draw {draw.drop_id!r} is {draw.state}: {act} needs it to be {needed}",
        stage=str(draw.state),
        needed=str(needed),
    )
