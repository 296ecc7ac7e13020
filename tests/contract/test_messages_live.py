"""The promise: a member hears what they are told as it is told, goes on where they were, and waits for nobody."""

import asyncio
import json
import socket
from typing import Any

import pytest
from fastapi import routing

from api import gate as gates
from engine.bounds import STREAMS_PER_MEMBER_MAX
from engine.notices import feed as feeds
from engine.runtime.connections import Stores
from tests.contract.conftest import Start
from tests.contract.front import Front
from tests.contract.line import Line, request
from tests.engine.notices.test_store import message, tell

PATH = "/v1/me/messages/live"
SOON_S = 1.5


class Listener:
    """A client that listens."""

    def __init__(self, front: Front, line: Line) -> None:
        self._front = front
        self.line = line

    async def begin(self, seen: int | None = None, member: str = "m-1", query: str = "") -> None:
        headers = [self._front.bearer(member)]
        headers += [] if seen is None else [("Last-Event-ID", str(seen))]
        await self.line.send(request("GET", f"{PATH}{query}", headers))
        async with asyncio.timeout(5):
            head = await self.line._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert b"\r\ncontent-type: text/event-stream" in head

    async def event(self, within_s: float = SOON_S) -> dict[str, str]:
        """The next event by its fields; a comment is the field ''."""
        async with asyncio.timeout(within_s):
            size = int(await self.line._reader.readline(), 16)
            block = (await self.line._reader.readexactly(size + 2))[:-2].decode()
        pairs = (line.partition(":") for line in block.strip().split("\n"))
        return {name: value.strip() for name, _, value in pairs}

    async def ids(self, count: int) -> list[int]:
        return [int((await self.event())["id"]) for _ in range(count)]


async def listener(front: Front, seen: int | None = None, member: str = "m-1", **more: Any) -> Listener:
    found = Listener(front, await front.line())
    await found.begin(seen, member, **more)
    return found


async def test_a_message_comes_with_its_number_and_both_texts(front: Front, stores: Stores) -> None:
    one, other = await listener(front, query="?lang=en"), await listener(front, member="m-2")
    await tell(stores.ledger, message())
    event = await one.event()
    assert (event["event"], event["id"]) == ("message", "1")
    told = json.loads(event["data"])
    assert told["text"] == told["texts"]["en"]
    with pytest.raises(TimeoutError):
        await other.event(0.5)


async def test_a_client_goes_on_behind_what_it_saw(front: Front, stores: Stores) -> None:
    await tell(stores.ledger, *(message(once=str(number)) for number in range(4)))
    assert await (await listener(front, 2)).ids(2) == [3, 4]
    assert await (await listener(front, query="?after=3")).ids(1) == [4]
    assert await (await listener(front, 1, query="?after=3")).ids(3) == [2, 3, 4]


async def test_a_client_that_breaks_off_and_comes_again_misses_nothing(front: Front, stores: Stores) -> None:
    found: list[int] = []
    for number in range(1, 9):
        hearing = await listener(front, found[-1] if found else 0)
        await tell(stores.ledger, message(once=f"{number}-a"), message(once=f"{number}-b"))
        found += await hearing.ids(1 + number % 2)
        hearing.line.vanish()
    found += await (await listener(front, found[-1])).ids(16 - len(found))
    assert found == list(range(1, 17))


async def test_silence_is_kept_alive(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_PING_INTERVAL", 0.2)
    hearing = await listener(front)
    assert [await hearing.event(), await hearing.event()] == [{"": "ping"}] * 2


async def test_a_stream_ends_after_its_time_and_the_line_goes_on(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "STREAM_S_MAX", 0.2)
    hearing = await listener(front)
    async with asyncio.timeout(5):
        assert await hearing.line._reader.readexactly(5) == b"0\r\n\r\n"
    assert (await hearing.line.ask(request("GET", "/healthz"), "GET")).status == 200


async def test_too_many_streams_are_refused_and_a_place_is_free_when_one_ends(front: Front) -> None:
    hearing = [await listener(front) for _ in range(STREAMS_PER_MEMBER_MAX)]
    refused = await front.ask(request("GET", PATH, [front.bearer()]), "GET")
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "too-many-streams", "5")
    await listener(front, member="m-2")
    hearing.pop().line.vanish()
    async with asyncio.timeout(5):
        while len(front.app.state.services.feed._streams) > STREAMS_PER_MEMBER_MAX:  # noqa: ASYNC110 (of m-2 too)
            await asyncio.sleep(0.02)
    await listener(front)


async def test_who_is_not_signed_in_hears_nothing(front: Front) -> None:
    for headers in ([], [("Authorization", "Bearer x.y.z")], [("Authorization", "Ticket abc")]):
        answer = await front.ask(request("GET", PATH, headers), "GET")
        assert (answer.status, answer.code) == (401, "session-invalid")
    assert front.app.state.services.feed._streams == []


@pytest.mark.parametrize("start", ["gate"], indirect=True)
async def test_a_reader_that_takes_nothing_is_cut_off(
    start: Start, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the gate; uvicorn alone would wait for it for ever."""
    front = await start()
    monkeypatch.setattr(gates, "UNREAD_S_MAX", 0.5)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(0)
    await front.loop.sock_connect(client, ("127.0.0.1", front.port))
    slow = Listener(front, await front.line(sock=client, limit=1_024))
    server_side = front.protocol(slow.line).transport.get_extra_info("socket")
    server_side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    await slow.begin(0)
    quick = await listener(front, member="m-2")
    long = "鹅" * 600
    async with asyncio.timeout(20):
        number = 0
        while front.app.state.services.feed._streams[0].member_id == "m-1":
            await tell(stores.ledger, *(message(once=f"{number}-{i}", long=long) for i in range(10)))
            number += 1
            await asyncio.sleep(0.2)
    await tell(stores.ledger, message("m-2"))
    assert await quick.ids(1) == [1]
