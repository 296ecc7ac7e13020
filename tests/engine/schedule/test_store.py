"""The promise: what is planned is planned once and follows an act; a job is one worker's until it is marked."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.ledger import actions
from engine.ledger.schema import schedule
from engine.schedule import service, store
from engine.schedule.model import Job, NoSuchJob, Planned, State, WrongState

KINDS = ("chime", "fail")
AT_ONCE = {"chime": 1, "fail": 3}
NOW = datetime.now(UTC)


def planned(name: str = "a", in_s: float = 3_600.0, kind: str = "chime", **payload: Any) -> Planned:
    return Planned(kind, name, datetime.now(UTC) + timedelta(seconds=in_s), payload)


async def plan(ledger: AsyncEngine, *jobs: Planned, object_: str = "bell:1", kinds: Sequence[str] = KINDS) -> None:
    async with ledger.begin() as connection:
        await service.plan(connection, object_, kinds, jobs)


async def rows(ledger: AsyncEngine, object_: str = "bell:1") -> list[Job]:
    async with ledger.connect() as connection:
        return await store.listed(connection, None, object_, 0, 10_000)


async def names(ledger: AsyncEngine, object_: str = "bell:1") -> list[tuple[str, str]]:
    return [(job.name, str(job.state)) for job in await rows(ledger, object_)]


async def set_state(ledger: AsyncEngine, name: str, state: State) -> None:
    async with ledger.begin() as connection:
        await connection.execute(update(schedule).where(schedule.c.name == name).values(state=state))


class TestPlans:
    async def test_that_are_repeated_are_one(self, ledger: AsyncEngine) -> None:
        for _ in range(3):
            await plan(ledger, planned("a"), planned("b", kind="fail"))
        first = await rows(ledger)
        assert [(job.kind, job.name, job.state) for job in first] == [
            ("chime", "a", State.WAITING),
            ("fail", "b", State.WAITING),
        ]
        assert all(job.due_at == job.next_at for job in first)

    async def test_that_are_made_at_the_same_moment_are_one(self, ledger: AsyncEngine) -> None:
        await asyncio.gather(*(plan(ledger, planned("a"), planned("b")) for _ in range(8)))
        assert sorted(await names(ledger)) == [("a", "waiting"), ("b", "waiting")]

    async def test_take_the_place_of_those_before_and_leave_what_is_over(self, ledger: AsyncEngine) -> None:
        await plan(ledger, *(planned(name) for name in "abcde"))
        for name, state in (("a", State.DONE), ("b", State.CANCELLED), ("c", State.FAILED)):
            await set_state(ledger, name, state)
        await plan(ledger, planned("f"))
        assert await names(ledger) == [("a", "done"), ("b", "cancelled"), ("f", "waiting")]

    async def test_do_not_bring_back_what_is_over(self, ledger: AsyncEngine) -> None:
        for state in (State.DONE, State.CANCELLED, State.FAILED):
            await plan(ledger, planned(str(state)))
            await set_state(ledger, str(state), state)
            await plan(ledger, planned(str(state)))
        assert [state for _, state in await names(ledger)] == ["done", "cancelled", "failed"]

    async def test_of_other_kinds_and_objects_are_left(self, ledger: AsyncEngine) -> None:
        await plan(ledger, planned("a"))
        await plan(ledger, planned("a"), object_="bell:2")
        await plan(ledger, planned("draw", kind="draw"), kinds=["draw"])
        await plan(ledger)
        assert await names(ledger) == [("draw", "waiting")]
        assert await names(ledger, "bell:2") == [("a", "waiting")]

    async def test_for_a_time_that_is_over_are_due_now(self, ledger: AsyncEngine) -> None:
        await plan(ledger, planned("a", -3_600))
        (job,) = await rows(ledger)
        assert abs((job.due_at - datetime.now(UTC)).total_seconds()) < 60

    async def test_do_not_wait_for_a_job_that_is_being_done(self, ledger: AsyncEngine) -> None:
        """An act's transaction must never wait for the handler that waits for this act's drop."""
        await plan(ledger, planned("a", -1), planned("b"))
        async with ledger.connect() as worker, asyncio.timeout(5):
            taken = await store.take(worker, AT_ONCE)
            await plan(ledger)
            assert await names(ledger) == [("a", "waiting")]
            await store.done(worker, [job for job, _ in taken])
            await worker.commit()
        assert await names(ledger) == [("a", "done")]

    async def test_are_undone_with_the_act(self, ledger: AsyncEngine) -> None:
        async with ledger.connect() as connection:
            await service.plan(connection, "bell:1", KINDS, [planned()])
            await connection.rollback()
        assert await names(ledger) == []


class TestTaking:
    async def test_is_by_time_and_never_early(self, ledger: AsyncEngine) -> None:
        await plan(ledger, planned("future", 60))
        await plan(ledger, planned("first", -2), object_="bell:2")
        await plan(ledger, planned("second", -1), object_="bell:3")
        found = []
        async with ledger.connect() as connection:
            while taken := await store.take(connection, AT_ONCE):
                ((job, late_s),) = taken
                assert 0 <= late_s < 60
                found.append(job.name)
                await store.done(connection, [job])
                await connection.commit()
        assert found == ["first", "second"]

    async def test_is_one_workers_until_its_transaction_ends(self, ledger: AsyncEngine) -> None:
        await plan(ledger, planned("a", -1))
        async with ledger.connect() as one, ledger.connect() as other:
            assert await store.take(one, AT_ONCE)
            assert not await store.take(other, AT_ONCE)
            await one.rollback()
            assert await store.take(other, AT_ONCE)

    async def test_is_of_as_many_of_one_kind_as_are_wanted(self, ledger: AsyncEngine) -> None:
        for number in range(4):
            await plan(ledger, planned(str(number), -1, "fail"), object_=f"bell:{number}")
        await plan(ledger, planned("a", -1), planned("b", -1), object_="bell:9")
        async with ledger.connect() as one, ledger.connect() as other, ledger.connect() as third:
            assert [job.name for job, _ in await store.take(one, AT_ONCE)] == ["0", "1", "2"]
            assert [job.name for job, _ in await store.take(other, AT_ONCE)] == ["3"]
            assert [job.name for job, _ in await store.take(third, AT_ONCE)] == ["a"]

    async def test_is_of_known_kinds_alone(self, ledger: AsyncEngine) -> None:
        await plan(ledger, planned("a", -1, "later-version"), kinds=["later-version"])
        async with ledger.connect() as connection:
            assert not await store.take(connection, AT_ONCE)

    async def test_ends_by_itself_when_the_workers_machine_vanished(
        self, ledger: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody closes its connection: PostgreSQL ends the transaction after the time that a job may take."""
        monkeypatch.setattr(store, "JOB_S_MAX", 1.0)
        await plan(ledger, planned("a", -1))
        async with ledger.connect() as vanished, ledger.connect() as other, asyncio.timeout(10):
            assert await store.take(vanished, AT_ONCE)
            while not await store.take(other, AT_ONCE):
                await other.rollback()
                await asyncio.sleep(0.1)
            await vanished.invalidate()

    async def test_is_asked_by_index(self, ledger: AsyncEngine) -> None:
        await plan(ledger, *(planned(str(number), 3_600 + number) for number in range(900)))
        async with ledger.connect() as connection:
            await connection.execute(text("analyze schedule"))
            for query in (store._TAKE, store._TAKE_MORE, store._OUTLOOK):
                given = {"kinds": list(KINDS), "kind": "chime", "limit": 64}
                found = "\n".join(await connection.scalars(text(f"explain {query}"), given))
                assert "Index" in found
                assert "Seq Scan" not in found


