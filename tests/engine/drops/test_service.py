"""The promise: what a process remembers of a drop never decides what a member gets."""

from typing import Any

import pytest
from sqlalchemy import update

from engine.drops.model import Actor, Status
from engine.drops.service import Drops
from engine.drops.spec import parse
from engine.ledger.schema import drops as drops_table
from engine.runtime.connections import Stores, open_ledger
from tests.factories.drops import drop_json

BOSS = Actor("boss")


def items(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "title": {"en": name}, "stock": 5} for name in names]


async def test_a_draft_is_never_remembered(stores: Stores) -> None:
    """Its items can still change places: a number that another process remembers would be another item."""
    one, other = (Drops(stores.redis, stores.scripts, stores.ledger, 1) for _ in range(2))
    await one.create(parse(drop_json("trial", items=items("five", "ten")), "test"), BOSS)
    assert [item.id for item in (await other.get("trial")).spec.items] == ["five", "ten"]
    await one.amend("trial", {"items": items("ten", "five")}, None, BOSS)
    await one.launch("trial", BOSS)
    assert other.known("trial") is None
    drop = await other.get("trial")
    assert (drop.status, [item.id for item in drop.spec.items]) == (Status.LAUNCHED, ["ten", "five"])


async def test_a_launched_drop_is_remembered_while_the_store_has_the_same_revision(stores: Stores) -> None:
    one, other = (Drops(stores.redis, stores.scripts, stores.ledger, 1) for _ in range(2))
    await one.create(parse(drop_json("trial"), "test"), BOSS)
    await one.launch("trial", BOSS)
    first = await other.get("trial")
    assert await other._renewed("trial") is first
    await one.pause("trial", BOSS)
    assert (await other._renewed("trial")).status is Status.PAUSED


async def test_a_store_that_was_replaced_by_another_is_believed_for_a_few_seconds_only(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old primary is cut off and lives on: it still says that its epoch is the one, the ledger knows better."""
    drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
    await drops.create(parse(drop_json("trial"), "test"), BOSS)
    await drops.launch("trial", BOSS)
    await drops.get("trial")
    async with stores.ledger.begin() as connection:
        await connection.execute(update(drops_table).values(epoch=2))
    assert (await drops._renewed("trial")).epoch == 1
    monkeypatch.setattr("engine.drops.service.LEDGER_LOOK_S", 0.0)
    assert (await drops._renewed("trial")).epoch == 2


async def test_without_the_stores_word_the_ledger_is_read(stores: Stores) -> None:
    drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
    await drops.create(parse(drop_json("trial"), "test"), BOSS)
    await drops.launch("trial", BOSS)
    first = await drops.get("trial")
    await stores.redis.flushall()
    again = await drops._renewed("trial")
    assert again == first
    assert again is not first


async def test_an_act_just_before_the_ledger_goes_away_does_not_end_the_rush(stores: Stores) -> None:
    """After an act the drop is read anew; where it cannot be, it is as it was, and the store's word decides."""
    drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
    await drops.create(parse(drop_json("trial"), "test"), BOSS)
    await drops.launch("trial", BOSS)
    await drops.get("trial")
    await drops.restock("trial", "box", 5, BOSS)
    away = open_ledger("postgresql://postgres@127.0.0.1:1/away")
    drops._ledger = away
    assert (await drops.get("trial")).status is Status.LAUNCHED
    assert drops.known("trial") is not None
    drops._ledger = stores.ledger
    drops.forget("trial")
    assert (await drops.get("trial")).spec.items[0].stock == 15
    await away.dispose()
