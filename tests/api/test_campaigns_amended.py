"""The promise: an amendment is reviewed before it is done, as it is done, and the review counts right."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from engine.campaigns import review
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.api.test_campaigns import launched, standing
from tests.factories.campaigns import campaign_json, part
from tests.factories.ledger import record_all

PATH = "/v1/campaigns/autumn/amendments"


async def ask(api: Api, change: Any, revision: int, query: str = "dry_run=true") -> httpx.Response:
    return await api.operate("POST", f"{PATH}?{query}", change, **{"If-Match": f'"{revision}"'})


async def reviewed(api: Api, change: Mapping[str, Any], revision: int) -> dict[str, Any]:
    answer = await ask(api, change, revision)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def amend(api: Api, change: Mapping[str, Any], revision: int) -> httpx.Response:
    token = (await reviewed(api, change, revision))["review"]
    return await ask(api, change, revision, f"review={token}")


class TestMalformed:
    async def test_without_a_revision(self, api: Api) -> None:
        await launched(api)
        for headers in ({}, {"If-Match": "*"}, {"If-Match": '"²"'}, {"If-Match": '"99999999999"'}):
            raw = [
                (name.encode(), value.encode()) for name, value in (headers | api.bearer("boss", "operator")).items()
            ]
            problem(await api.client.post(PATH, json={}, headers=raw), 428, "revision-required")

    @pytest.mark.parametrize("query", ["", "review=", "review=abc", "review=" + "0" * 32])
    async def test_without_its_review(self, api: Api, query: str) -> None:
        await launched(api)
        problem(await ask(api, {"limits": {}}, 2, query), 428, "review-required")
        problem(await ask(api, {"limits": {}}, 2, "review=" + "0" * 65), 422, "invalid")
        other = (await reviewed(api, {"limits": {"in_all": 3}}, 2))["review"]
        problem(await ask(api, {"limits": {}}, 2, f"review={other}"), 428, "review-required")
        assert (await api.operate("GET", "/v1/campaigns/autumn")).json()["revision"] == 2

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"limts": {}}, "did you mean 'limits'?"),
            ({"id": "winter"}, "cannot be amended"),
            ({"status": "closed"}, "cannot be amended"),
            ({"drops": [part("goose")]}, "'mooncake' is missing"),
            (
                {"drops": [part("goose", stock=11), part("mooncake")]},
                "drops.0.items: cannot be amended after the launch",
            ),
            ({"organisation": "dalang"}, "drops.0.organisation: cannot be amended after the launch"),
            ({"closes_at": "2001-01-01T00:00:00Z"}, "ends"),
            ({"limits": {"in_all": True}}, "limits.in_all"),
            ([], "expected names and values"),
        ],
    )
    async def test_what_cannot_be(self, api: Api, change: Any, words: str) -> None:
        await launched(api)
        assert words in problem(await ask(api, change, 2), 422, "campaign-invalid")["detail"]
        given = change if isinstance(change, dict) else {}
        token = review.token("autumn", 2, given)
        problem(await ask(api, change, 2, f"review={token}"), 422, "campaign-invalid")
        assert (await api.operate("GET", "/v1/campaigns/autumn")).json()["revision"] == 2

    async def test_what_a_drops_clock_forbids_is_told_by_the_review(self, api: Api) -> None:
        await launched(api)
        opens = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        assert "has opened already" in problem(await ask(api, {"opens_at": opens}, 2), 422, "spec-invalid")["detail"]

    async def test_another_revision(self, api: Api) -> None:
        await launched(api)
        change = {"limits": {"in_all": 2}}
        for seen in (1, 3):
            problem(await ask(api, change, seen), 412, "stale-revision")
            token = review.token("autumn", seen, change)
            problem(await ask(api, change, seen, f"review={token}"), 412, "stale-revision")

    async def test_a_campaign_that_is_closed(self, api: Api) -> None:
        await launched(api)
        await api.operate("POST", "/v1/campaigns/autumn/close")
        problem(await ask(api, {"limits": {}}, 3), 409, "wrong-status")


class TestReviews:
    async def test_count_whom_a_lower_limit_concerns(self, api: Api, stores: Stores) -> None:
        await launched(api, limits={"in_all": 4, "per_day": 4})
        for member, drop_id, quantity in (("m-1", "goose", 2), ("m-1", "mooncake", 2), ("m-2", "goose", 1)):
            answer = await api.claim(await api.ticket(member, drop_id, quantity=quantity), drop_id)
            assert answer.status_code == 201
        await record_all(stores)
        found = await reviewed(api, {"limits": {"in_all": 3, "per_day": 1, "per_month": 5}}, 2)
        told = {limit["limit"]: limit for limit in found["limits"]}
        assert {name: (limit["before"], limit["after"]) for name, limit in told.items()} == {
            "in_all": (4, 3),
            "per_day": (4, 1),
            "per_month": (None, 5),
        }
        over = {
            name: (limit["persons_over"], limit["claims_of_theirs"], limit["units_over"])
            for name, limit in told.items()
        }
        assert over == {"in_all": (1, 2, 1), "per_day": (1, 2, 3), "per_month": (0, 0, 0)}
        assert {field["field"] for field in found["fields"]} == {"limits.in_all", "limits.per_day", "limits.per_month"}
        assert [drop["act"] for drop in found["drops_told"]] == ["amend", "amend"]
        assert (await reviewed(api, {"limits": {"in_all": 9}}, 2))["limits"] == []

    async def test_count_who_gains_and_who_loses(self, api: Api) -> None:
        for number, town in enumerate(("大朗", "大朗", "东坑", "虎门")):
            await api.operate("PUT", f"/v1/members/m-{number}", {"attributes": {"town": town}})
        await api.operate("PUT", "/v1/members/nobody", {"attributes": {}})
        await launched(api, eligibility={"town": {"in": ["大朗"]}})
        found = await reviewed(api, {"eligibility": {"town": {"in": ["东坑"]}}}, 2)
        assert found["eligibility"] == [
            {"drop_id": drop_id, "members_gaining": 1, "members_losing": 2} for drop_id in ("goose", "mooncake")
        ]
        found = await reviewed(api, {"eligibility": {}}, 2)
        assert [(of["members_gaining"], of["members_losing"]) for of in found["eligibility"]] == [(3, 0)] * 2

    async def test_name_the_windows_that_change(self, api: Api, stores: Stores) -> None:
        await launched(api)
        assert (await api.claim(await api.ticket("m-1", "goose"), "goose")).status_code == 201
        await record_all(stores)
        closes = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
        found = await reviewed(api, {"closes_at": closes}, 2)
        assert [(of["drop_id"], of["claims_held"]) for of in found["windows"]] == [("goose", 1), ("mooncake", 0)]
        assert {datetime.fromisoformat(of["after"][1]) for of in found["windows"]} == {datetime.fromisoformat(closes)}

    async def test_do_nothing(self, api: Api) -> None:
        await launched(api)
        before = (await api.operate("GET", "/v1/campaigns/autumn")).json()
        await reviewed(api, {"limits": {"in_all": 9}, "drops": [part("goose"), part("mooncake"), part("meat")]}, 2)
        assert (await api.operate("GET", "/v1/campaigns/autumn")).json() == before
        problem(await api.operate("GET", "/v1/drops/meat"), 404, "no-such-drop")


class TestAmendments:
    async def test_reach_every_drop(self, api: Api) -> None:
        await launched(api)
        assert (await amend(api, {"limits": {"in_all": 2}}, 2)).status_code == 200
        assert (await api.claim(await api.ticket("m-1", "goose", quantity=2), "goose")).status_code == 201
        problem(await api.claim(await api.ticket("m-1", "mooncake"), "mooncake"), 409, "campaign-limit-reached")

    async def test_sent_again_are_answered_as_done(self, api: Api) -> None:
        await launched(api)
        change = {"limits": {"in_all": 2}}
        token = (await reviewed(api, change, 2))["review"]
        answers = [await ask(api, change, 2, f"review={token}") for _ in range(3)]
        assert [(answer.status_code, answer.json()["revision"]) for answer in answers] == [(200, 3)] * 3

    async def test_bring_a_drop_in_that_counts_with_the_others_at_once(self, api: Api) -> None:
        await launched(api)
        assert (await api.claim(await api.ticket("m-1", "goose"), "goose")).status_code == 201
        change = {"drops": [part("goose"), part("mooncake"), part("meat")]}
        acts = [(told["drop_id"], told["act"]) for told in (await reviewed(api, change, 2))["drops_told"]]
        assert acts == [("meat", "create"), ("goose", "amend"), ("mooncake", "amend"), ("meat", "launch")]
        assert (await amend(api, change, 2)).status_code == 200
        assert await standing(api) == ["launched"] * 3
        problem(await api.claim(await api.ticket("m-1", "meat"), "meat"), 409, "campaign-limit-reached")
        assert (await api.claim(await api.ticket("m-2", "meat"), "meat")).status_code == 201
        problem(await api.claim(await api.ticket("m-2", "goose"), "goose"), 409, "campaign-limit-reached")

    async def test_leave_what_was_restocked_and_what_was_closed(self, api: Api) -> None:
        await launched(api)
        assert (await api.operate("POST", "/v1/drops/goose/restock", {"item": "box", "quantity": 5})).status_code == 200
        assert (await api.operate("POST", "/v1/drops/mooncake/close")).status_code == 200
        assert (await amend(api, {"limits": {"in_all": 2}}, 2)).status_code == 200
        assert await standing(api) == ["launched", "closed"]
        assert (await api.operate("GET", "/v1/drops/goose")).json()["items"][0]["stock"] == 15
        assert (await api.claim(await api.ticket("m-1", "goose"), "goose")).status_code == 201

    async def test_of_a_draft_change_anything_but_who_is_in_it(self, api: Api) -> None:
        opens = datetime.now(UTC) + timedelta(hours=1)
        waves = [{"at": opens.isoformat(), "stock": {"box": 10}}]
        body = campaign_json(opens_at=opens, drops=[part("goose", waves=waves), part("mooncake")])
        assert (await api.operate("POST", "/v1/campaigns", body)).status_code == 201
        earlier = (opens - timedelta(minutes=30)).isoformat()
        assert (await amend(api, {"opens_at": earlier}, 1)).status_code == 200
        drop = (await api.operate("GET", "/v1/drops/goose")).json()
        assert datetime.fromisoformat(drop["waves"][0]["at"]) == datetime.fromisoformat(earlier)
        stocked = {"drops": [part("goose", stock=77), part("mooncake")]}
        assert (await amend(api, stocked, 2)).status_code == 200
        assert (await api.operate("GET", "/v1/drops/goose")).json()["items"][0]["stock"] == 77
        problem(await ask(api, {"drops": [part("goose")]}, 3), 422, "campaign-invalid")
