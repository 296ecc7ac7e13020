"""The promise: operators steer drops by acts that either happen wholly or are refused with a reason; others cannot."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from sqlalchemy import select

from engine.ledger import actions
from engine.ledger.schema import operator_actions
from engine.members import store as members_store
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.factories.drops import drop_json
from tests.factories.ledger import record_all


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"limt_per_member": 1}, "limt_per_member"),
        ({"limit_per_member": 0}, "limit_per_member"),
        ({"limit_per_member": "1"}, "limit_per_member"),
        ({"allocation": "lottery"}, "allocation"),
        ({"id": "Has Blanks"}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"opens_at": "2025-06-14T10:00:00"}, "opens_at"),
        ({"closes_at": "2020-01-01T00:00:00Z"}, "closes_at"),
        ({"items": []}, "items"),
        ({"items": [{"id": "box", "title": {"en": "Box"}, "stock": -1}]}, "items.0.stock"),
        ({"items": [{"id": "box", "title": {"en": "Box"}, "stock": 1}] * 2}, "items.1.id"),
        ({"items": [{"id": "box", "title": {"en": "Box"}, "stock": 1, "wieght_jin": 5}]}, "items.0.wieght_jin"),
        ({"eligibility": {"twon": {"in": ["大朗"]}}}, "eligibility.twon"),
        ({"title": {}}, "title"),
        ({"title": {"en": "a\x00b"}}, "title.en"),
        ({"eligibility": {"town": {"in": ["\x00"]}}}, "eligibility.town.in.0"),
    ],
)
async def test_a_wrong_drop_is_422_names_the_field_and_changes_nothing(
    api: Api, change: dict[str, Any], field: str
) -> None:
    answer = await api.operate("POST", "/v1/drops", drop_json("trial") | change)
    found = problem(answer, 422, "spec-invalid")
    assert field in [error["field"] for error in found["errors"]]
    assert (await api.operate("GET", "/v1/drops")).json()["drops"] == []


async def test_names_that_stand_for_nothing_are_refused_at_creation_and_at_an_amendment(api: Api) -> None:
    await api.operate("PUT", "/v1/organisations/dongguan", {"kind": "city", "title": {"en": "City"}})
    await api.operate("POST", "/v1/drops", drop_json("draft"))
    for change, words in (
        ({"organisation": "donguan"}, "organisation: no such organisation: did you mean 'dongguan'"),
        ({"eligibility": {"not": {"list": "winners"}}}, "eligibility: no such list 'winners'"),
        ({"eligibility": {"segment": "riders"}}, "eligibility: no such segment 'riders'"),
        ({"eligibility": {"organisation": {"under": "donguan"}}}, "eligibility: no such organisation: did you mean"),
        ({"eligibility": {"any_of": []}}, "eligibility.any_of: is empty"),
    ):
        for answer in (
            await api.operate("POST", "/v1/drops", drop_json("trial") | change),
            await api.operate("PATCH", "/v1/drops/draft", change, **{"If-Match": '"1"'}),
        ):
            assert words in problem(answer, 422, "spec-invalid")["detail"]
    assert (await api.operate("GET", "/v1/drops/draft")).json()["revision"] == 1


async def test_the_wrong_waves_are_named(api: Api) -> None:
    opens = datetime.now(UTC)
    waves = [{"at": opens.isoformat(), "stock": {"box": 3, "bx": 1}}]
    found = problem(await api.operate("POST", "/v1/drops", drop_json("trial", opens, waves=waves)), 422, "spec-invalid")
    assert "did you mean 'box'" in found["detail"]
    waves = [{"at": opens.isoformat(), "stock": {"box": 3}}]
    found = problem(await api.operate("POST", "/v1/drops", drop_json("trial", opens, waves=waves)), 422, "spec-invalid")
    assert "release 3 of 'box', its stock is 10" in found["detail"]


async def test_not_json_is_422_and_other_types_are_415(api: Api) -> None:
    headers = api.bearer("boss", "operator")
    answer = await api.client.post("/v1/drops", headers=headers | {"Content-Type": "application/json"}, content=b"{")
    problem(answer, 422, "invalid")
    problem(await api.client.post("/v1/drops", headers=headers, content=b"id: x"), 415, "media-type")
    deep = b"[" * 100_000
    answer = await api.client.post("/v1/drops", headers=headers | {"Content-Type": "application/json"}, content=deep)
    problem(answer, 422, "invalid")


async def test_a_drop_exists_once(api: Api) -> None:
    answers = await asyncio.gather(*(api.operate("POST", "/v1/drops", drop_json("trial")) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    problem(await api.operate("POST", "/v1/drops", drop_json("trial")), 409, "duplicate-drop")


async def test_members_and_strangers_cannot_steer(api: Api) -> None:
    await api.launched()
    for act in ("launch", "pause", "resume", "close", "restock"):
        body = {"item": "box", "quantity": 1}
        problem(await api.client.post(f"/v1/drops/trial/{act}", json=body), 401, "session-invalid")
        answer = await api.client.post(f"/v1/drops/trial/{act}", json=body, headers=api.bearer())
        problem(answer, 403, "operators-only")


async def test_acts_follow_the_status(api: Api) -> None:
    await api.operate("POST", "/v1/drops", drop_json("trial"))
    for act in ("pause", "resume", "close"):
        problem(await api.operate("POST", f"/v1/drops/trial/{act}"), 409, "wrong-status")
    for act, status in (("launch", "launched"), ("pause", "paused"), ("resume", "launched"), ("close", "closed")):
        assert (await api.operate("POST", f"/v1/drops/trial/{act}")).json()["status"] == status
    for act in ("launch", "pause", "resume", "close"):
        problem(await api.operate("POST", f"/v1/drops/trial/{act}"), 409, "wrong-status")
    problem(await api.operate("POST", "/v1/drops/nothing/launch"), 404, "no-such-drop")


async def test_amending_needs_the_revision_that_was_seen(api: Api) -> None:
    await api.launched()
    etag = (await api.client.get("/v1/drops/trial")).headers["etag"]
    change = {"limit_per_member": 5}
    problem(await api.operate("PATCH", "/v1/drops/trial", change), 428, "revision-required")
    problem(await api.operate("PATCH", "/v1/drops/trial", change, **{"If-Match": '"1"'}), 412, "stale-revision")
    done = await api.operate("PATCH", "/v1/drops/trial", change, **{"If-Match": etag})
    assert done.json()["limit_per_member"] == 5
    problem(await api.operate("PATCH", "/v1/drops/trial", change, **{"If-Match": etag}), 412, "stale-revision")
    etag = done.headers["etag"]
    answer = await api.operate("PATCH", "/v1/drops/trial", {"stock": 5}, **{"If-Match": etag})
    assert "cannot be amended" in problem(answer, 422, "spec-invalid")["detail"]


async def test_a_raised_limit_holds_from_the_next_claim_on(api: Api) -> None:
    await api.launched()
    assert (await api.claim(await api.ticket())).status_code == 201
    problem(await api.claim(await api.ticket()), 409, "limit-reached")
    await api.operate("PATCH", "/v1/drops/trial", {"limit_per_member": 2}, **{"If-Match": '"2"'})
    assert (await api.claim(await api.ticket())).status_code == 201


async def test_restocked_units_can_be_claimed(api: Api) -> None:
    await api.launched(stock=1)
    await api.claim(await api.ticket("m-1"))
    problem(await api.claim(await api.ticket("m-2")), 409, "sold-out")
    bodies: list[Any] = [
        {"item": "nothing", "quantity": 1},
        {"item": "box", "quantity": 10**30},
        {"item": "box"},
        [],
        {},
    ]
    for body in bodies:
        problem(await api.operate("POST", "/v1/drops/trial/restock", body), 422, "restock-invalid")
    done = await api.operate("POST", "/v1/drops/trial/restock", {"item": "box", "quantity": 1})
    assert done.json()["items"][0]["stock"] == 2
    assert (await api.claim(await api.ticket("m-2"))).status_code == 201
    problem(await api.claim(await api.ticket("m-3")), 409, "sold-out")


async def test_parallel_restocks_all_count(api: Api) -> None:
    await api.launched(stock=1)
    body = {"item": "box", "quantity": 2}
    answers = await asyncio.gather(*(api.operate("POST", "/v1/drops/trial/restock", body) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await api.client.get("/v1/drops/trial")).json()["items"][0]["stock"] == 17


class TestIdempotencyKeys:
    """An act sent again under the same key is done once, and answered as it was the first time."""

    BODY: ClassVar[dict[str, Any]] = {"item": "box", "quantity": 2}

    async def test_a_restock_sent_again_is_done_once(self, api: Api) -> None:
        await api.launched(stock=1)
        sends = [
            api.operate("POST", "/v1/drops/trial/restock", self.BODY, **{"Idempotency-Key": "a"}) for _ in range(6)
        ]
        answers = await asyncio.gather(*sends)
        assert {(answer.status_code, answer.headers["etag"]) for answer in answers} == {(200, '"3"')}
        await api.operate("POST", "/v1/drops/trial/restock", self.BODY, **{"Idempotency-Key": "b"})
        late = await api.operate("POST", "/v1/drops/trial/restock", self.BODY, **{"Idempotency-Key": "a"})
        assert late.json()["items"][0]["stock"] == 3, "as it was answered then"
        assert (await api.client.get("/v1/drops/trial")).json()["items"][0]["stock"] == 5

    async def test_every_act_can_be_sent_again(self, api: Api) -> None:
        create: tuple[str, str, Any, dict[str, str]] = ("POST", "/v1/drops", drop_json("trial"), {})
        amend = ("PATCH", "/v1/drops/trial", {"limit_per_member": 2}, {"If-Match": '"4"'})
        acts: list[tuple[str, str, Any, dict[str, str]]] = [
            ("POST", f"/v1/drops/trial/{verb}", None, {}) for verb in ("launch", "pause", "resume", "close")
        ]
        for number, (method, path, body, headers) in enumerate([create, *acts[:3], amend, acts[3]]):
            sent = headers | {"Idempotency-Key": f"act-{number}"}
            first, again = [await api.operate(method, path, body, **sent) for _ in range(2)]
            assert first.is_success, first.text
            assert (again.status_code, again.json()) == (first.status_code, first.json())

    async def test_a_key_for_something_else_is_422(self, api: Api) -> None:
        await api.launched()
        key = {"Idempotency-Key": "a"}
        await api.operate("POST", "/v1/drops/trial/restock", self.BODY, **key)
        other = {"item": "box", "quantity": 3}
        answer = await api.operate("POST", "/v1/drops/trial/restock", other, **key)
        problem(answer, 422, "idempotency-key-reused")
        problem(await api.operate("POST", "/v1/drops/trial/pause", **key), 422, "idempotency-key-reused")
        theirs = api.bearer("another", "operator") | key
        answer = await api.client.post("/v1/drops/trial/pause", headers=theirs)
        assert answer.status_code == 200, "keys are each operator's own"
        for text in ("", "x" * 201, "a b"):
            answer = await api.operate("POST", "/v1/drops/trial/resume", **{"Idempotency-Key": text})
            problem(answer, 422, "invalid")

    async def test_an_act_whose_server_was_killed_is_found_again(
        self, api: Api, stores: Stores, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The store has applied it, the ledger has not: the worker brings it there, and then the key finds it."""
        await api.launched(stock=1)

        async def killed(*_: object) -> None:
            raise RuntimeError("killed")

        with monkeypatch.context() as patched:
            patched.setattr("engine.drops.store.record", killed)
            lost = await api.operate("POST", "/v1/drops/trial/restock", self.BODY, **{"Idempotency-Key": "a"})
        problem(lost, 500, "internal")
        again = await api.operate("POST", "/v1/drops/trial/restock", self.BODY, **{"Idempotency-Key": "a"})
        problem(again, 503, "not-ready")
        await record_all(stores)
        again = await api.operate("POST", "/v1/drops/trial/restock", self.BODY, **{"Idempotency-Key": "a"})
        assert again.json()["items"][0]["stock"] == 3
        assert (await api.client.get("/v1/drops/trial")).json()["items"][0]["stock"] == 3


