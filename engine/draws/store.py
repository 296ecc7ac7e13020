"""The ledger's side of draws: what was published, who is offered which prize."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, case, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.draws.model import Award, AwardState, Draw, State, prizes_id
from engine.draws.packing import Closed, Page, Published
from engine.ids import ClaimId
from engine.ledger.schema import awards, claims, draw_pages, draw_points, draws

ENTRANTS_ROWS = 20_000  # of a page
_DRAW = (
    draws.c.drop_id,
    draws.c.state,
    draws.c.commitment,
    draws.c.root,
    draws.c.entrants,
    draws.c.committed_at,
    draws.c.closed_at,
    draws.c.revealed_at,
)
_AWARD = tuple(awards.c[name] for name in Award._fields)

# Claims that were not given back, of each person the first (primary key). Misses: of the earlier draws, those that the
# person entered and holds no prize of.
_ENTRANTS = text(
    """
    with entries as (
        select distinct on (subject) subject, partition, serial from claims
        where drop_id = :draw_id and released_at is null
        order by subject, partition, serial
    ), missed as (
        select entered.subject, count(*) as misses from (
            select distinct drop_id, subject from claims where drop_id = any(:earlier) and released_at is null
        ) as entered
        where not exists (
            select from awards
            where draw_id = entered.drop_id and subject = entered.subject and state in ('offered', 'claimed')
        )
        group by entered.subject
    )
    select entries.partition, entries.serial, coalesce(missed.misses, 0), coalesce(draw_points.points, 0)
    from entries
    left join missed on missed.subject = entries.subject
    left join draw_points on draw_points.draw_id = :draw_id and draw_points.subject = entries.subject
    """
)

# The places of a result, each with the member who made its entry (primary key of claims).
_AWARDED = text(
    """
    insert into awards (draw_id, place, entrant, member_id, subject, prize, state, offered_at, confirm_by, changed_at)
    select :draw_id, places.place, places.entrant, claims.member_id, claims.subject, places.prize,
        case when places.prize is null then 'waiting' else 'offered' end,
        case when places.prize is not null then cast(:at as timestamptz) end,
        case when places.prize is not null then cast(:confirm_by as timestamptz) end, :at
    from unnest(cast(:places as int[]), cast(:entrants as text[]), cast(:partitions as int[]), cast(:serials as int[]),
        cast(:prizes as text[])) as places (place, entrant, partition, serial, prize)
    join claims on claims.drop_id = :draw_id and claims.partition = places.partition and claims.serial = places.serial
    """
)

# A prize's claim in the ledger decides, also where its member declined with a ticket in hand.
_MARK_CLAIMED = text(
    """
    update awards set state = 'claimed', changed_at = claims.claimed_at from claims
    where claims.drop_id = :prizes_id and claims.subject = awards.subject and claims.released_at is null
        and awards.draw_id = :draw_id and awards.state in ('offered', 'declined')
    returning awards.place
    """
)

# Whoever gave the entry back is out: by the id of the claim that is the entry.
_MARK_GIVEN_BACK = text(
    """
    update awards set state = 'declined', confirm_by = greatest(ticket_until, :now), changed_at = :now from claims
    where claims.drop_id = :draw_id and claims.released_at is not null
        and awards.entrant = claims.drop_id || '.' || claims.partition || '.' || claims.serial
        and awards.draw_id = :draw_id and awards.state in ('offered', 'waiting')
    returning awards.place
    """
)


def _state(draw_id: str) -> ColumnElement[str]:
    """An award is claimed as soon as its prize's claim is in the ledger, also before that is noted."""
    holders = select(claims.c.subject).where(claims.c.drop_id == prizes_id(draw_id), claims.c.released_at.is_(None))
    may_be = awards.c.state.in_((str(AwardState.OFFERED), str(AwardState.DECLINED)))
    return case((may_be & awards.c.subject.in_(holders), str(AwardState.CLAIMED)), else_=awards.c.state).label("state")


