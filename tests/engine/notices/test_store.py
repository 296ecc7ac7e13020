"""The promise: a member is told a thing once, in order, with what is told; no event is skipped, however late."""

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.bounds import MESSAGE_FACTS_BYTES_MAX, MESSAGES_KEPT_MAX
from engine.ledger.schema import events, inboxes, messages
from engine.notices import service, store
from engine.notices.model import Event, Message, Placed
from tests.engine.notices.test_model import FACTS

WAITS_S = 0.3


def message(member: str = "m-1", once: str = "draw:geese:won", **more: Any) -> Message:
    return Message(member, "prize-arrived", {**FACTS, **more}, once)


async def tell(ledger: AsyncEngine, *told: Message) -> int:
    async with ledger.begin() as connection:
        return await service.tell(connection, told)


async def numbers(ledger: AsyncEngine, member: str = "m-1") -> list[tuple[int, str]]:
    async with ledger.connect() as connection:
        query = select(messages.c.number, messages.c.once).where(messages.c.member_id == member)
        return [(row.number, row.once) for row in await connection.execute(query.order_by(messages.c.number))]


async def following(ledger: AsyncEngine, cursor: int = 0, limit: int = 1_000) -> list[Placed]:
    async with ledger.begin() as connection:
        return await store.events_after(connection, cursor, limit)


def kinds(found: list[Placed]) -> list[str]:
    return [placed.event.kind for placed in found]


class TestTelling:
    @pytest.mark.parametrize(
        "wrong",
        [
            message(prize=None),
            message(prize="a\0b"),
            message(more="half \ud800"),
            message(more="x" * MESSAGE_FACTS_BYTES_MAX),
            message()._replace(kind="nothing"),
        ],
    )
    async def test_what_makes_no_message_writes_nothing(self, ledger: AsyncEngine, wrong: Message) -> None:
        async with ledger.begin() as connection:
            with pytest.raises(ValueError, match=r"."):
                await service.tell(connection, [message("m-9"), wrong])
            await service.announce(connection, [Event("still-usable", "drop:a")])
        assert await numbers(ledger, "m-9") == []
        assert kinds(await following(ledger)) == ["still-usable"]

    async def test_numbers_each_inbox_from_one(self, ledger: AsyncEngine) -> None:
        assert await tell(ledger, message(), message("m-2"), message(once="b"), message("m-2", "c")) == 4
        assert await tell(ledger, message(once="d")) == 1
        assert await numbers(ledger) == [(1, "draw:geese:won"), (2, "b"), (3, "d")]
        assert await numbers(ledger, "m-2") == [(1, "draw:geese:won"), (2, "c")]

    async def test_twice_is_once(self, ledger: AsyncEngine) -> None:
        assert await tell(ledger, message(), message()) == 1
        assert await tell(ledger, message(), message(once="b")) == 1
        assert await tell(ledger, message()) == 0
        assert await numbers(ledger) == [(1, "draw:geese:won"), (2, "b")]
        assert kinds(await following(ledger)) == ["message-told"] * 2

    async def test_nothing_is_nothing(self, ledger: AsyncEngine) -> None:
        assert await tell(ledger) == 0

    async def test_is_undone_with_what_it_tells(self, ledger: AsyncEngine) -> None:
        async with ledger.connect() as connection:
            assert await service.tell(connection, [message()]) == 1
            await connection.rollback()
        assert (await numbers(ledger), await following(ledger)) == ([], [])
        assert await tell(ledger, message()) == 1

    async def test_by_many_at_once_leaves_no_gap_and_no_double(self, ledger: AsyncEngine) -> None:
        """Overlapping crowds in opposite orders: whoever comes second waits, nobody waits in a circle."""
        crowd = [f"m-{number}" for number in range(30)]

        async def one(teller: int) -> int:
            some = crowd[teller : teller + 15] if teller % 2 else crowd[::-1]
            return await tell(ledger, *(message(member, f"key-{teller % 4}") for member in some))

        assert sum(await asyncio.gather(*(one(teller) for teller in range(12)))) > 0
        for member in crowd:
            found = await numbers(ledger, member)
            assert [number for number, _ in found] == list(range(1, len(found) + 1))
            assert len({once for _, once in found}) == len(found)

    async def test_waits_for_whoever_tells_the_same_member(self, ledger: AsyncEngine) -> None:
        """So that number 2 is never there before number 1."""
        async with ledger.begin() as first:
            await service.tell(first, [message(once="a")])
            second = asyncio.create_task(tell(ledger, message(once="b")))
            await asyncio.sleep(WAITS_S)
            assert not second.done()
            assert await numbers(ledger) == []
        assert await second == 1
        assert await numbers(ledger) == [(1, "a"), (2, "b")]

    async def test_two_thousand_winners_at_once(self, ledger: AsyncEngine) -> None:
        winners = [message(f"m-{number}") for number in range(2_000)]
        assert await tell(ledger, *winners) == 2_000
        assert await tell(ledger, *winners[::-1]) == 0
        async with ledger.connect() as connection:
            assert await connection.scalar(select(func.count()).select_from(messages)) == 2_000

    async def test_keeps_the_newest(self, ledger: AsyncEngine) -> None:
        count = MESSAGES_KEPT_MAX + 30
        await tell(ledger, *(message(once=f"k-{number}") for number in range(1, count)), message("m-2"))
        await tell(ledger, message(once=f"k-{count}"))
        found = await numbers(ledger)
        assert [number for number, _ in found] == list(range(31, count + 1))
        assert len(await numbers(ledger, "m-2")) == 1

    async def test_of_members_whose_names_are_odd(self, ledger: AsyncEngine) -> None:
        for member in ("a'b", 'a"b', "{a,b}", "NULL", "a\\b", "成员", ""):
            assert await tell(ledger, message(member)) == 1
            assert len(await numbers(ledger, member)) == 1


