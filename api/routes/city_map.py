"""The map of a drop: which towns are lit, by units that count for a town or a slogan; at a moment, and live."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from typing import Annotated, Any, ClassVar, NamedTuple

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.deps import Services, ServicesDep
from api.examples import MAP
from api.openapi import declared, shown
from api.routes.drops import PUBLIC, SHOWN, ShownDrop
from engine.bounds import MAP_EVERY_S, MAP_WATCHERS_MAX
from engine.drops.model import Drop
from engine.errors import Unavailable

router = APIRouter(prefix="/v1/drops", tags=["drops"], responses=declared("invalid", "too-large"))


class TooManyWatchers(Unavailable):
    """As many watch maps at this process as it has room for."""

    code: ClassVar[str] = "too-many-watchers"


class _Seen(NamedTuple):
    """A map as it is sent, and its event's id: the same map has the same one, whichever process tells it."""

    id: str
    text: str


class MapFeed:
    """The map of each drop, read from the store once an interval however many watch; `watchers` is how many do."""

    def __init__(self) -> None:
        self.watchers = 0
        self._looks: dict[str, tuple[float, asyncio.Future[_Seen]]] = {}

    async def newest(self, use: Services, drop: Drop) -> _Seen:
        """The map, at most an interval old; raises `StoreUnavailable`."""
        look = self._looks.get(drop.id)
        if look is None or time.monotonic() - look[0] >= MAP_EVERY_S:
            look = self._looks[drop.id] = time.monotonic(), asyncio.ensure_future(_look(use, drop))
        return await asyncio.shield(look[1])


async def _look(use: Services, drop: Drop) -> _Seen:
    text = json.dumps(asdict(await use.drops.city_map(drop, use.settings.towns)), ensure_ascii=False)
    return _Seen(blake2b(text.encode(), digest_size=8).hexdigest(), text)


async def map_feed(request: Request, _: ShownDrop) -> AsyncIterator[MapFeed]:
    """The feed with a place in it, which is given back when the answer has ended."""
    feed: MapFeed = request.app.state.maps
    if feed.watchers >= MAP_WATCHERS_MAX:
        raise TooManyWatchers(
            f"{MAP_WATCHERS_MAX} watch maps at this process already: try again, or read the map at times",
            retry_after_s=10,
        )
    feed.watchers += 1
    try:
        yield feed
    finally:
        feed.watchers -= 1


@router.get(
    "/{drop_id}/map",
    responses={200: shown(MAP, "The map"), **SHOWN, **declared("store-unavailable")},
    openapi_extra=PUBLIC,
)
async def read(drop: ShownDrop, use: ServicesDep) -> dict[str, Any]:
    """Units that count for each town and slogan, claims that were given back left out. Anybody may read it."""
    return asdict(await use.drops.city_map(drop, use.settings.towns))


@router.get(
    "/{drop_id}/map/live",
    response_class=EventSourceResponse,
    responses={**SHOWN, **declared("too-many-watchers")},
    openapi_extra=PUBLIC,
)
async def live(
    drop: ShownDrop,
    use: ServicesDep,
    feed: Annotated[MapFeed, Depends(map_feed)],
    last_event_id: Annotated[str | None, Header(max_length=64, description="The id of the map you have")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """The map as server-sent events: `map` at once and whenever it has changed, looked at once a second.

    Who comes back with `Last-Event-ID` is sent nothing before the map is another one. `unavailable` says once that the
    store cannot be asked.
    """
    sent = last_event_id
    while not use.ending.is_set():
        try:
            seen = await feed.newest(use, drop)
            if seen.id != sent:
                yield ServerSentEvent(event="map", id=seen.id, raw_data=seen.text)
            sent = seen.id
        except Unavailable as error:
            if sent != error.code:
                yield ServerSentEvent(event="unavailable", data={"code": error.code, "detail": error.detail})
            sent = error.code
        with suppress(TimeoutError):
            await asyncio.wait_for(use.ending.wait(), MAP_EVERY_S)
