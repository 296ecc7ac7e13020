"""The promise: a dry run says what the ticket and the claim would answer, every reason at once, and changes nothing."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.members.model import Session
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.api.test_campaigns import create, launched
from tests.factories.campaigns import part
from tests.factories.ledger import record_all


async def told(api: Api, member: str = "m-1") -> dict[str, Any]:
    answer = await api.operate("GET", f"/v1/campaigns/autumn/dry-run?member={member}")
    assert answer.status_code == 200, answer.text
    return {drop["drop_id"]: drop for drop in answer.json()["drops"]}


def codes(drop: dict[str, Any]) -> list[tuple[str, str]]:
    return [(reason["code"], reason["stops"]) for reason in drop["reasons"]]


async def test_malformed(api: Api) -> None:
    await launched(api)
    problem(await api.operate("GET", "/v1/campaigns/autumn/dry-run"), 422, "invalid")
    for member in ("", "a b", "%00", "x" * 65, "-m"):
        problem(await api.operate("GET", f"/v1/campaigns/autumn/dry-run?member={member}"), 422, "id-invalid")


async def test_who_may_claim_is_told_so(api: Api) -> None:
    await launched(api)
    for drop in (await told(api)).values():
        assert (drop["ticket"], drop["claim"], drop["reasons"], drop["left"]) == (True, True, [], {"box": 10})


async def test_a_draft_says_when_it_opens(api: Api) -> None:
    await create(api, opens_at=datetime.now(UTC) + timedelta(hours=1))
    drop = (await told(api))["goose"]
    assert (drop["ticket"], codes(drop)) == (False, [("not-open", "ticket")])


async def test_a_ticket_is_there_before_the_opening(api: Api) -> None:
    await launched(api, opens_at=datetime.now(UTC) + timedelta(hours=1))
    drop = (await told(api))["goose"]
    assert (drop["ticket"], drop["claim"], codes(drop)) == (True, False, [("not-open", "claim")])


async def test_every_condition_is_told_and_every_reason(api: Api) -> None:
    eligibility = {"town": {"in": ["大朗"]}, "sector": {"in": ["courier"]}}
    await launched(api, drops=[part("goose", stock=0, eligibility=eligibility), part("mooncake")])
    await api.operate("PUT", "/v1/members/m-1", {"attributes": {"town": "东坑"}})
    drop = (await told(api))["goose"]
    assert codes(drop) == [("not-eligible", "ticket"), ("not-eligible", "ticket"), ("sold-out", "claim")]
    assert {reason.get("attribute") for reason in drop["reasons"]} == {"town", "sector", None}
    answer = await api.client.post("/v1/drops/goose/ticket", json={}, headers=api.bearer("m-1", town="东坑"))
    assert drop["reasons"][0]["detail"] == problem(answer, 403, "not-eligible")["detail"]


async def test_limits_say_what_is_held_and_when_they_count_anew(api: Api) -> None:
    await launched(api, limits={"per_day": 2, "in_all": 5}, drops=[part("goose", limit=2), part("mooncake")])
    assert (await api.claim(await api.ticket("m-1", "goose", quantity=2), "goose")).status_code == 201
    found = await told(api)
    assert codes(found["goose"]) == [("limit-reached", "claim"), ("campaign-limit-reached", "claim")]
    assert codes(found["mooncake"]) == [("campaign-limit-reached", "claim")]
    limits = {limit["limit"]: limit for limit in found["mooncake"]["limits"]}
    assert {name: (of["held"], of["remaining"]) for name, of in limits.items()} == {
        "limit_per_member": (0, 5),
        "in_all": (2, 3),
        "per_day": (2, 0),
    }
    answer = problem(await api.claim(await api.ticket("m-1", "mooncake"), "mooncake"), 409, "campaign-limit-reached")
    reason = found["mooncake"]["reasons"][0]
    for name in ("detail", "held", "limit"):
        assert reason[name] == answer[name]
    assert datetime.fromisoformat(reason["counts_anew_at"]) == datetime.fromisoformat(answer["counts_anew_at"])
    assert codes((await told(api, "m-2"))["mooncake"]) == []


async def test_what_was_given_back_is_not_held(api: Api, stores: Stores) -> None:
    await launched(api)
    claim = (await api.claim(await api.ticket("m-1", "goose"), "goose")).json()
    await record_all(stores)
    assert codes((await told(api))["mooncake"]) == [("campaign-limit-reached", "claim")]
    assert (await api.operate("POST", f"/v1/claims/{claim['claim_id']}/release")).status_code == 200
    assert codes((await told(api))["mooncake"]) == []


async def test_the_person_behind_two_accounts_is_one(api: Api) -> None:
    await launched(api)
    await api.operate("PUT", "/v1/members/m-2", {"attributes": {}, "subject": "person"})
    headers = {"Authorization": f"Bearer {api.tokens.issue(Session('m-1', 'person'), 600)}"}
    ticket = (await api.client.post("/v1/drops/goose/ticket", json={}, headers=headers)).json()["ticket"]
    assert (await api.claim(ticket, "goose")).status_code == 201
    assert codes((await told(api, "m-2"))["mooncake"]) == [("campaign-limit-reached", "claim")]
    assert codes((await told(api, "m-1"))["mooncake"]) == []


async def test_gates_are_named_and_not_asked(api: Api) -> None:
    choices = [{"id": "health", "text": {"en": "Health"}}]
    await launched(api, gates={"proof_of_work": {"bits": 4}, "slogan": {"choices": choices}, "list": "couriers"})
    drop = (await told(api))["goose"]
    assert drop["ticket"]
    assert drop["gates"] == [
        {"gate": "list"},
        {"gate": "slogan", "choices": choices},
        {"gate": "proof-of-work", "bits": 4},
    ]


async def test_pause_and_close(api: Api) -> None:
    await launched(api)
    await api.operate("POST", "/v1/drops/goose/pause")
    await api.operate("POST", "/v1/drops/mooncake/close")
    await asyncio.sleep(1.1)  # a drop is remembered for a second
    found = await told(api)
    assert codes(found["goose"]) == [("paused", "claim")]
    assert codes(found["mooncake"]) == [("closed", "ticket")]


async def test_nothing_is_changed_by_it(api: Api, stores: Stores) -> None:
    await launched(api)
    await record_all(stores)
    names = sorted(await stores.redis.keys("*"))
    before = [await stores.redis.dump(name) for name in names]
    for member in ("m-1", "m-2", "nobody"):
        await told(api, member)
        assert (await api.client.get("/v1/me/campaigns/autumn", headers=api.bearer(member))).status_code == 200
    assert sorted(await stores.redis.keys("*")) == names
    assert [await stores.redis.dump(name) for name in names] == before


async def test_a_member_gets_the_same_answer_for_themself(api: Api) -> None:
    await launched(api, eligibility={"town": {"in": ["大朗"]}})
    answer = (await api.client.get("/v1/me/campaigns/autumn", headers=api.bearer("m-1", town="大朗"))).json()
    assert [drop["claim"] for drop in answer["drops"]] == [True, True]
    answer = (await api.client.get("/v1/me/campaigns/autumn", headers=api.bearer("m-1", town="东坑"))).json()
    assert [codes(drop) for drop in answer["drops"]] == [[("not-eligible", "ticket")]] * 2
