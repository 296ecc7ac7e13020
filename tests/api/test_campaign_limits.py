"""The promise: a limit over a campaign's drops holds for the person, says which it is, and counts anew when it says."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from engine.drops.model import Actor
from engine.drops.service import Drops
from engine.drops.spec import SpecInvalid, parse
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.factories.drops import drop_json
from tests.factories.ledger import record_all

BOSS = Actor("boss")
ZONE = "Asia/Shanghai"


async def campaign(stores: Stores, *drop_ids: str, family: tuple[str, ...] = (), **limits: int) -> Drops:
    """Launch drops of one campaign."""
    drops = Drops(stores.redis, stores.scripts, stores.ledger, 1)
    membership = {"id": "autumn", "time_zone": ZONE, "limits": limits, "drops": family or drop_ids}
    for drop_id in drop_ids:
        await drops.create(parse(drop_json(drop_id, limit=5, campaign=membership), "test"), BOSS)
    for drop_id in drop_ids:
        await drops.launch(drop_id, BOSS)
    return drops


async def test_one_gift_a_day_is_one_over_all_drops(api: Api, stores: Stores) -> None:
    await campaign(stores, "goose", "mooncake", per_day=1, in_all=3)
    assert (await api.claim(await api.ticket(drop_id="goose"), "goose")).status_code == 201
    found = problem(await api.claim(await api.ticket(drop_id="mooncake"), "mooncake"), 409, "campaign-limit-reached")
    assert (found["limit"], found["limit_per_person"], found["held"], found["remaining"]) == ("per_day", 1, 1, 0)
    midnight = datetime.combine(datetime.now(ZoneInfo(ZONE)).date() + timedelta(days=1), datetime.min.time())
    assert datetime.fromisoformat(found["counts_anew_at"]) == midnight.replace(tzinfo=ZoneInfo(ZONE))
    assert (await api.claim(await api.ticket("m-2", "mooncake"), "mooncake")).status_code == 201


async def test_a_limit_in_all_names_no_time(api: Api, stores: Stores) -> None:
    await campaign(stores, "goose", "mooncake", in_all=2)
    assert (await api.claim(await api.ticket(drop_id="goose", quantity=2), "goose")).status_code == 201
    found = problem(await api.claim(await api.ticket(drop_id="mooncake"), "mooncake"), 409, "campaign-limit-reached")
    assert (found["limit"], found["counts_anew_at"]) == ("in_all", None)


async def test_a_race_over_three_drops_has_as_many_winners_as_the_limit(api: Api, stores: Stores) -> None:
    names = ("goose", "mooncake", "meat")
    await campaign(stores, *names, in_all=2)
    tickets = [(name, await api.ticket(drop_id=name)) for name in names * 8]
    answers = await asyncio.gather(*(api.claim(ticket, name) for name, ticket in tickets))
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 22


async def test_what_is_given_back_counts_no_more(api: Api, stores: Stores) -> None:
    await campaign(stores, "goose", "mooncake", in_all=1)
    told = (await api.claim(await api.ticket(drop_id="goose"), "goose")).json()
    await record_all(stores)
    assert (await api.operate("POST", f"/v1/claims/{told['claim_id']}/release")).status_code == 200
    assert (await api.claim(await api.ticket(drop_id="mooncake"), "mooncake")).status_code == 201


async def test_a_drop_that_joins_counts_with_the_others_at_once(api: Api, stores: Stores) -> None:
    """A process that does not know of it yet is told so by the store, asks the ledger, and asks again."""
    drops = await campaign(stores, "goose", "mooncake", in_all=1)
    assert (await api.claim(await api.ticket("m-1", "goose"), "goose")).status_code == 201
    everyone = {"id": "autumn", "time_zone": ZONE, "limits": {"in_all": 1}, "drops": ["goose", "mooncake", "meat"]}
    await drops.create(parse(drop_json("meat", limit=5, campaign=everyone), "test"), BOSS)
    for drop_id in ("goose", "mooncake"):
        await drops.amend(drop_id, {"campaign": everyone}, None, BOSS)
    await drops.launch("meat", BOSS)
    problem(await api.claim(await api.ticket("m-1", "meat"), "meat"), 409, "campaign-limit-reached")
    assert (await api.claim(await api.ticket("m-2", "meat"), "meat")).status_code == 201
    problem(await api.claim(await api.ticket("m-2", "goose"), "goose"), 409, "campaign-limit-reached")


async def test_while_one_of_the_drops_is_missing_none_decides(api: Api, stores: Stores) -> None:
    await campaign(stores, "goose", "mooncake", in_all=1)
    shown = await api.ticket(drop_id="goose")
    assert (await api.claim(shown, "goose")).status_code == 201
    await stores.redis.delete("fc:{0}:drop:mooncake")
    problem(await api.claim(await api.ticket("m-2", "goose"), "goose"), 503, "not-ready")
    assert (await api.claim(shown, "goose")).status_code == 200


async def test_a_drop_whose_family_is_not_all_there_is_not_ready(api: Api, stores: Stores) -> None:
    await campaign(stores, "goose", family=("goose", "never-made"), in_all=1)
    problem(await api.claim(await api.ticket(drop_id="goose"), "goose"), 503, "not-ready")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"time_zone": "Asia/Nowhere"}, "is no time zone"),
        ({"limits": {"per_year": 1}}, "unknown name"),
        ({"limits": {"per_day": 0}}, "greater than or equal to 1"),
        ({"drops": ["goose", "goose"]}, "stands twice"),
        ({"drops": ["mooncake"]}, "not among them"),
        ({"drops": ["goose", *(f"d-{number}" for number in range(16))]}, "at most 16"),
        ({"drops": ["goose", "a b"]}, "id"),
    ],
)
def test_a_place_in_a_campaign_that_makes_no_sense_is_refused(change: dict[str, object], words: str) -> None:
    """It is written by the campaign; whoever wrote another one would be told so."""
    membership = {"id": "autumn", "time_zone": ZONE, "limits": {"in_all": 1}, "drops": ["goose"], **change}
    with pytest.raises(SpecInvalid, match=words):
        parse(drop_json("goose", campaign=membership), "test")


async def test_stock_in_reserve_for_a_town_is_for_its_members_until_it_flows_back(api: Api) -> None:
    opens, until = datetime.now(UTC) - timedelta(minutes=1), datetime.now(UTC) + timedelta(seconds=2)
    reserve = [{"item": "box", "town": "Dalang", "stock": 2, "until": until.isoformat()}]
    await api.launched(opens_at=opens, stock=3, limit=1, allotments=reserve)

    async def take(name: str, town: str) -> str:
        headers = api.bearer(name, town=town)
        answer = await api.client.post("/v1/drops/trial/ticket", json={}, headers=headers)
        return str(answer.json()["ticket"])

    assert (await api.claim(await take("m-1", "东坑"))).status_code == 201
    waiting = await take("m-2", "东坑")
    found = problem(await api.claim(waiting), 409, "sold-out")
    assert abs(datetime.fromisoformat(found["next_release_at"]) - until) < timedelta(milliseconds=2)
    assert (await api.claim(await take("m-3", "大朗"))).status_code == 201
    await asyncio.sleep((until - datetime.now(UTC)).total_seconds() + 0.05)
    assert (await api.claim(waiting)).status_code == 201
    problem(await api.claim(await take("m-4", "大朗")), 409, "sold-out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"town": "大郎"}, "did you mean '大朗'?"),
        ({"stock": 11}, "more units of 'box' than are there at the opening"),
        ({"item": "bix"}, "did you mean 'box'?"),
        ({"until": "2001-01-01T00:00:00Z"}, "outside the drop's window"),
        ({"stock": -1}, "greater than or equal to 1"),
        ({"extra": 1}, "unknown name"),
    ],
)
async def test_a_reserve_that_makes_no_sense_is_refused(api: Api, change: dict[str, object], words: str) -> None:
    opens = datetime.now(UTC)
    reserve = {"item": "box", "town": "大朗", "stock": 2, "until": (opens + timedelta(minutes=30)).isoformat()}
    body = drop_json("trial", opens, allotments=[{**reserve, **change}])
    assert words in str(problem(await api.operate("POST", "/v1/drops", body), 422, "spec-invalid")["errors"])