async def test_every_act_leaves_a_row_with_who_and_what(api: Api, stores: Stores) -> None:
    await api.launched()
    await api.operate("POST", "/v1/drops/trial/pause")
    await record_all(stores)  # the worker meets the same acts in the outbox: each still stands once
    async with stores.ledger.connect() as connection:
        rows = (await connection.execute(select(operator_actions).order_by(operator_actions.c.revision))).all()
    assert [(row.revision, row.verb, row.actor) for row in rows] == [
        (1, "create", "boss"),
        (2, "launch", "boss"),
        (3, "pause", "boss"),
    ]
    assert rows[2].before["status"] == "launched"
    assert rows[2].after["status"] == "paused"


async def test_acts_on_claims_and_members_stand_in_the_same_chain(api: Api, stores: Stores) -> None:
    await api.launched()
    claim_id = (await api.claim(await api.ticket())).json()["claim_id"]
    await record_all(stores)
    await api.operate("POST", f"/v1/claims/{claim_id}/release?reason=ill")
    for town in ("大朗", "东坑"):
        await api.operate("PUT", "/v1/members/m-9", {"attributes": {"town": town}})
    await record_all(stores)
    async with stores.ledger.connect() as connection:
        links = await actions.chain(connection)
    acts = {(link.action.object, link.action.verb) for link in links}
    assert acts == {
        ("drop:trial", "create"),
        ("drop:trial", "launch"),
        (f"claim:{claim_id}", "release"),
        (f"member:{await mark_of(stores, 'm-9')}", "put"),
    }
    assert {link.action.actor for link in links} == {"boss"}
    release = next(link.action for link in links if link.action.verb == "release")
    assert release.change["reason"] == "ill"
    assert release.before != release.after
    first, second = (link.action for link in links if link.action.verb == "put")
    assert first.before is None
    assert second.before == first.after != second.after
    assert "大朗" not in str(links), "what is known of a member can be taken back, the chain can not"
    assert actions.broken_links(links) == []


