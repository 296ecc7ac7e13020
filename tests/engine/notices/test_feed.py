"""The promise: who listens hears each message once and in order, whatever happens to the line, and holds up nobody."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.bounds import STREAM_QUEUE_MAX, STREAMS_PER_MEMBER_MAX
from engine.notices import feed as feeds
from engine.notices import store
from engine.notices.feed import Feed, Stream
from engine.notices.model import TooManyStreams
from tests.engine.notices.test_store import message, tell

SOON_S = 1.0  # what PostgreSQL says comes at once: long before anybody would look by themselves


@asynccontextmanager
async def serving(ledger: AsyncEngine) -> AsyncIterator[Feed]:
    """A feed that serves; it has begun to listen."""
    feed, stop = Feed(ledger), asyncio.Event()
    running = asyncio.create_task(feed.run(stop))
    try:
        yield feed
    finally:
        stop.set()
        await asyncio.wait_for(running, 5)


@pytest.fixture
async def feed(ledger: AsyncEngine) -> AsyncIterator[Feed]:
    async with serving(ledger) as found:
        yield found


async def heard(stream: Stream, count: int, within_s: float = 5.0) -> list[int]:
    """The numbers of the next messages."""
    found: list[int] = []
    async with asyncio.timeout(within_s):
        async for received in stream.received():
            found.append(received.number)
            if len(found) == count:
                break
    return found


async def until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 (a stream tells nobody how full it is)
            await asyncio.sleep(0.01)


async def test_what_is_told_is_heard_at_once_and_by_its_member_alone(feed: Feed, ledger: AsyncEngine) -> None:
    async with feed.stream("m-1", None) as one, feed.stream("m-2", None) as other:
        await asyncio.sleep(0.3)  # the feed has looked once
        await tell(ledger, message("m-1", "a"), message("m-1", "b"), message("m-3", "c"))
        assert await heard(one, 2, SOON_S) == [1, 2]
        await tell(ledger, message("m-2", "a"))
        assert await heard(other, 1, SOON_S) == [1]
        with pytest.raises(TimeoutError):
            await heard(one, 1, 0.5)


async def test_a_stream_goes_on_behind_what_was_seen(feed: Feed, ledger: AsyncEngine) -> None:
    await tell(ledger, *(message(once=str(number)) for number in range(5)))
    async with feed.stream("m-1", 3) as resumed, feed.stream("m-1", None) as new, feed.stream("m-1", 0) as whole:
        assert await heard(resumed, 2) == [4, 5]
        assert await heard(whole, 5) == [1, 2, 3, 4, 5]
        await tell(ledger, message(once="six"))
        assert [await heard(stream, 1) for stream in (resumed, new, whole)] == [[6]] * 3


async def test_a_number_from_the_future_hides_nothing(feed: Feed, ledger: AsyncEngine) -> None:
    """The ledger was restored: the numbers that a client saw are given again."""
    await tell(ledger, message(once="a"))
    async with feed.stream("m-1", 1_000) as stream:
        await tell(ledger, message(once="b"))
        assert await heard(stream, 1) == [2]


async def test_more_than_fits_comes_all_the_same(feed: Feed, ledger: AsyncEngine) -> None:
    count = 3 * STREAM_QUEUE_MAX + 5
    await tell(ledger, *(message(once=str(number)) for number in range(count)))
    async with feed.stream("m-1", 0) as stream:
        assert await heard(stream, count, 8) == list(range(1, count + 1))


async def test_a_reader_that_is_away_for_moments_gets_each_message_once(feed: Feed, ledger: AsyncEngine) -> None:
    """It leaves after any number of messages, while others are told by two at once, and says which it saw last."""
    count, seen = 60, 0
    found: list[int] = []

    async def teller(first: int) -> None:
        for number in range(first, count, 2):
            await tell(ledger, message(once=str(number)))
            await asyncio.sleep(0.01)

    async with asyncio.timeout(30):
        telling = asyncio.gather(teller(0), teller(1))
        while len(found) < count:
            async with feed.stream("m-1", seen) as stream:
                found += await heard(stream, min(1 + seen % 7, count - len(found)))
                seen = found[-1]
        await telling
    assert found == list(range(1, count + 1))


async def test_a_slow_reader_is_ended_and_not_waited_for(
    feed: Feed, ledger: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "UNREAD_S_MAX", 0.5)
    async with feed.stream("slow", 0) as slow, feed.stream("m-1", 0) as quick:
        await tell(ledger, *(message("slow", str(number)) for number in range(2 * STREAM_QUEUE_MAX)))
        await until(lambda: slow.number == STREAM_QUEUE_MAX)
        await tell(ledger, message("m-1"))
        assert await heard(quick, 1, SOON_S) == [1]
        await until(lambda: slow.is_over)
        # What lay there comes still, then the stream ends: the rest is asked for by the next one.
        assert [received.number async for received in slow.received()] == list(range(1, STREAM_QUEUE_MAX + 1))
    async with feed.stream("slow", STREAM_QUEUE_MAX) as again:
        assert await heard(again, STREAM_QUEUE_MAX) == list(range(STREAM_QUEUE_MAX + 1, 2 * STREAM_QUEUE_MAX + 1))


async def test_a_stream_has_its_time(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "STREAM_S_MAX", 0.2)
    async with asyncio.timeout(2), feed.stream("m-1", None) as stream:
        assert [received async for received in stream.received()] == []


class TestBounds:
    async def test_of_one_member_are_that_members_alone(self, feed: Feed) -> None:
        async with asyncio.timeout(5):
            streams = [feed.stream("m-1", None) for _ in range(STREAMS_PER_MEMBER_MAX)]
            for stream in streams:
                await stream.__aenter__()
            with pytest.raises(TooManyStreams):
                await feed.stream("m-1", None).__aenter__()
            async with feed.stream("m-2", None):
                pass
            await streams.pop().__aexit__(None, None, None)
            async with feed.stream("m-1", None):
                pass
            for stream in streams:
                await stream.__aexit__(None, None, None)

    async def test_hold_for_those_who_come_at_the_same_moment(self, feed: Feed) -> None:
        async def one() -> bool:
            try:
                async with feed.stream("m-1", None):
                    await asyncio.sleep(0.3)
            except TooManyStreams:
                return False
            return True

        assert sum(await asyncio.gather(*(one() for _ in range(50)))) == STREAMS_PER_MEMBER_MAX
        assert feed._streams == []

    async def test_of_a_process(self, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feeds, "STREAMS_MAX", 1)
        async with feed.stream("m-1", None):
            with pytest.raises(TooManyStreams):
                await feed.stream("m-2", None).__aenter__()


class TestTheLine:
    async def test_that_is_cut_is_made_anew_and_nothing_is_missed(self, feed: Feed, ledger: AsyncEngine) -> None:
        async with feed.stream("m-1", 0) as stream:
            await tell(ledger, message(once="a"))
            assert await heard(stream, 1) == [1]
            await cut(ledger)
            await tell(ledger, message(once="b"))
            assert await heard(stream, 1) == [2]
            await asyncio.sleep(0.5)
            await tell(ledger, message(once="c"))
            assert await heard(stream, 1, SOON_S) == [3], "it listens again"

    async def test_that_tells_nothing_is_not_relied_on(
        self, ledger: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pooler between us and PostgreSQL may take LISTEN and never tell."""
        monkeypatch.setattr(store, "CHANNEL", "somewhere_else")
        async with serving(ledger) as feed, feed.stream("m-1", 0) as stream:
            await asyncio.sleep(0.5)
            monkeypatch.setattr(store, "CHANNEL", "flashclaim_messages")
            await tell(ledger, message())
            assert await heard(stream, 1) == [1]


async def cut(ledger: AsyncEngine) -> None:
    """End all connections to the ledger but one, the one that listens among them."""
    async with ledger.connect() as connection:
        others = "pid <> pg_backend_pid() and datname = current_database()"
        await connection.execute(text(f"select pg_terminate_backend(pid) from pg_stat_activity where {others}"))
