"""The promise: tallies, reserves and a campaign's limits are judged on real stores; each planted fault is found."""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from engine.claims import keys
from engine.claims.model import CampaignLimitReached, LimitReached, SoldOut
from engine.ids import ClaimId
from engine.ledger import evidence, vigil
from engine.ledger.vigil import Vigil
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.drops import drop_spec
from tests.factories.rushed import BOSS, Rushed

DALANG, HUMEN = 19, 6
ZONE = "Asia/Shanghai"
Fault = Callable[[Rushed], Awaitable[object]]


def membership(*drops: str, zone: str = ZONE, **limits: int) -> dict[str, Any]:
    return {"id": "autumn", "time_zone": zone, "limits": limits, "drops": drops}


def reserve(stock: int) -> list[dict[str, Any]]:
    until = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    return [{"item": "box", "town": "大朗", "number": DALANG, "stock": stock, "until": until}]


async def crowd(rushed: Rushed, seed: int, count: int = 60) -> None:
    """People of random towns with random slogans claim until little is left; some of them give it back."""
    chance, claimed = random.Random(seed), list[ClaimId]()
    for number in range(count):
        town, slogan = chance.choice([0, DALANG, DALANG, HUMEN, 33]), chance.choice([0, 0, 1, 9])
        with suppress(SoldOut):
            claim = await rushed.claim_for(f"c-{number}", town, slogan, quantity=chance.choice([1, 1, 2]))
            claimed.append(claim.claim_id)
        if number % 20 == 19:
            await rushed.record()
            await rushed.claims.release(claimed.pop(), "boss", "ill")
    await rushed.record()


@pytest.fixture(params=[1, 3])
async def towned(request: pytest.FixtureRequest, stores: Stores, settings: Settings, tmp_path: Path) -> Rushed:
    """Twelve of sixty boxes are in nobody's name, thirty were in reserve for Dalang."""
    made = Rushed(stores, settings.model_copy(update={"partitions": request.param}), tmp_path / "claims.jsonl")
    campaign = membership("trial", "other", per_day=2, in_all=3)
    await made.drops.create(drop_spec("other", stock=60, limit=9, campaign=campaign), BOSS)
    await made.drops.launch("other", BOSS)
    await made.rush(limit=2, allotments=reserve(30), campaign=campaign)
    await crowd(made, seed=7)
    return made


async def look(rushed: Rushed, count: int = 6) -> dict[str, float]:
    """So often that every window is looked at twice; the promises that are shown as broken."""
    watching = Vigil(rushed.stores, rushed.settings.partitions)
    for _ in range(count):
        await watching.look([await rushed.drops.read("trial")])
    names = [promise.__name__ for promise in vigil.JUDGED]
    shown = {name: REGISTRY.get_sample_value("flashclaim_broken_promises", {"promise": name}) for name in names}
    return {name: count for name, count in shown.items() if count}


async def test_where_nothing_is_broken_nothing_is_found(towned: Rushed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "VIGIL_ROWS", 7)
    assert (await towned.audit()).details == []
    assert await look(towned, count=40) == {}


async def test_claims_and_releases_on_their_way_are_no_difference(towned: Rushed) -> None:
    first = await towned.claim_for("late", DALANG, 3)
    assert (await towned.audit()).details == []
    await towned.record()
    await towned.claims.release(first.claim_id, "boss", "ill")
    assert (await towned.audit()).details == []
    assert await look(towned) == {}


async def _tally(rushed: Rushed) -> None:
    await rushed.stores.redis.hincrby(keys.tally(0, "trial"), f"{HUMEN}:1", 1)


async def _town_counter(rushed: Rushed) -> None:
    await rushed.stores.redis.hincrby(keys.drop(0, "trial"), f"taken:1:{DALANG}", 1)


async def _more_in_reserve(rushed: Rushed) -> None:
    """As if others had been given what was in reserve all the time."""
    await rushed.sql("update drops set spec = jsonb_set(spec, '{allotments,0,stock}', '59') where id = 'trial'")