class TestMarking:
    async def test_does_not_undo_what_somebody_else_has_done_since(self, ledger: AsyncEngine) -> None:
        """A worker's transaction was ended while it stood still; it wakes up, and would put the job off."""
        await plan(ledger, planned("a", -1))
        (stale,) = await rows(ledger)
        async with ledger.begin() as connection:
            await store.done(connection, [job for job, _ in await store.take(connection, AT_ONCE)])
        async with ledger.begin() as connection:
            await store.failed(connection, stale, "late", 1.0)
            await store.put_off(connection, stale, 1.0, "late")
        assert await names(ledger) == [("a", "done")]

    async def test_counts_attempts_that_failed_and_no_others(self, ledger: AsyncEngine) -> None:
        await plan(ledger, planned("a", -1))
        for count, mark in enumerate(("failed", "put_off", "failed"), start=1):
            (job,) = await rows(ledger)
            async with ledger.begin() as connection:
                if mark == "failed":
                    await store.failed(connection, job, f"why {count}", 30.0)
                else:
                    await store.put_off(connection, job, 30.0, f"why {count}")
            (after,) = await rows(ledger)
            assert after.error == f"why {count}"
            assert 20 < (after.next_at - datetime.now(UTC)).total_seconds() < 40
        assert (after.attempts, after.state, after.due_at) == (2, State.WAITING, job.due_at)