def _shown(draw_id: str) -> Select[Any]:
    columns = (_state(draw_id) if name == "state" else awards.c[name] for name in Award._fields)
    return select(*columns).where(awards.c.draw_id == draw_id)


class Kept(NamedTuple):
    """A draw with what is not everybody's: its document as packed, and its secret."""

    draw: Draw
    published: Published
    secret: bytes

    def __repr__(self) -> str:
        return f"Kept({self.draw.drop_id}, {self.draw.state})"


async def find(connection: AsyncConnection, draw_id: str, *, for_update: bool = False) -> Draw | None:
    """A draw, or None. `for_update` holds its row, so that its steps follow each other."""
    query = select(*_DRAW).where(draws.c.drop_id == draw_id)
    row = (await connection.execute(query.with_for_update() if for_update else query)).one_or_none()
    return None if row is None else _draw(row)


async def kept(connection: AsyncConnection, draw_id: str) -> Kept | None:
    """A draw with document and secret, or None."""
    query = select(*_DRAW, draws.c.document, draws.c.secret).where(draws.c.drop_id == draw_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    return Kept(_draw(row[:-2]), Published(row.document, row.commitment, row.root), row.secret)


async def document(connection: AsyncConnection, draw_id: str) -> tuple[Draw, bytes] | None:
    """A draw and what was published of it, as packed."""
    rows = await connection.execute(select(*_DRAW, draws.c.document).where(draws.c.drop_id == draw_id))
    row = rows.one_or_none()
    return None if row is None else (_draw(row[:-1]), row.document)


async def commit(connection: AsyncConnection, draw_id: str, published: Published, secret: bytes, at: datetime) -> None:
    row = {"drop_id": draw_id, "state": str(State.COMMITTED), "secret": secret, "committed_at": at}
    await connection.execute(
        insert(draws).values(row | {"document": published.document, "commitment": published.commitment})
    )


async def close(connection: AsyncConnection, draw_id: str, closed: Closed, at: datetime) -> None:
    (document, _, root), count, pages = closed
    await _set(
        connection,
        draw_id,
        State.CLOSED,
        document=document,
        root=root,
        entrants=count,
        closed_at=at,
    )
    rows = [{"draw_id": draw_id, "number": number, **page._asdict()} for number, page in enumerate(pages)]
    if rows:
        await connection.execute(insert(draw_pages), rows)


async def reveal(connection: AsyncConnection, draw_id: str, packed: bytes, at: datetime) -> None:
    await _set(connection, draw_id, State.REVEALED, document=packed, revealed_at=at)


async def void(connection: AsyncConnection, draw_id: str) -> None:
    await _set(connection, draw_id, State.VOID)


async def _set(connection: AsyncConnection, draw_id: str, state: State, **values: object) -> None:
    await connection.execute(update(draws).where(draws.c.drop_id == draw_id).values(state=str(state), **values))


async def put_points(connection: AsyncConnection, draw_id: str, points: Mapping[str, int]) -> None:
    """Write down points by subject, over what was there."""
    rows = [{"draw_id": draw_id, "subject": subject, "points": value} for subject, value in points.items()]
    for at in range(0, len(rows), 10_000):
        query = upsert(draw_points).values(rows[at : at + 10_000])
        await connection.execute(
            query.on_conflict_do_update(index_elements=["draw_id", "subject"], set_={"points": query.excluded.points})
        )


async def entrants(
    connection: AsyncConnection, draw_id: str, earlier: Sequence[str]
) -> AsyncIterator[list[tuple[str, int, int]]]:
    """Everybody who is in the draw, in pages: the entry's name, misses in earlier draws, and points."""
    rows = await connection.stream(
        _ENTRANTS.execution_options(yield_per=ENTRANTS_ROWS), {"draw_id": draw_id, "earlier": list(earlier)}
    )
    async for page in rows.partitions():
        yield [(f"{draw_id}.{partition}.{serial}", misses, points) for partition, serial, misses, points in page]


async def award(
    connection: AsyncConnection,
    draw_id: str,
    places: Sequence[tuple[str, str | None]],
    at: datetime,
    confirm_by: datetime,
) -> None:
    """Write down a result: entrants in the order drawn, each with a prize or, on the waiting list, none."""
    ids = [ClaimId.parse(entrant) for entrant, _ in places]
    await connection.execute(
        _AWARDED,
        {
            "draw_id": draw_id,
            "at": at,
            "confirm_by": confirm_by,
            "places": list(range(1, len(places) + 1)),
            "entrants": [entrant for entrant, _ in places],
            "partitions": [found.partition for found in ids],
            "serials": [found.serial for found in ids],
            "prizes": [prize for _, prize in places],
        },
    )


async def awards_of(connection: AsyncConnection, draw_id: str, after: int = 0, limit: int | None = None) -> list[Award]:
    """A draw's awards in the order drawn, from the one after a place on (primary key)."""
    query = _shown(draw_id).where(awards.c.place > after)
    return [_award(row) for row in await connection.execute(query.order_by(awards.c.place).limit(limit))]


async def awards_to(connection: AsyncConnection, subject: str, limit: int) -> list[Award]:
    """What a person won or waits for, the newest first (index `awards_subject_idx`, then the unique key)."""
    query = select(awards.c.draw_id).where(awards.c.subject == subject)
    drawn = list(await connection.scalars(query.order_by(awards.c.changed_at.desc()).limit(limit)))
    found = [await award_to(connection, draw_id, subject) for draw_id in drawn]
    return [award for award in found if award is not None]


async def award_to(connection: AsyncConnection, draw_id: str, subject: str) -> Award | None:
    """A person's place in a draw (unique key), or None."""
    row = (await connection.execute(_shown(draw_id).where(awards.c.subject == subject))).one_or_none()
    return None if row is None else _award(row)


async def take_ticket(
    connection: AsyncConnection, draw_id: str, subject: str, now: datetime, until: datetime
) -> Award | None:
    """The award that is offered to a person now, with the note that a ticket for it may be shown until then."""
    last = func.least(awards.c.confirm_by, until)
    query = (
        update(awards)
        .where(awards.c.draw_id == draw_id, awards.c.subject == subject, awards.c.state == str(AwardState.OFFERED))
        .where(awards.c.confirm_by > now)
        .values(ticket_until=func.greatest(awards.c.ticket_until, last))
        .returning(*_AWARD)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _award(row)


async def decline(connection: AsyncConnection, draw_id: str, subject: str, now: datetime) -> bool:
    """Note that a person wants nothing; a ticket that is out may still be shown until it expires."""
    query = (
        update(awards)
        .where(awards.c.draw_id == draw_id, awards.c.subject == subject)
        .where(awards.c.state.in_((str(AwardState.OFFERED), str(AwardState.WAITING))))
        .values(state=str(AwardState.DECLINED), confirm_by=func.greatest(awards.c.ticket_until, now), changed_at=now)
    )
    return (await connection.execute(query)).rowcount > 0


async def mark_claimed(connection: AsyncConnection, draw_id: str) -> list[int]:
    """Awards whose prizes' claims are in the ledger are claimed; the places that are so now."""
    return list(await connection.scalars(_MARK_CLAIMED, {"draw_id": draw_id, "prizes_id": prizes_id(draw_id)}))


async def mark_given_back(connection: AsyncConnection, draw_id: str, now: datetime) -> list[int]:
    """Awards whose entries were given back are declined; the places that are so now."""
    return list(await connection.scalars(_MARK_GIVEN_BACK, {"draw_id": draw_id, "now": now}))


async def mark_lapsed(connection: AsyncConnection, draw_id: str, now: datetime) -> list[int]:
    """Offers whose time is over lapse; the places that do so now."""
    query = (
        update(awards)
        .where(awards.c.draw_id == draw_id, awards.c.state == str(AwardState.OFFERED), awards.c.confirm_by <= now)
        .values(state=str(AwardState.LAPSED), changed_at=now)
        .returning(awards.c.place)
    )
    return list(await connection.scalars(query))


async def held(connection: AsyncConnection, draw_id: str, now: datetime) -> dict[str, int]:
    """How many units of each prize are claimed, or may still be."""
    may_be = (awards.c.state == str(AwardState.DECLINED)) & (awards.c.confirm_by > now)
    is_held = awards.c.state.in_((str(AwardState.OFFERED), str(AwardState.CLAIMED))) | may_be
    query = (
        select(awards.c.prize, func.count())
        .where(awards.c.draw_id == draw_id, awards.c.prize.is_not(None), is_held)
        .group_by(awards.c.prize)
    )
    return {prize: count for prize, count in await connection.execute(query)}  # noqa: C416 (rows are no pairs)


async def waiting(connection: AsyncConnection, draw_id: str) -> list[int]:
    """The places that wait, in order."""
    query = select(awards.c.place).where(awards.c.draw_id == draw_id, awards.c.state == str(AwardState.WAITING))
    return list(await connection.scalars(query.order_by(awards.c.place)))


async def offer(
    connection: AsyncConnection, draw_id: str, offers: Sequence[tuple[int, str]], at: datetime, confirm_by: datetime
) -> None:
    """Offer prizes to places that waited."""
    await connection.execute(
        text(
            """
            update awards set state = 'offered', prize = offers.prize, offered_at = :at, confirm_by = :confirm_by,
                changed_at = :at
            from unnest(cast(:places as int[]), cast(:prizes as text[])) as offers (place, prize)
            where awards.draw_id = :draw_id and awards.place = offers.place
            """
        ),
        {
            "draw_id": draw_id,
            "at": at,
            "confirm_by": confirm_by,
            "places": [place for place, _ in offers],
            "prizes": [prize for _, prize in offers],
        },
    )


async def counts(connection: AsyncConnection, draw_id: str) -> dict[str, int]:
    """How many awards are in each state."""
    now = select(_state(draw_id)).where(awards.c.draw_id == draw_id).subquery()
    rows = await connection.execute(select(now.c.state, func.count()).group_by(now.c.state))
    return {state: count for state, count in rows}  # noqa: C416


async def page_of(connection: AsyncConnection, draw_id: str, entrant: str) -> tuple[int, Page] | None:
    """The page of a closed draw's entries that an entrant would be on, and its number."""
    query = (
        select(draw_pages)
        .where(draw_pages.c.draw_id == draw_id, draw_pages.c.first <= entrant)
        .order_by(draw_pages.c.first.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row.number, Page(row.first, row.root, row.entries))


async def roots(connection: AsyncConnection, draw_id: str) -> list[bytes]:
    """The roots of all pages, in order."""
    query = select(draw_pages.c.root).where(draw_pages.c.draw_id == draw_id).order_by(draw_pages.c.number)
    return list(await connection.scalars(query))


async def entry_of(connection: AsyncConnection, draw_id: str, member_id: str) -> list[str]:
    """The names of a member's entries (index `claims_ticket_key`), given-back ones too."""
    rows = await connection.execute(
        text("select partition, serial from claims where member_id = :member_id and drop_id = :draw_id"),
        {"member_id": member_id, "draw_id": draw_id},
    )
    return [f"{draw_id}.{partition}.{serial}" for partition, serial in rows]


def _draw(row: Sequence[Any]) -> Draw:
    drop_id, state, *rest = row
    return Draw(drop_id, State(state), *rest)


def _award(row: Row[Any]) -> Award:
    return Award._make(row)._replace(state=AwardState(row.state))
