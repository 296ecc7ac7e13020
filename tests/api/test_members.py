"""The promise: operators read and write members, organisations, lists and segments, and get each fault by its field."""

from typing import Any

import pytest
from sqlalchemy import insert

from engine.ledger.schema import list_members, lists
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.factories.ledger import record_all

CITY = {"kind": "city", "title": {"zh": "东莞市总工会"}}


class TestMalformed:
    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "code"),
        [
            ("PUT", "/v1/members/m-1", [], 422, "invalid"),
            ("PUT", "/v1/members/m-1", {"attributes": []}, 422, "invalid"),
            ("PUT", "/v1/members/m-1", {"attribute": {}}, 422, "invalid"),
            ("PUT", "/v1/members/m-1", {"attributes": {"twon": "大朗"}}, 422, "member-invalid"),
            ("PUT", "/v1/members/m-1", {"attributes": {f"a{n}": 1 for n in range(5_000)}}, 422, "member-invalid"),
            ("PUT", "/v1/members/11010519491231002X", {"attributes": {}}, 422, "member-invalid"),
            ("PUT", "/v1/members/~abc", {"attributes": {}}, 422, "id-invalid"),
            ("GET", "/v1/members/m-9", None, 404, "no-such-member"),
            ("GET", "/v1/members/~abc", None, 422, "id-invalid"),
            ("GET", "/v1/members?after=~abc", None, 422, "id-invalid"),
            ("GET", "/v1/members?limit=501", None, 422, "invalid"),
            ("GET", "/v1/members/m-9/export", None, 404, "no-such-member"),
            ("POST", "/v1/members/m-9/erase", {"export": "x"}, 404, "no-such-member"),
            ("POST", "/v1/members/m-1/erase", {"digest": "x"}, 422, "invalid"),
            ("GET", "/v1/organisations/none", None, 404, "no-such-organisation"),
            ("GET", "/v1/organisations/%00", None, 404, "no-such-organisation"),
            ("PUT", "/v1/organisations/a", {"kind": "town", "title": {"zh": "a"}}, 422, "organisation-invalid"),
            ("PUT", "/v1/organisations/A%20B", CITY, 422, "organisation-invalid"),
            ("PUT", "/v1/organisations/a", {"kind": "city"}, 422, "organisation-invalid"),
            ("PUT", "/v1/organisations/a", {**CITY, "id": "b"}, 422, "invalid"),
            ("PUT", "/v1/organisations/a", {**CITY, "town": "大郎"}, 422, "organisation-invalid"),
            ("PUT", "/v1/segments/a", {}, 422, "predicate-invalid"),
            ("PUT", "/v1/segments/a", {"where": {}}, 422, "predicate-invalid"),
            ("PUT", "/v1/segments/a", {"where": {"segment": "a"}}, 422, "predicate-invalid"),
            ("PUT", "/v1/segments/a", {"where": {"list": "none"}}, 422, "predicate-invalid"),
            ("PUT", "/v1/segments/A%20B", {"where": {"town": {"in": ["x"]}}}, 422, "id-invalid"),
            ("GET", "/v1/segments/none", None, 404, "no-such-segment"),
            ("GET", "/v1/segments/%00", None, 404, "no-such-segment"),
        ],
    )
    async def test_each_is_refused_with_its_code(
        self, api: Api, method: str, path: str, body: Any, status: int, code: str
    ) -> None:
        found = problem(await api.operate(method, path, body), status, code)
        assert len(found["detail"]) < 20_000