class TestReading:
    async def test_marks_the_first_time_and_one_inbox_alone(self, ledger: AsyncEngine) -> None:
        await tell(ledger, message(), message(once="b"), message("m-2"))
        first = await self.read(ledger, "m-1", 1)
        assert isinstance(first, datetime)
        assert await self.read(ledger, "m-1", 1) == first
        assert await self.read(ledger, "m-1", 3) is None
        async with ledger.connect() as connection:
            assert [await store.unread(connection, member) for member in ("m-1", "m-2", "m-3")] == [1, 1, 0]

    async def test_until_a_number_leaves_what_came_since(self, ledger: AsyncEngine) -> None:
        await tell(ledger, *(message(once=str(number)) for number in range(5)))
        async with ledger.begin() as connection:
            assert await store.read_until(connection, "m-1", 3) == 3
            assert await store.read_until(connection, "m-1", 3) == 0
            assert await store.unread(connection, "m-1") == 2

    async def test_pages_go_backwards(self, ledger: AsyncEngine) -> None:
        await tell(ledger, *(message(once=str(number)) for number in range(5)))
        async with ledger.connect() as connection:
            found = [received.number for received in await store.page(connection, "m-1", None, 3)]
            found += [received.number for received in await store.page(connection, "m-1", found[-1], 3)]
        assert found == [5, 4, 3, 2, 1]

    async def test_what_is_newer_is_told_for_each_stream(self, ledger: AsyncEngine) -> None:
        await tell(ledger, *(message(once=str(number)) for number in range(4)), message("m-2"))
        async with ledger.connect() as connection:
            found = await store.newer(connection, [("m-1", 2), ("m-2", 1), ("m-1", 0), ("m-3", 0)], 2)
        assert [(stream, received.number) for stream, received in found] == [(0, 3), (0, 4), (2, 1), (2, 2)]

    async def read(self, ledger: AsyncEngine, member: str, number: int) -> datetime | None:
        async with ledger.begin() as connection:
            return await store.read(connection, member, number)


async def test_an_inbox_that_is_forgotten_leaves_nothing(ledger: AsyncEngine) -> None:
    await tell(ledger, message(), message("m-2"))
    async with ledger.begin() as connection:
        await store.forget(connection, "m-1")
        for table in (messages, inboxes):
            assert list(await connection.scalars(select(table.c.member_id))) == ["m-2"]
        assert list(await connection.scalars(select(events.c.object))) == ["member:m-2"]


async def announce(connection: AsyncConnection, *names: str) -> None:
    await service.announce(connection, [Event(name, "drop:a", {"zh": "鹅"}) for name in names])