async def _one_person(rushed: Rushed) -> None:
    await rushed.sql("update claims set subject = 'm-1' where subject in ('m-2', 'm-3', 'm-4') and released_at is null")


@pytest.mark.parametrize(
    ("fault", "promise", "words"),
    [
        (_tally, "tallies_off", "the store's tally is"),
        (_more_in_reserve, "from_reserve", "that were in reserve for others"),
        (_one_person, "over_campaign_limit", "units in all, the campaign's limit is 3"),
        (_one_person, "over_campaign_limit", "units a day, the campaign's limit is 2"),
    ],
)
async def test_a_planted_fault_is_found_and_shown(towned: Rushed, fault: Fault, promise: str, words: str) -> None:
    await fault(towned)
    assert words in "\n".join((await towned.audit()).details)
    assert promise in await look(towned)


async def test_a_counter_of_a_town_that_is_off_is_found(towned: Rushed) -> None:
    await _town_counter(towned)
    assert f"taken for town {DALANG}, its claims sum to" in "\n".join((await towned.audit()).details)


async def test_what_is_in_reserve_in_a_later_window_is_found_too(
    towned: Rushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vigil, "VIGIL_ROWS", 3)
    await _more_in_reserve(towned)
    await _tally(towned)
    assert "from_reserve" in await look(towned, count=40)