class TestMembers:
    async def test_are_read_as_they_were_written(self, api: Api) -> None:
        await api.operate("PUT", "/v1/organisations/dongguan", CITY)
        body = {
            "subject": "person-1",
            "attributes": {
                "town": "Dalang", "joined_at": "2020-05-01", "birthday": "02-29", "new_employment_form": True,
                "tags": ["b", "a"], "organisation": "dongguan",
            },
        }  # fmt: skip
        put = (await api.operate("PUT", "/v1/members/m-1", body)).json()
        assert put["attributes"] == {**body["attributes"], "town": "大朗", "tags": ["a", "b"]}  # type: ignore[dict-item]
        assert (await api.operate("GET", "/v1/members/m-1")).json() == put
        assert (await api.operate("GET", "/v1/members")).json() == {"members": [put], "next": None}

    async def test_come_in_pages(self, api: Api) -> None:
        for number in range(5):
            await api.operate("PUT", f"/v1/members/m-{number}", {"attributes": {}})
        page = (await api.operate("GET", "/v1/members?limit=3")).json()
        assert ([member["member_id"] for member in page["members"]], page["next"]) == (["m-0", "m-1", "m-2"], "m-2")
        page = (await api.operate("GET", f"/v1/members?limit=3&after={page['next']}")).json()
        assert ([member["member_id"] for member in page["members"]], page["next"]) == (["m-3", "m-4"], None)

    async def test_are_erased_after_the_export(self, api: Api, stores: Stores) -> None:
        await api.operate("PUT", "/v1/members/m-1", {"attributes": {"town": "大朗"}})
        await api.launched()
        await api.claim(await api.ticket())
        await record_all(stores)
        problem(await api.operate("POST", "/v1/members/m-1/erase", {"export": "x"}), 428, "export-required")
        export = (await api.operate("GET", "/v1/members/m-1/export")).json()
        assert [claim["claim_id"] for claim in export["claims"]] == ["trial.0.1"]
        asked = (await api.operate("POST", "/v1/members/m-1/erase", {"export": export["digest"]})).json()
        assert (asked["erased"], [hold["drop_id"] for hold in asked["waits_for"]]) == (False, ["trial"])
        await api.operate("POST", "/v1/drops/trial/close")
        await record_all(stores)
        assert (await api.operate("POST", "/v1/members/m-1/erase", {})).json() == {"erased": True, "waits_for": []}
        problem(await api.operate("GET", "/v1/members/m-1"), 404, "no-such-member")
        mine = await api.client.get("/v1/claims", headers=api.bearer())
        assert mine.json()["claims"] == []
        report = (await api.operate("GET", "/v1/drops/trial/report")).json()
        assert (report["claims_in_ledger"], report["claims_in_store"]) == (1, 1)


class TestGroups:
    async def test_a_segment_counts_those_whom_it_holds_for(self, api: Api, stores: Stores) -> None:
        async with stores.ledger.begin() as connection:
            await connection.execute(insert(lists).values(name="couriers"))
            await connection.execute(insert(list_members).values(list="couriers", member="m-2"))
        for number, town in enumerate(("大朗", "大朗", "东坑")):
            await api.operate("PUT", f"/v1/members/m-{number}", {"attributes": {"town": town}})
        where = {"any_of": [{"town": {"in": ["东坑"]}}, {"not": {"list": "couriers"}}]}
        saved = await api.operate("PUT", "/v1/segments/some", {"where": where})
        assert saved.json() == {"name": "some", "where": where}
        assert (await api.operate("GET", "/v1/segments/some")).json() == {"name": "some", "where": where, "members": 3}
        await api.operate("PUT", "/v1/segments/some", {"where": {"town": {"in": ["东坑"]}}})
        assert (await api.operate("GET", "/v1/segments/some")).json()["members"] == 1
        assert [found["name"] for found in (await api.operate("GET", "/v1/segments")).json()["segments"]] == ["some"]
        (found,) = (await api.operate("GET", "/v1/lists")).json()["lists"]
        assert (found["name"], found["members"]) == ("couriers", 1)

    async def test_a_drop_goes_by_what_a_segment_says_now(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("engine.members.service.KNOWN_S", 0.0)
        await api.operate("PUT", "/v1/segments/some", {"where": {"town": {"in": ["东坑"]}}})
        await api.launched(eligibility={"segment": "some"})
        headers = api.bearer(town="大朗")
        problem(await api.client.post("/v1/drops/trial/ticket", headers=headers), 403, "not-eligible")
        await api.operate("PUT", "/v1/segments/some", {"where": {"town": {"in": ["大朗"]}}})
        assert (await api.client.post("/v1/drops/trial/ticket", headers=headers)).status_code == 200


async def test_a_bare_session_is_judged_by_the_row_with_its_kinds(api: Api) -> None:
    await api.operate("PUT", "/v1/members/m-1", {"attributes": {"new_employment_form": True, "tags": ["courier"]}})
    await api.launched(eligibility={"new_employment_form": {"is": True}, "tags": {"has_any": ["courier"]}})
    told = api.bearer(new_employment_form=True, tags=("courier", "night"))
    assert (await api.client.post("/v1/drops/trial/ticket", headers=told)).status_code == 200
    away = api.bearer(new_employment_form=True, tags=())
    found = problem(await api.client.post("/v1/drops/trial/ticket", headers=away), 403, "not-eligible")
    assert (found["attribute"], found["value"]) == ("tags", [])
    assert found["explanation"]["zh"] == "此活动面向标签含有courier的会员；您的标签为无"