class TestEvents:
    async def test_come_in_the_order_in_which_they_were_announced(self, ledger: AsyncEngine) -> None:
        async with ledger.begin() as connection:
            await announce(connection)
            await announce(connection, *(f"event-{number}" for number in range(20)))
        found = await following(ledger)
        assert kinds(found) == [f"event-{number}" for number in range(20)]
        assert [placed.place for placed in found] == list(range(1, 21))
        assert found[0].event == Event("event-0", "drop:a", {"zh": "鹅"})
        assert kinds(await following(ledger, 17, limit=2)) == ["event-17", "event-18"]
        assert await following(ledger, 20) == []

    async def test_of_a_transaction_that_commits_late_are_not_skipped(self, ledger: AsyncEngine) -> None:
        """The first one has the lower id, and is committed when the reader is past the second."""
        async with ledger.begin() as late:
            await announce(late, "late")
            async with ledger.begin() as soon:
                await announce(soon, "soon")
            first = await following(ledger)
            assert kinds(first) == ["soon"]
        assert kinds(await following(ledger, first[-1].place)) == ["late"]
        assert kinds(await following(ledger)) == ["soon", "late"]

    async def test_that_were_undone_leave_no_gap(self, ledger: AsyncEngine) -> None:
        async with ledger.connect() as connection:
            await announce(connection, "undone")
            await connection.rollback()
            await announce(connection, "done")
            await connection.commit()
        assert [(placed.place, placed.event.kind) for placed in await following(ledger)] == [(1, "done")]

    async def test_that_one_reader_is_placing_are_read_by_others_afterwards(self, ledger: AsyncEngine) -> None:
        """A reader that hangs before its commit holds nobody up, and gives nothing out that others would skip."""
        async with ledger.begin() as connection:
            await announce(connection, "first")
        async with ledger.begin() as hanging:
            assert kinds(await store.events_after(hanging, 0)) == ["first"]
            async with ledger.begin() as connection:
                await announce(connection, "second")
            assert await following(ledger) == []
        assert kinds(await following(ledger)) == ["first", "second"]

    async def test_are_all_read_once_by_each_of_several_readers_while_many_write(self, ledger: AsyncEngine) -> None:
        """Transactions of all lengths, some of them undone; readers that keep nothing but their place."""
        writers, each = 4, 15
        done: set[str] = set()

        async def write(writer: int) -> None:
            for number in range(each):
                async with ledger.connect() as connection:
                    await announce(connection, f"{writer}-{number}-a", f"{writer}-{number}-b")
                    await asyncio.sleep((number * 7 + writer * 3) % 5 * 0.004)
                    if number % 4 == 3:
                        await connection.rollback()
                    else:
                        await connection.commit()
                        done.update((f"{writer}-{number}-a", f"{writer}-{number}-b"))

        async def read() -> list[Placed]:
            found: list[Placed] = []
            while not (writing.done() and len(found) == len(done)):
                found += await following(ledger, found[-1].place if found else 0, limit=7)
                await asyncio.sleep(0.001)
            return found

        async with asyncio.timeout(60):
            writing = asyncio.gather(*(write(writer) for writer in range(writers)))
            readers = await asyncio.gather(read(), read(), read())
            await writing
        for found in readers:
            assert Counter(kinds(found)) == Counter(done)
            assert [placed.place for placed in found] == list(range(1, len(done) + 1))
            for writer in range(writers):
                own = [kind for kind in kinds(found) if kind.startswith(f"{writer}-")]
                assert own == sorted(own, key=lambda kind: (int(kind.split("-")[1]), kind))

    async def test_are_placed_in_bounded_pieces(self, ledger: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "EVENTS_PLACED_MAX", 3)
        async with ledger.begin() as connection:
            await announce(connection, *"abcdefgh")
        found: list[Placed] = []
        while page := await following(ledger, found[-1].place if found else 0):
            assert len(page) <= 3
            found += page
        assert "".join(kinds(found)) == "abcdefgh"


async def test_the_hot_questions_are_asked_by_index(ledger: AsyncEngine) -> None:
    await tell(ledger, *(message(f"m-{number}", str(once)) for number in range(300) for once in range(10)))
    async with ledger.begin() as connection:
        await connection.execute(text("analyze messages"))
        plan = await connection.scalars(
            text(f"explain {store._NEWER}"), {"members": ["m-1", "m-2"], "numbers": [0, 5], "limit": 33}
        )
        assert "messages_pk" in "\n".join(plan)