class TestCampaignLimits:
    """PostgreSQL counts days, weeks and months by itself; the store was given them worked out."""

    @pytest.fixture
    async def rushed(self, stores: Stores, settings: Settings, tmp_path: Path) -> Rushed:
        return Rushed(stores, settings, tmp_path / "claims.jsonl")

    async def launched(self, rushed: Rushed, *drops: str, **campaign: Any) -> None:
        for drop in drops:
            spec = drop_spec(drop, stock=50, limit=9, campaign=membership(*drops, **campaign))
            await rushed.drops.create(spec, BOSS)
            await rushed.drops.launch(drop, BOSS)

    async def over(self, rushed: Rushed, drop: str = "b") -> list[str]:
        await rushed.record()
        async with rushed.stores.ledger.connect() as connection:
            return await evidence.over_campaign(connection, drop)

    async def acts_from(self, rushed: Rushed, instant: str) -> None:
        """As if the drops had been launched then."""
        await rushed.sql(f"update operator_actions set at = '{instant}' where revision = 2")

    @pytest.mark.parametrize(
        ("period", "first", "second", "is_over"),
        [
            ("per_day", "2025-06-14T15:59:59Z", "2025-06-14T16:00:00Z", False),  # midnight in Shanghai
            ("per_day", "2025-06-14T16:00:00Z", "2025-06-15T15:59:59Z", True),
            ("per_week", "2025-06-15T15:59:59Z", "2025-06-15T16:00:00Z", False),  # Sunday, Monday
            ("per_week", "2025-06-15T16:00:00Z", "2025-06-22T15:59:59Z", True),
            ("per_month", "2025-06-30T15:59:59Z", "2025-06-30T16:00:00Z", False),
            ("per_month", "2025-06-30T16:00:00Z", "2025-07-31T15:59:59Z", True),
            ("in_all", "2025-01-01T00:00:00Z", "2025-12-31T00:00:00Z", True),
        ],
    )
    async def test_a_period_is_the_campaigns_own(
        self, rushed: Rushed, period: str, first: str, second: str, is_over: bool
    ) -> None:
        await self.launched(rushed, "a", "b", **{period: 1})
        await rushed.claim_for("m-1", 0, drop_id="a")
        await rushed.claim_for("m-2", 0, drop_id="b")
        await rushed.record()
        await self.acts_from(rushed, "2025-01-01T00:00:00Z")
        await rushed.sql(f"update claims set claimed_at = '{first}', subject = 'm-1' where drop_id = 'a'")
        await rushed.sql(f"update claims set claimed_at = '{second}', subject = 'm-1' where drop_id = 'b'")
        assert [line.partition(":")[0] for line in await self.over(rushed)] == ["b.0.1"] * is_over
        assert await self.over(rushed, "a") == []

    @pytest.mark.parametrize(("first", "is_over"), [("2025-10-25T21:59:00Z", False), ("2025-10-25T22:00:00Z", True)])
    async def test_a_day_on_which_the_clocks_change_has_25_hours(
        self, rushed: Rushed, first: str, is_over: bool
    ) -> None:
        await self.launched(rushed, "a", "b", zone="Europe/Berlin", per_day=1)
        await rushed.claim_for("m-1", 0, drop_id="a")
        await rushed.claim_for("m-2", 0, drop_id="b")
        await rushed.record()
        await self.acts_from(rushed, "2025-01-01T00:00:00Z")
        await rushed.sql(f"update claims set claimed_at = '{first}', subject = 'm-1' where drop_id = 'a'")
        await rushed.sql("update claims set claimed_at = '2025-10-26T22:59:00Z', subject = 'm-1' where drop_id = 'b'")
        assert bool(await self.over(rushed)) is is_over

    async def test_what_was_given_back_counts_no_more(self, rushed: Rushed) -> None:
        await self.launched(rushed, "a", "b", in_all=1)
        first = await rushed.claim_for("m-1", 0, drop_id="a")
        await rushed.record()
        await rushed.claims.release(first.claim_id, "boss", "ill")
        await rushed.claim_for("m-1", 0, drop_id="b")
        assert await self.over(rushed) == []

    async def test_a_limit_that_was_changed_counts_from_then_on(self, rushed: Rushed) -> None:
        await self.launched(rushed, "a", "b", in_all=3)
        await rushed.claim_for("m-1", 0, drop_id="a", quantity=2)
        await rushed.claim_for("m-1", 0, drop_id="b")
        await rushed.drops.amend("b", {"campaign": membership("a", "b", in_all=2)}, None, BOSS)
        with pytest.raises(CampaignLimitReached):
            await rushed.claim_for("m-1", 0, drop_id="b")
        assert await self.over(rushed) == []
        await rushed.sql("update claims set claimed_at = claimed_at + interval '1 minute' where drop_id = 'b'")
        assert await self.over(rushed) == ["b.0.1: m-1 holds 3 units in all, the campaign's limit is 2"]

    async def test_claims_from_before_a_drop_joined_are_judged_without_it(self, rushed: Rushed) -> None:
        await rushed.drops.create(drop_spec("lone", stock=50, limit=9), BOSS)
        await rushed.drops.launch("lone", BOSS)
        await self.launched(rushed, "a", "b", in_all=1)
        await rushed.claim_for("m-1", 0, drop_id="lone", quantity=2)
        await rushed.claim_for("m-1", 0, drop_id="b")
        for drop in ("lone", "a", "b"):
            await rushed.drops.amend(drop, {"campaign": membership("a", "b", "lone", in_all=1)}, None, BOSS)
        assert [await self.over(rushed, drop) for drop in ("lone", "a", "b")] == [[], [], []]

    async def test_the_store_and_postgresql_agree_on_a_random_crowd(self, rushed: Rushed) -> None:
        chance = random.Random(3)
        await self.launched(rushed, "a", "b", "c", per_day=2, per_week=3, in_all=4)
        refused = 0
        for _ in range(150):
            drop, member = chance.choice("abc"), f"m-{chance.randrange(20)}"
            try:
                await rushed.claim_for(member, 0, drop_id=drop, quantity=chance.choice([1, 1, 2]))
            except (CampaignLimitReached, LimitReached, SoldOut):
                refused += 1
        assert refused > 30
        assert [await self.over(rushed, drop) for drop in "abc"] == [[], [], []]
        async with rushed.stores.ledger.connect() as connection:
            units = await connection.scalar(
                text("select max(sum) from (select sum(quantity) from claims group by subject) s")
            )
        assert 2 <= units <= 4  # four where midnight came between