async def mark_of(stores: Stores, member_id: str) -> str:
    async with stores.ledger.connect() as connection:
        found = await members_store.read(connection, member_id)
    assert found is not None
    assert found.mark is not None
    return found.mark


async def test_report_and_list(api: Api, stores: Stores) -> None:
    for name in ("a", "b", "c"):
        await api.launched(name)
    page = (await api.operate("GET", "/v1/drops?limit=2")).json()
    assert [drop["id"] for drop in page["drops"]] == ["a", "b"]
    page = (await api.operate("GET", f"/v1/drops?limit=2&after={page['next']}")).json()
    assert [drop["id"] for drop in page["drops"]] == ["c"]
    assert page["next"] is None
    await api.claim(await api.ticket(drop_id="a"), "a")
    await record_all(stores)
    report = (await api.operate("GET", "/v1/drops/a/report")).json()
    assert report["claims_in_ledger"] == report["claims_in_store"] == 1
    assert report["items"][0]["ledger"] == {"claims": 1, "claimed": 1, "released": 0}
    problem(await api.operate("GET", "/v1/drops?limit=0"), 422, "invalid")
    problem(await api.operate("GET", "/v1/drops?after=%00"), 422, "id-invalid")


async def test_health_readiness_and_metrics(api: Api) -> None:
    await api.launched()
    await api.claim(await api.ticket())
    assert (await api.client.get("/healthz")).json() == {"status": "ok"}
    assert (await api.client.get("/readyz")).json() == {"status": "ready"}
    text = (await api.client.get("/metrics")).text
    assert 'flashclaim_outbox_entries{partition="0"} 3.0' in text
    assert "flashclaim_batch_claims_count" in text


