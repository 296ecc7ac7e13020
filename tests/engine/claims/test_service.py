"""The promise: a new store hears what members were told, and no store decides but the one that the ledger names."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import text

from engine.bounds import HOMECOMING_GRACE_S, REMIND_S
from engine.claims import keys
from engine.claims.backlog import Backlog
from engine.claims.service import AlreadyReleased, Claims
from engine.drops.service import Drops
from engine.ids import ClaimId, DropId
from engine.ledger import homes
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.rushed import CLAIMS, Rushed


async def test_a_process_says_what_it_was_told_before_a_new_store_is_compared(
    stores: Stores, settings: Settings
) -> None:
    claims = claims_of(stores, settings)
    claims._told["trial", 0] = 7
    await stores.redis.set(keys.home(0), "the store before")
    stop = asyncio.Event()
    reminding = asyncio.create_task(claims.remind(stop))
    async with asyncio.timeout(HOMECOMING_GRACE_S):
        while await stores.redis.hget(keys.told(0), "trial") != b"7":  # noqa: ASYNC110 (a store tells nobody)
            await asyncio.sleep(0.02)
    stop.set()
    await reminding


def claims_of(stores: Stores, settings: Settings) -> Claims:
    drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
    return Claims(stores.scripts, stores.ledger, drops, settings, Backlog(stores.redis, 1, 1_000_000))


@pytest.fixture
async def following(stores: Stores, settings: Settings) -> AsyncIterator[Stores]:
    """The stores of a process that follows the ledger's word."""
    stop = asyncio.Event()
    following = asyncio.create_task(claims_of(stores, settings).follow(stop))
    yield stores
    stop.set()
    await following


async def trusted(stores: Stores, home: str) -> None:
    """Wait until scripts are told this home."""
    async with asyncio.timeout(10):
        while await stores.scripts.home() and stores.scripts.trusted != home:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def sql(stores: Stores, statement: str) -> None:
    async with stores.ledger.begin() as connection:
        await connection.execute(text(statement))


class TestFollow:
    async def test_no_store_decides_before_the_ledgers_first_word(self, stores: Stores, settings: Settings) -> None:
        home = await stores.scripts.home()
        await sql(stores, "alter table homes rename to away")
        try:
            await claims_of(stores, settings).trust_none()
            assert stores.scripts.trusted == ""
        finally:
            await sql(stores, "alter table away rename to homes")
        await claims_of(stores, settings).trust_none()
        assert stores.scripts.trusted == home

    async def test_a_store_that_the_ledger_does_not_name_decides_nothing(self, following: Stores) -> None:
        home = await following.scripts.home()
        await trusted(following, home)
        await sql(following, "update homes set home = 'another' where partition = 0")
        await trusted(following, "")
        await sql(following, f"update homes set home = '{home}' where partition = 0")
        await trusted(following, home)

    async def test_names_for_partitions_that_are_no_more_count_for_nothing(self, following: Stores) -> None:
        home = await following.scripts.home()
        await trusted(following, home)
        await sql(following, "update homes set home = 'another' where partition > 0")
        await asyncio.sleep(3 * REMIND_S)
        assert following.scripts.trusted == home

    async def test_a_ledger_that_breaks_is_asked_again_and_its_last_word_counts(self, following: Stores) -> None:
        home = await following.scripts.home()
        await trusted(following, home)
        await sql(following, "alter table homes rename to away")
        try:
            await asyncio.sleep(3 * REMIND_S)
            assert following.scripts.trusted == home
        finally:
            await sql(following, "alter table away rename to homes")
        await sql(following, "update homes set home = 'another' where partition = 0")
        await trusted(following, "")

    async def test_whatever_breaks_the_next_word_is_heard(
        self, following: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = await following.scripts.home()
        await trusted(following, home)
        monkeypatch.setattr(homes, "read", broken)
        await asyncio.sleep(2 * REMIND_S)
        monkeypatch.undo()
        await sql(following, "update homes set home = 'another' where partition = 0")
        await trusted(following, "")


async def broken(_: object) -> NoReturn:
    raise KeyError("role")


async def test_a_release_that_the_ledger_has_is_not_done_again_by_a_store_that_forgot_it(
    stores: Stores, settings: Settings, tmp_path: Path
) -> None:
    """As after a failover that lost it: the store would give the units back a second time."""
    rushed = Rushed(stores, settings, tmp_path / "claims.jsonl")
    await rushed.rush()
    await rushed.record()
    await stores.redis.delete(keys.claims(0, "trial"))
    with pytest.raises(AlreadyReleased):
        await rushed.claims.release(ClaimId(DropId("trial"), 0, CLAIMS), "boss", "again")