class TestOperators:
    async def test_try_again_what_failed_and_cancel_what_waits_each_with_its_row(self, ledger: AsyncEngine) -> None:
        await plan(ledger, planned("a"))
        (job,) = await rows(ledger)
        assert (await service.cancel(ledger, job.id, "boss")).state is State.CANCELLED
        assert (await service.retry(ledger, job.id, "boss")).state is State.WAITING
        await set_state(ledger, "a", State.FAILED)
        again = await service.retry(ledger, job.id, "deputy")
        assert (again.state, again.attempts) == (State.WAITING, 0)
        async with ledger.connect() as connection:
            acts = [link.action for link in await actions.chain(connection)]
        assert [(act.object, act.verb, act.actor, (act.before or {})["state"], act.after["state"]) for act in acts] == [
            (f"job:{job.id}", "cancel", "boss", "waiting", "cancelled"),
            (f"job:{job.id}", "retry", "boss", "cancelled", "waiting"),
            (f"job:{job.id}", "retry", "deputy", "failed", "waiting"),
        ]
        assert acts[0].change == {"kind": "chime", "object": "bell:1", "name": "a"}

    async def test_do_neither_with_what_is_done_or_is_so_already(self, ledger: AsyncEngine) -> None:
        await plan(ledger, planned("a"))
        (job,) = await rows(ledger)
        with pytest.raises(WrongState, match="is waiting: retry needs it to be failed or cancelled"):
            await service.retry(ledger, job.id, "boss")
        await set_state(ledger, "a", State.DONE)
        for act in (service.retry, service.cancel):
            with pytest.raises(WrongState, match="is done"):
                await act(ledger, job.id, "boss")
            with pytest.raises(NoSuchJob):
                await act(ledger, job.id + 1, "boss")
        async with ledger.connect() as connection:
            assert await actions.chain(connection) == []

    async def test_do_not_cancel_what_is_being_done(self, ledger: AsyncEngine) -> None:
        await plan(ledger, planned("a", -1))
        async with ledger.connect() as worker, asyncio.timeout(5):
            taken = await store.take(worker, AT_ONCE)
            with pytest.raises(WrongState, match="at this moment"):
                await service.cancel(ledger, taken[0][0].id, "boss")

    async def test_two_at_once_leave_one_act(self, ledger: AsyncEngine) -> None:
        await plan(ledger, planned("a"))
        (job,) = await rows(ledger)
        done = await asyncio.gather(
            *(service.cancel(ledger, job.id, f"boss-{number}") for number in range(4)), return_exceptions=True
        )
        assert sum(isinstance(found, Job) for found in done) == 1
        assert sum(isinstance(found, WrongState) for found in done) == 3

    async def test_see_what_they_ask_for(self, ledger: AsyncEngine) -> None:
        await plan(ledger, *(planned(name) for name in "abc"))
        await plan(ledger, planned("d"), object_="bell:2")
        await set_state(ledger, "b", State.FAILED)
        async with ledger.connect() as connection:
            ids = list(await connection.scalars(select(schedule.c.id).order_by(schedule.c.id)))
            whole = await store.listed(connection, None, None, 0, 3)
            rest = await store.listed(connection, None, None, whole[-1].id, 3)
            failed = await store.listed(connection, State.FAILED, None, 0, 3)
        assert [job.id for job in (*whole, *rest)] == ids
        assert [job.name for job in failed] == ["b"]
