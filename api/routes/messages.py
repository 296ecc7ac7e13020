"""Messages: what a member was told, the newest first, and live as it is told. Each one's own alone."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.deps import PageLimit, ServicesDep, SessionDep
from api.examples import MESSAGE
from api.openapi import SIGNED_IN, declared, shown
from engine.bounds import LEDGER_LOCK_TIMEOUT, MESSAGES_KEPT_MAX
from engine.ledger import migrations
from engine.notices import store
from engine.notices.feed import Stream
from engine.notices.model import Language, NoSuchMessage, Received, language

router = APIRouter(prefix="/v1/me/messages", tags=["messages"], responses=declared(*SIGNED_IN, "invalid"))
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="The message's number in the session's own inbox")]
Seen = Annotated[int | None, Query(ge=0, le=2**31 - 1)]


async def spoken(
    lang: Annotated[Language | None, Query(description="Of `text`; before Accept-Language")] = None,
    accept_language: Annotated[str, Header()] = "",
) -> Language:
    """In which language a message's `text` is; its `texts` have both."""
    return lang or language(accept_language)


Spoken = Annotated[Language, Depends(spoken)]


@router.get(
    "", responses={200: shown({"messages": [MESSAGE], "unread": 1, "next": None}, "A page, the newest message first")}
)
async def listed(
    use: ServicesDep, session: SessionDep, lang: Spoken, after: Seen = None, limit: PageLimit = 50
) -> dict[str, Any]:
    """The session's own messages, the newest first; `after` is the `next` of the page before.

    The newest 200 are kept.
    """
    async with use.stores.ledger.connect() as connection:
        found = await store.page(connection, session.member_id, after, limit)
        unread = await store.unread(connection, session.member_id)
    page = [_shown(received, lang) for received in found]
    return {"messages": page, "unread": unread, "next": found[-1].number if len(found) == limit else None}


@router.post("/read", responses={200: shown({"read": 3, "unread": 0}, "How many were not read, and still are not")})
async def read_until(
    use: ServicesDep,
    session: SessionDep,
    until: Annotated[int, Query(ge=1, le=2**31 - 1, description="The newest message that was seen")],
) -> dict[str, int]:
    """Mark a message and all before it as read; not those that came since."""
    async with use.stores.ledger.begin() as connection:
        await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
        count = await store.read_until(connection, session.member_id, until)
        unread = await store.unread(connection, session.member_id)
    return {"read": count, "unread": unread}


@router.post(
    "/{number}/read",
    responses={
        200: shown({"id": 7, "read_at": "2025-06-15T01:00:00Z"}, "When it was first read"),
        **declared("no-such-message"),
    },
)
async def read(number: Number, use: ServicesDep, session: SessionDep) -> dict[str, Any]:
    """Mark a message as read; the first time counts."""
    async with use.stores.ledger.begin() as connection:
        await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
        read_at = await store.read(connection, session.member_id, number)
    if read_at is None:
        raise NoSuchMessage(f"your inbox has no message {number}: the newest {MESSAGES_KEPT_MAX} are kept")
    return {"id": number, "read_at": read_at}


async def listening(
    use: ServicesDep,
    session: SessionDep,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**31 - 1, description="The newest seen")] = None,
    after: Annotated[Seen, Query(description="The same, where there is no Last-Event-ID")] = None,
) -> AsyncIterator[Stream]:
    """The session's stream, opened before the answer begins, for an answer that has begun can't refuse any more."""
    async with use.feed.stream(session.member_id, after if last_event_id is None else last_event_id) as stream:
        yield stream


@router.get("/live", response_class=EventSourceResponse, responses=declared("too-many-streams"))
async def live(stream: Annotated[Stream, Depends(listening)], lang: Spoken) -> AsyncIterator[ServerSentEvent]:
    """The session's messages as server-sent events `message`, each with its number as id, as they are told.

    A client that comes again says with `Last-Event-ID` which one it saw last: it gets all behind it, each once. One
    that knows none gets those to come. A stream ends after a quarter of an hour: come again, with a session that holds.
    """
    async for received in stream.received():
        yield ServerSentEvent(event="message", id=str(received.number), data=_shown(received, lang))


def _shown(received: Received, lang: Language) -> dict[str, Any]:
    return {
        "id": received.number,
        "kind": received.kind,
        "text": received.texts[lang],
        "texts": received.texts,
        "facts": received.facts,
        "created_at": received.created_at,
        "read_at": received.read_at,
    }
