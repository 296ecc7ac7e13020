"""The promise: an act on a campaign is done on all its drops, by operators alone; what makes no sense does nothing."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.ledger import actions
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.factories.campaigns import campaign_json, part
from tests.factories.drops import drop_json


async def create(api: Api, *drop_ids: str, **more: Any) -> dict[str, Any]:
    answer = await api.operate("POST", "/v1/campaigns", campaign_json(*drop_ids, **more))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def launched(api: Api, *drop_ids: str, **more: Any) -> None:
    await create(api, *drop_ids, **more)
    answer = await api.operate("POST", "/v1/campaigns/autumn/launch")
    assert answer.status_code == 200, answer.text


async def standing(api: Api) -> list[str]:
    found = (await api.operate("GET", "/v1/campaigns/autumn")).json()["standing"]
    return [drop["status"] for drop in found]


class TestMalformed:
    @pytest.mark.parametrize(
        ("change", "field", "words"),
        [
            ({"tehme": {}}, "tehme", "did you mean 'theme'?"),
            ({"theme": {}}, "theme", "at least 1"),
            ({"theme": {"en": "a\x00b"}}, "theme.en", "control character"),
            ({"text": {"en": "a\x1bb"}}, "text.en", "control character"),
            ({"text": {"en": "x" * 4_001}}, "text.en", "at most 4000"),
            ({"time_zone": "Asia/Nowhere"}, "time_zone", "is no time zone"),
            ({"time_zone": "../../etc/passwd"}, "time_zone", "is no time zone"),
            ({"limits": {"per_year": 1}}, "limits.per_year", "unknown name"),
            ({"limits": {"in_all": 0}}, "limits.in_all", "greater than or equal to 1"),
            ({"closes_at": "2001-01-01T00:00:00Z"}, "closes_at", "ends"),
            ({"opens_at": "tomorrow"}, "opens_at", "datetime"),
            ({"drops": []}, "drops", "at least 1"),
            ({"drops": {}}, "drops", "tuple"),
            ({"drops": [part(f"d-{number}") for number in range(17)]}, "drops", "at most 16"),
            ({"drops": [part("goose"), part("goose")]}, "drops.1.id", "stands twice"),
            ({"drops": [part("goose", limt_per_member=1)]}, "drops.0.limt_per_member", "'limit_per_member'?"),
            ({"drops": [part("goose", items=[])]}, "drops.0.items", "at least 1"),
            ({"drops": ["goose"]}, "drops.0", "valid dictionary"),
            ({"drops": [part("goose", closes_at="2099-01-01T00:00:00Z")]}, "drops.0.closes_at", "outside the campaign"),
            ({"drops": [part("goose", opens_at="2001-01-01T00:00:00Z")]}, "drops.0.opens_at", "outside the campaign"),
            ({"counts": ["gose"]}, "counts.0", "did you mean 'goose'?"),
            ({"counts": ["goose", "goose"]}, "counts.1", "stands twice"),
            ({"id": "a b"}, "id", "is not an id"),
        ],
    )
    async def test_it_is_told_by_field_and_makes_nothing(
        self, api: Api, change: dict[str, Any], field: str, words: str
    ) -> None:
        answer = await api.operate("POST", "/v1/campaigns", campaign_json() | change)
        errors = problem(answer, 422, "campaign-invalid")["errors"]
        assert [error for error in errors if error["field"] == field and words in error["problem"]], errors
        assert (await api.operate("GET", "/v1/campaigns")).json()["campaigns"] == []
        assert (await api.operate("GET", "/v1/drops")).json()["drops"] == []

    async def test_what_the_campaign_lacks_is_told_once(self, api: Api) -> None:
        body = campaign_json()
        del body["organisation"]
        errors = problem(await api.operate("POST", "/v1/campaigns", body), 422, "campaign-invalid")["errors"]
        assert errors == [{"field": "organisation", "problem": "is missing"}]

    async def test_a_drop_names_its_campaign_nowhere(self, api: Api) -> None:
        membership = {"id": "autumn", "time_zone": "Asia/Shanghai", "drops": ["goose"]}
        body = campaign_json(drops=[part("goose", campaign=membership)])
        assert "leave it out" in str(problem(await api.operate("POST", "/v1/campaigns", body), 422, "campaign-invalid"))
        answer = await api.operate("POST", "/v1/drops", drop_json("goose", campaign=membership))
        assert "name the drop in the campaign" in problem(answer, 422, "spec-invalid")["detail"]
        await api.launched("trial")
        change = {"campaign": membership}
        problem(await api.operate("PATCH", "/v1/drops/trial", change, **{"If-Match": '"2"'}), 422, "spec-invalid")

    @pytest.mark.parametrize("body", [None, 5, "x", [], {}])
    async def test_no_definition_at_all(self, api: Api, body: Any) -> None:
        problem(await api.operate("POST", "/v1/campaigns", body if body is not None else 0), 422, "campaign-invalid")

    @pytest.mark.parametrize("name", ["nothing", "A", "a%00b", "%C0", "x" * 300, "..", "autumn%2F.."])
    async def test_ids_that_nobody_has(self, api: Api, name: str) -> None:
        await create(api)
        for way in ("", "/dry-run?member=m-1"):
            assert (await api.operate("GET", f"/v1/campaigns/{name}{way}")).status_code == 404
        for act in ("launch", "pause", "resume", "close"):
            assert (await api.operate("POST", f"/v1/campaigns/{name}/{act}")).status_code in (404, 405)
        assert (await api.client.get(f"/v1/me/campaigns/{name}", headers=api.bearer())).status_code == 404

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"id": "next"},
            {"id": "next", "opens_on": "soon"},
            {"id": "next", "opens_on": 20270908},
            {"id": "next", "opens_on": "2027-02-30"},
            {"id": 5, "opens_on": "2027-09-08"},
        ],
    )
    async def test_copies(self, api: Api, body: dict[str, Any]) -> None:
        await create(api)
        problem(await api.operate("POST", "/v1/campaigns/autumn/copies", body), 422, "copy-invalid")
        more = {"id": "next", "opens_on": "2027-09-08", "more": 1}
        problem(await api.operate("POST", "/v1/campaigns/autumn/copies", more), 422, "invalid")
        wrong = {"id": "a b", "opens_on": "2027-09-08"}
        problem(await api.operate("POST", "/v1/campaigns/autumn/copies", wrong), 422, "id-invalid")


class TestAccess:
    async def test_members_and_strangers_steer_nothing(self, api: Api) -> None:
        await launched(api)
        for method, path in (
            ("POST", ""),
            ("GET", ""),
            ("GET", "/autumn"),
            ("GET", "/autumn/dry-run?member=m-2"),
            ("POST", "/autumn/amendments"),
            ("POST", "/autumn/amendments?dry_run=true"),
            ("POST", "/autumn/copies"),
            *(("POST", f"/autumn/{act}") for act in ("launch", "pause", "resume", "close")),
        ):
            for headers, status in (({}, 401), (api.bearer("m-1"), 403), ({"Authorization": "Bearer x.y.z"}, 401)):
                answer = await api.client.request(method, f"/v1/campaigns{path}", json={}, headers=headers)
                assert answer.status_code == status, (path, answer.text)
        assert await standing(api) == ["launched", "launched"]

    async def test_a_draft_is_not_there_for_members(self, api: Api) -> None:
        await create(api)
        headers = api.bearer("m-1")
        draft = await api.client.get("/v1/me/campaigns/autumn", headers=headers)
        nothing = await api.client.get("/v1/me/campaigns/nothing", headers=headers)
        problem(draft, 404, "no-such-campaign")
        assert draft.text.replace("autumn", "nothing") == nothing.text

    async def test_a_member_sees_their_own_alone(self, api: Api) -> None:
        await launched(api)
        assert (await api.claim(await api.ticket("m-2", "goose"), "goose")).status_code == 201
        for query in ("", "?member=m-2", "?member_id=m-2&subject=m-2"):
            found = (await api.client.get(f"/v1/me/campaigns/autumn{query}", headers=api.bearer("m-1"))).json()
            assert found["member_id"] == "m-1"
            assert [drop["limits"][0]["held"] for drop in found["drops"]] == [0, 0]


class TestActs:
    async def test_go_through_all_drops(self, api: Api) -> None:
        assert [drop["status"] for drop in (await create(api))["standing"]] == ["draft", "draft"]
        for act, status in (("launch", "launched"), ("pause", "paused"), ("resume", "launched"), ("close", "closed")):
            answer = await api.operate("POST", f"/v1/campaigns/autumn/{act}")
            assert (answer.json()["status"], await standing(api)) == (status, [status] * 2)

    async def test_follow_the_status(self, api: Api) -> None:
        await create(api)
        for act in ("pause", "resume", "close"):
            problem(await api.operate("POST", f"/v1/campaigns/autumn/{act}"), 409, "wrong-status")
        for act in ("launch", "close"):
            assert (await api.operate("POST", f"/v1/campaigns/autumn/{act}")).status_code == 200
        for act in ("launch", "pause", "resume"):
            problem(await api.operate("POST", f"/v1/campaigns/autumn/{act}"), 409, "wrong-status")

    async def test_sent_twice_or_at_once_are_done_once(self, api: Api, stores: Stores) -> None:
        body = campaign_json()
        answers = await asyncio.gather(*(api.operate("POST", "/v1/campaigns", body) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {201}
        for act in ("launch", "pause", "resume"):
            answers = await asyncio.gather(*(api.operate("POST", f"/v1/campaigns/autumn/{act}") for _ in range(5)))
            assert {answer.status_code for answer in answers} == {200}
        found = (await api.operate("GET", "/v1/campaigns/autumn")).json()
        assert (found["revision"], [drop["revision"] for drop in found["standing"]]) == (4, [4, 4])
        async with stores.ledger.connect() as connection:
            links = await actions.chain(connection)
        acts = [(link.action.object, link.action.verb) for link in links]
        assert [verb for name, verb in acts if name == "campaign:autumn"] == ["create", "launch", "pause", "resume"]
        assert len(acts) == 4 * 3
        assert actions.broken_links(links) == []

    async def test_an_id_is_taken_once(self, api: Api) -> None:
        await create(api)
        other = campaign_json("meat")
        problem(await api.operate("POST", "/v1/campaigns", other), 409, "duplicate-campaign")
        problem(await api.operate("POST", "/v1/campaigns", {**other, "id": "winter", "drops": [part("goose")]}), 409,
                "duplicate-drop")  # fmt: skip
        await api.launched("trial")
        problem(await api.operate("POST", "/v1/campaigns", {**other, "id": "winter", "drops": [part("trial")]}), 409,
                "duplicate-drop")  # fmt: skip
        assert len((await api.operate("GET", "/v1/campaigns")).json()["campaigns"]) == 1

    async def test_a_drop_of_a_campaign_is_amended_and_launched_by_it(self, api: Api) -> None:
        await create(api)
        found = problem(await api.operate("POST", "/v1/drops/goose/launch"), 422, "spec-invalid")
        assert "flashclaim campaign" in found["detail"]
        change = {"limit_per_member": 1}
        problem(await api.operate("PATCH", "/v1/drops/goose", change, **{"If-Match": '"1"'}), 422, "spec-invalid")
        assert await standing(api) == ["draft", "draft"]

    async def test_a_drop_that_was_paused_alone_stays_so_until_all_are_resumed(self, api: Api) -> None:
        await launched(api)
        assert (await api.operate("POST", "/v1/drops/goose/pause")).status_code == 200
        assert (await api.operate("POST", "/v1/campaigns/autumn/launch")).status_code == 200
        assert await standing(api) == ["paused", "launched"]
        assert (await api.operate("POST", "/v1/campaigns/autumn/resume")).status_code == 200
        assert await standing(api) == ["launched", "launched"]

    async def test_the_limit_holds_over_its_drops(self, api: Api) -> None:
        await launched(api, "goose", "mooncake", "meat", counts=["goose", "mooncake"])
        assert (await api.claim(await api.ticket("m-1", "goose"), "goose")).status_code == 201
        problem(await api.claim(await api.ticket("m-1", "mooncake"), "mooncake"), 409, "campaign-limit-reached")
        assert (await api.claim(await api.ticket("m-1", "meat"), "meat")).status_code == 201

    async def test_the_list_comes_in_pages(self, api: Api) -> None:
        for name in ("a", "b", "c"):
            await create(api, f"{name}-1", id=name)
        first = (await api.operate("GET", "/v1/campaigns?limit=2")).json()
        rest = (await api.operate("GET", f"/v1/campaigns?after={first['next']}&limit=2")).json()
        assert [[found["id"] for found in page["campaigns"]] for page in (first, rest)] == [["a", "b"], ["c"]]
        assert rest["next"] is None
        problem(await api.operate("GET", "/v1/campaigns?after=%00"), 422, "id-invalid")


class TestCopies:
    async def test_stand_alone_on_their_own_days(self, api: Api) -> None:
        opens = datetime(2026, 9, 18, 1, tzinfo=UTC)
        drops = [part("autumn-goose"), part("meat", opens_at=(opens + timedelta(minutes=30)).isoformat())]
        await create(api, opens_at=opens, drops=drops, counts=["meat"])
        answer = await api.operate("POST", "/v1/campaigns/autumn/copies", {"id": "spring", "opens_on": "2027-02-06"})
        assert answer.status_code == 201, answer.text
        found = answer.json()
        assert [drop["id"] for drop in found["drops"]] == ["spring-goose", "spring-meat"]
        assert (found["opens_at"], found["drops"][1]["opens_at"]) == (
            "2027-02-06T09:00:00+08:00",
            "2027-02-06T09:30:00+08:00",
        )
        assert (found["status"], found["counts"]) == ("draft", ["spring-meat"])
        drop = (await api.operate("GET", "/v1/drops/spring-goose")).json()
        assert (drop["campaign"]["id"], drop["status"]) == ("spring", "draft")
        assert (await api.operate("GET", "/v1/campaigns/autumn")).json()["revision"] == 1
