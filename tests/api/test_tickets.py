"""The promise: a ticket is for a signed-in member who may have one, on a drop that is launched and open."""

from tests.api.conftest import Api, problem
from tests.factories.drops import drop_json


async def test_a_ticket_needs_a_session(api: Api) -> None:
    await api.launched()
    for headers in ({}, {"Authorization": "Bearer x.y.z"}, {"Authorization": "Basic abc"}):
        answer = await api.client.post("/v1/drops/trial/ticket", headers=headers)
        problem(answer, 401, "session-invalid")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_member_of_another_town_is_told_why_not(api: Api) -> None:
    await api.launched(eligibility={"town": {"in": ["大朗"]}})
    refused = await api.client.post("/v1/drops/trial/ticket", headers=api.bearer(town="东坑"))
    found = problem(refused, 403, "not-eligible")
    assert found["attribute"] == "town"
    assert "大朗" in found["detail"]
    allowed = await api.client.post("/v1/drops/trial/ticket", headers=api.bearer(town="大朗"))
    assert allowed.status_code == 200


async def test_drafts_and_closed_drops_give_no_tickets(api: Api) -> None:
    await api.operate("POST", "/v1/drops", drop_json("draft"))
    problem(await api.client.post("/v1/drops/draft/ticket", headers=api.bearer()), 404, "no-such-drop")
    await api.launched()
    await api.operate("POST", "/v1/drops/trial/close")
    problem(await api.client.post("/v1/drops/trial/ticket", headers=api.bearer()), 409, "closed")