async def test_live_figures_come_as_events(api: Api) -> None:
    await api.launched(stock=3, opens_at=datetime.now(UTC) - timedelta(seconds=1))
    await api.claim(await api.ticket())
    drops = api.client._transport.app.state  # type: ignore[attr-defined]
    figures = await drops.live.figures(drops.services, "trial")
    assert (figures.claims, figures.items[0].taken, figures.items[0].left) == (1, 1, 2)
    problem(await api.client.get("/v1/drops/nothing/live"), 404, "no-such-drop")


async def test_the_openapi_document_has_an_example_of_every_answer(api: Api) -> None:
    document = (await api.client.get("/openapi.json")).json()
    claim = document["paths"]["/v1/drops/{drop_id}/claims"]["post"]["responses"]
    shown = {
        code
        for answer in claim.values()
        for code in answer["content"].get("application/problem+json", {}).get("examples", {})
    }
    assert shown >= {
        "limit-reached", "campaign-limit-reached", "sold-out", "not-open", "paused", "closed", "claim-released",
        "ticket-invalid", "ticket-expired",
        "no-such-drop", "slow-down", "overloaded", "outcome-unknown", "store-unavailable", "not-ready",
    }  # fmt: skip
    assert claim["201"]["content"]["application/json"]["example"]["serial"]
    assert json.dumps(document)


async def test_members_are_written_by_operators_and_used_when_a_token_says_nothing(api: Api) -> None:
    put = await api.operate("PUT", "/v1/members/m-9", {"attributes": {"town": "大朗"}, "subject": "person-9"})
    assert put.json()["subject"] == "person-9"
    for town in (5, "a\x00b", "x" * 201):
        problem(await api.operate("PUT", "/v1/members/m-9", {"attributes": {"town": town}}), 422, "member-invalid")
    problem(await api.operate("PUT", "/v1/members/%20", {"attributes": {}}), 422, "id-invalid")
    problem(await api.client.put("/v1/members/m-9", json={}, headers=api.bearer()), 403, "operators-only")


async def test_the_docs_page_needs_nothing_from_elsewhere(api: Api) -> None:
    page = await api.client.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    (policy,) = page.headers.get_list("content-security-policy")
    assert "script-src 'self' 'sha256-" in policy
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert (await api.client.get(path)).status_code == 200, path
