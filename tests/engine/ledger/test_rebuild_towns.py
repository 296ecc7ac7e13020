"""The promise: tallies, reserves and a campaign's limits survive the loss of the store, towns of receipts included."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.claims import keys, receipt
from engine.claims.model import CampaignLimitReached, NotReady, SoldOut
from engine.claims.wire import unpack_tallies
from engine.ledger.rebuild import Rebuild
from engine.ledger.reconcile import Reconciler
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.engine.ledger.test_towns import DALANG, HUMEN, crowd, membership, reserve
from tests.factories.drops import drop_spec
from tests.factories.rushed import BOSS, Rushed

_OWN = (b"epoch", b"revision", b"act")  # what each act changes


@pytest.fixture(params=[1, 3])
async def towned(request: pytest.FixtureRequest, stores: Stores, settings: Settings, tmp_path: Path) -> Rushed:
    """`trial` has 120 boxes, 30 of them in reserve for Dalang; `old`, of the same campaign, closed two days ago."""
    made = Rushed(stores, settings.model_copy(update={"partitions": request.param}), tmp_path / "claims.jsonl")
    campaign = membership("trial", "old", in_all=2)
    opened = datetime.now(UTC) - timedelta(days=2, hours=1)
    await made.drops.create(drop_spec("old", opened, limit=9, campaign=campaign), BOSS)
    await made.drops.launch("old", BOSS)
    await made.rush(stock=120, limit=5, allotments=reserve(30), campaign=campaign)
    await crowd(made, seed=7, count=40)
    return made


async def state(rushed: Rushed) -> list[Any]:
    """All that the store has of the drop, but for what each act changes and tallies of nothing."""
    redis: Any = rushed.stores.redis
    found = []
    for partition in range(rushed.settings.partitions):
        drop = await redis.hgetall(keys.drop(partition, "trial"))
        claims = await redis.hgetall(keys.claims(partition, "trial"))
        tallies = unpack_tallies([await redis.hgetall(keys.tally(partition, "trial"))])
        found.append(({name: value for name, value in drop.items() if name not in _OWN}, claims, +tallies))
    return found


async def lose_the_store(rushed: Rushed) -> None:
    await rushed.stores.redis.flushall()
    for partition in range(rushed.settings.partitions):
        await rushed.stores.redis.set(keys.home(partition), await rushed.stores.scripts.home())


def rebuild(rushed: Rushed, drop_id: str = "trial", *receipts: receipt.ReceiptBody) -> Rebuild:
    return Rebuild(rushed.stores, rushed.settings.partitions, drop_id, receipts)


async def _tried(rushed: Rushed, member: str, town: int) -> bool:
    try:
        await rushed.claim_for(member, town)
    except SoldOut:
        return False
    return True


async def test_a_rebuilt_state_equals_the_old_one(towned: Rushed) -> None:
    before = await state(towned)
    assert all(tallies for _, _, tallies in before)
    await rebuild(towned).apply(BOSS, "to see")
    assert await state(towned) == before
    await towned.record()
    assert (await towned.audit()).details == []


async def test_a_lost_store_comes_back_with_reserves_tallies_and_the_campaigns_limits(towned: Rushed) -> None:
    await towned.claim_for("m-full", HUMEN, 4, quantity=2)
    await towned.record()
    before = await state(towned)
    await lose_the_store(towned)
    assert (await rebuild(towned).apply(BOSS, "the disk was lost")).waits_for == ["old"]
    assert await state(towned) == before
    with pytest.raises(NotReady):
        await towned.claim_for("m-new", DALANG)
    assert (await rebuild(towned, "old").apply(BOSS, "the disk was lost")).waits_for == []
    with pytest.raises(CampaignLimitReached):
        await towned.claim_for("m-full", HUMEN)
    given = [await _tried(towned, f"other-{number}", HUMEN) for number in range(120)]
    assert True in given[:10]
    assert not any(given[-40:]), "the rest is in reserve for Dalang"
    await towned.record()
    assert (await towned.audit()).details == []


async def test_town_and_slogan_come_back_by_receipts(towned: Rushed) -> None:
    told = [await towned.claim_for(f"late-{town}", town, 5) for town in (DALANG, HUMEN)]
    before = await state(towned)
    await lose_the_store(towned)
    bodies = [receipt.verify(towned.settings.receipt_keyring, claim.receipt) for claim in told]
    assert (await rebuild(towned, "trial", *bodies).apply(BOSS, "the disk was lost")).restored == 2
    assert await state(towned) == before


async def test_a_drop_that_closed_long_ago_is_looked_after_for_its_familys_sake(towned: Rushed) -> None:
    """A rebuild of it was cut off: without it the open drop would decide nothing, for ever."""
    await rebuild(towned, "old").fence()
    with pytest.raises(NotReady):
        await towned.claim_for("m-new", DALANG)
    reconciler = Reconciler(towned.stores, towned.settings.partitions)
    for _ in range(3):
        await reconciler.round()
    assert (await towned.drops.read("old")).epoch == 2
    await towned.record()
    assert (await towned.claim_for("m-new", DALANG)).serial > 0
