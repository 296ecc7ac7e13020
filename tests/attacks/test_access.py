"""The promise: each route is anybody's, a member's or an operator's, as stated here; a member sees their own alone.

A route that the list does not name fails the first test: say here whose it is.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Mount, Route

from api.app import create_app
from engine.claims import keys
from engine.members.model import Session
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem, running
from tests.contract.front import Front
from tests.contract.line import request
from tests.engine.notices.test_store import message, tell
from tests.factories.campaigns import campaign_json
from tests.factories.drops import drop_json
from tests.factories.ledger import record_all

PUBLIC, MEMBER, OPERATOR, TICKET = "anybody", "a signed-in member", "an operator", "whoever holds a ticket"
RULES = {
    "POST /v1/drops": OPERATOR,
    "GET /v1/drops": OPERATOR,
    "GET /v1/drops/{drop_id}": PUBLIC,  # what a page shows, not a draft; holds nothing of any member
    "PATCH /v1/drops/{drop_id}": OPERATOR,
    "POST /v1/drops/{drop_id}/launch": OPERATOR,
    "POST /v1/drops/{drop_id}/pause": OPERATOR,
    "POST /v1/drops/{drop_id}/resume": OPERATOR,
    "POST /v1/drops/{drop_id}/close": OPERATOR,
    "POST /v1/drops/{drop_id}/restock": OPERATOR,
    "GET /v1/drops/{drop_id}/report": OPERATOR,
    "GET /v1/drops/{drop_id}/live": PUBLIC,  # sums alone, not of a draft
    "GET /v1/drops/{drop_id}/map": PUBLIC,  # sums alone, not of a draft
    "GET /v1/drops/{drop_id}/map/live": PUBLIC,
    "GET /v1/drops/{drop_id}/commitment": PUBLIC,  # of an instant win: rules and hashes, not of a draft
    "GET /v1/drops/{drop_id}/instant-document": OPERATOR,  # once it is closed; they publish it as a file
    "POST /v1/drops/{drop_id}/ticket": MEMBER,
    "GET /v1/drops/{drop_id}/challenge": MEMBER,
    "POST /v1/drops/{drop_id}/quiz": MEMBER,
    "POST /v1/drops/{drop_id}/quiz/answers": MEMBER,
    "POST /v1/drops/{drop_id}/list": MEMBER,
    "POST /v1/drops/{drop_id}/claims": TICKET,
    "GET /v1/claims": MEMBER,
    "POST /v1/claims/{claim_id}/release": OPERATOR,
    "POST /v1/receipts/verify": PUBLIC,  # says what the receipt says, to whoever holds it
    "GET /v1/members": OPERATOR,
    "GET /v1/members/{member_id}": OPERATOR,
    "GET /v1/draws/{draw_id}": PUBLIC,  # what is published; holds the names of claims, and of nobody
    "GET /v1/draws/{draw_id}/document": PUBLIC,
    "GET /v1/draws/{draw_id}/proof": MEMBER,
    "POST /v1/draws/{draw_id}/commit": OPERATOR,
    "POST /v1/draws/{draw_id}/close": OPERATOR,
    "POST /v1/draws/{draw_id}/reveal": OPERATOR,
    "POST /v1/draws/{draw_id}/lapse": OPERATOR,
    "POST /v1/draws/{draw_id}/void": OPERATOR,
    "GET /v1/me/awards": MEMBER,
    "POST /v1/me/awards/{draw_id}/decline": MEMBER,
    "PUT /v1/members/{member_id}": OPERATOR,
    "POST /v1/campaigns": OPERATOR,
    "GET /v1/campaigns": OPERATOR,
    "GET /v1/campaigns/{campaign_id}": OPERATOR,
    "POST /v1/campaigns/{campaign_id}/launch": OPERATOR,
    "POST /v1/campaigns/{campaign_id}/pause": OPERATOR,
    "POST /v1/campaigns/{campaign_id}/resume": OPERATOR,
    "POST /v1/campaigns/{campaign_id}/close": OPERATOR,
    "POST /v1/campaigns/{campaign_id}/amendments": OPERATOR,
    "POST /v1/campaigns/{campaign_id}/copies": OPERATOR,
    "GET /v1/campaigns/{campaign_id}/dry-run": OPERATOR,
    "GET /v1/me/campaigns/{campaign_id}": MEMBER,  # the session's own member alone
    "GET /v1/members/{member_id}/export": OPERATOR,
    "POST /v1/members/{member_id}/erase": OPERATOR,
    "GET /v1/lists": OPERATOR,
    "GET /v1/segments": OPERATOR,
    "GET /v1/segments/{name}": OPERATOR,
    "PUT /v1/segments/{name}": OPERATOR,
    "GET /v1/organisations": OPERATOR,
    "GET /v1/organisations/{organisation_id}": OPERATOR,
    "PUT /v1/organisations/{organisation_id}": OPERATOR,
    "GET /v1/me/messages": MEMBER,
    "POST /v1/me/messages/read": MEMBER,
    "POST /v1/me/messages/{number}/read": MEMBER,
    "GET /v1/me/messages/live": MEMBER,
    "GET /v1/schedule": OPERATOR,
    "GET /v1/schedule/{job_id}": OPERATOR,
    "POST /v1/schedule/{job_id}/retry": OPERATOR,
    "POST /v1/schedule/{job_id}/cancel": OPERATOR,
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /metrics": PUBLIC,  # counts; a proxy keeps it inside, see docs/security.md
    "GET /openapi.json": PUBLIC,
    "GET /docs": PUBLIC,
    "GET /docs/static": PUBLIC,
}
KNOWN = {
    "drop_id": "trial", "claim_id": "trial.0.1", "member_id": "m-1", "organisation_id": "dongguan", "name": "locals",
    "draw_id": "trial", "number": "1", "job_id": "1", "campaign_id": "autumn",
}  # fmt: skip
UNKNOWN = {
    "drop_id": "nothing", "claim_id": "trial.0.999", "member_id": "m-999", "organisation_id": "none", "name": "none",
    "draw_id": "nothing", "number": "999", "job_id": "999", "campaign_id": "nothing",
}  # fmt: skip
BODIES: dict[str, Any] = {
    "POST /v1/drops": drop_json("another"),
    "PATCH /v1/drops/{drop_id}": {"limit_per_member": 2},
    "POST /v1/drops/{drop_id}/restock": {"item": "box", "quantity": 1},
    "POST /v1/drops/{drop_id}/quiz/answers": {"attempt": 1, "answers": {}},
    "PUT /v1/members/{member_id}": {"attributes": {}},
    "POST /v1/campaigns": campaign_json("other-1", id="other"),
    "POST /v1/campaigns/{campaign_id}/amendments": {"limits": {}},
    "POST /v1/campaigns/{campaign_id}/copies": {"id": "spring", "opens_on": "2027-02-06"},
    "POST /v1/members/{member_id}/erase": {"export": "0"},
    "PUT /v1/segments/{name}": {"where": {"town": {"in": ["大朗"]}}},
    "PUT /v1/organisations/{organisation_id}": {"kind": "city", "title": {"en": "City"}},
    "POST /v1/draws/{draw_id}/reveal": {"round": 7, "value": "5a"},
    "POST /v1/draws/{draw_id}/void": {"reason": "no value"},
}


def routes(app: FastAPI) -> Iterator[str]:
    """Every route of the app, whether or not the OpenAPI document shows it."""
    waiting: list[Any] = list(app.routes)
    while waiting:
        found = waiting.pop()
        if isinstance(found, Route):
            yield from (f"{method} {found.path}" for method in (found.methods or {"any"}) - {"HEAD"})
        elif isinstance(found, Mount):
            yield f"GET {found.path}"
        else:
            waiting += found.original_router.routes


async def ask(api: Api, rule: str, ids: dict[str, str], headers: dict[str, str]) -> httpx.Response:
    method, path = rule.split(" ")
    headers = {**headers, "If-Match": '"2"'} if method == "PATCH" else headers
    async with api.client.stream(method, path.format(**ids), headers=headers, json=BODIES.get(rule)) as answer:
        await answer.aread()
    return answer


class TestWhose:
    async def test_every_route_has_a_stated_rule(self, api: Api) -> None:
        app: FastAPI = api.client._transport.app  # type: ignore[attr-defined]
        document = app.openapi()["paths"]
        shown = {f"{method.upper()} {path}" for path, methods in document.items() for method in methods}
        found = set(routes(app))
        assert found == RULES.keys()
        assert shown <= found
        assert len(found - shown) == 3, "only the document itself and its page are not in the document"

    @pytest.mark.parametrize("ids", [KNOWN, UNKNOWN], ids=["known", "unknown"])
    async def test_the_rule_holds_for_ids_that_exist_and_for_others(
        self, api: Api, stores: Stores, ids: dict[str, str]
    ) -> None:
        await api.launched()
        assert (await api.operate("POST", "/v1/campaigns", campaign_json())).status_code == 201
        assert (await api.claim(await api.ticket())).status_code == 201
        await record_all(stores)
        for rule in RULES:
            if not rule.endswith(("/live", "/static")):
                await self.holds(api, rule, ids)

    async def holds(self, api: Api, rule: str, ids: dict[str, str]) -> None:
        nobody, member = await ask(api, rule, ids, {}), await ask(api, rule, ids, api.bearer("m-2"))
        stranger = await ask(api, rule, ids, {"Authorization": "Bearer x.y.z"})
        operator = await ask(api, rule, ids, api.bearer("boss", "operator"))
        if RULES[rule] is PUBLIC:
            assert {nobody.status_code, member.status_code, operator.status_code} & {401, 403} == set(), rule
            assert nobody.content == member.content == operator.content or rule == "GET /metrics", rule
        elif RULES[rule] is TICKET:
            for answer in (nobody, member, stranger, operator):
                problem(answer, 401, "ticket-invalid")
        else:
            problem(nobody, 401, "session-invalid")
            problem(stranger, 401, "session-invalid")
            assert operator.status_code not in (401, 403), rule
            if RULES[rule] is OPERATOR:
                problem(member, 403, "operators-only")
            else:
                assert member.status_code not in (401, 403), rule

    async def test_the_live_stream_holds_no_member(self, api: Api, stores: Stores) -> None:
        await api.launched()
        await api.claim(await api.ticket("secret-member"))
        drops = api.client._transport.app.state  # type: ignore[attr-defined]
        assert "secret-member" not in str(await drops.live.figures(drops.services, "trial"))

    async def test_the_static_files_are_only_those(self, api: Api) -> None:
        for path in ("../docs.py", "..%2f..%2fapp.py", "%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "..\\app.py", "%00"):
            assert (await api.client.get(f"/docs/static/{path}")).status_code == 404


class TestOthersClaims:
    @pytest.fixture
    async def foreign(self, api: Api, stores: Stores) -> str:
        """A claim of m-1 between two of m-2."""
        await api.launched(stock=50, limit=9)
        found = ""
        for member in ("m-2", "m-1", "m-2"):
            claim = (await api.claim(await api.ticket(member))).json()
            found = claim["claim_id"] if member == "m-1" else found
        await record_all(stores)
        return found

    async def test_nobody_sees_them(self, api: Api, foreign: str) -> None:
        for headers in ({"X-Member-Id": "m-1"}, {"X-User": "m-1"}, {"Cookie": "member=m-1"}):
            for query in ("", "?member_id=m-1", "?member=m-1&subject=m-1", "?limit=500", f"?claim_id={foreign}"):
                answer = await api.client.get(f"/v1/claims{query}", headers=headers | api.bearer("m-2"))
                assert [claim["claim_id"] for claim in answer.json()["claims"]] == ["trial.0.3", "trial.0.1"]

    async def test_as_a_place_in_a_list_they_are_like_claims_that_do_not_exist(self, api: Api, foreign: str) -> None:
        """Else the page after another's claim would tell whether it exists and when it was made."""
        answers = {
            (await api.client.get(f"/v1/claims?after={claim_id}", headers=api.bearer("m-2"))).content
            for claim_id in (foreign, "trial.0.999", "another.0.1")
        }
        assert answers == {b'{"claims":[],"next":null}'}
        own = await api.client.get("/v1/claims?after=trial.0.3", headers=api.bearer("m-2"))
        assert [claim["claim_id"] for claim in own.json()["claims"]] == ["trial.0.1"]

    async def test_nobody_gives_them_back(self, api: Api, foreign: str) -> None:
        told = {
            (await api.client.post(f"/v1/claims/{claim_id}/release", headers=api.bearer("m-2"))).content
            for claim_id in (foreign, "trial.0.1", "trial.0.999", "another.0.1")
        }
        assert len(told) == 1
        mine = await api.client.get("/v1/claims", headers=api.bearer("m-1"))
        assert mine.json()["claims"][0]["released_at"] is None

    async def test_a_member_id_is_not_to_be_found_by_asking(self, api: Api, foreign: str) -> None:
        await api.operate("PUT", "/v1/members/m-1", {"attributes": {"town": "大朗"}})
        for method in ("GET", "PUT", "DELETE", "PATCH", "POST"):
            told = {
                (await api.client.request(method, f"/v1/members/{member}", json={}, headers=api.bearer("m-2"))).content
                for member in ("m-1", "m-999")
            }
            assert len(told) == 1, method

    async def test_an_answer_names_nobody_else(self, api: Api, foreign: str) -> None:
        """Not the member of a claim, nor its subject: not even to whoever holds the receipt."""
        await api.launched("named", limit=2)
        token = api.bearer("name-of-member")
        for body in (None, {"quantity": 2}):
            ticket = (await api.client.post("/v1/drops/named/ticket", json=body, headers=token)).json()["ticket"]
            claim = await api.claim(ticket, "named")
            assert "name-of-member" not in claim.text
        receipt = (await api.claim(await api.ticket("other-name", "named"), "named")).json()["receipt"]
        assert "other-name" not in (await api.client.post("/v1/receipts/verify", json={"receipt": receipt})).text


class TestOthersMessages:
    """A number means a message of the session's own inbox: there is no way to name anybody else's."""

    @pytest.fixture
    async def told(self, api: Api, stores: Stores) -> None:
        """Two messages of m-1, one of m-2."""
        await tell(stores.ledger, message("m-1", "a", coupon="of m-1"), message("m-1", "b"), message("m-2", "a"))

    async def test_nobody_sees_them(self, api: Api, told: None) -> None:
        for headers in ({"X-Member-Id": "m-1"}, {"X-User": "m-1"}, {"Cookie": "member=m-1"}):
            for query in ("", "?member_id=m-1", "?member=m-1&subject=m-1", "?limit=500", "?after=2"):
                answer = await api.client.get(f"/v1/me/messages{query}", headers=headers | api.bearer("m-2"))
                assert [found["id"] for found in answer.json()["messages"]] == [1]
                assert "of m-1" not in answer.text

    async def test_nobody_reads_them_for_another(self, api: Api, told: None) -> None:
        for path in ("2/read", "999/read"):
            problem(await api.client.post(f"/v1/me/messages/{path}", headers=api.bearer("m-2")), 404, "no-such-message")
        assert (await api.client.post("/v1/me/messages/1/read", headers=api.bearer("m-2"))).status_code == 200
        assert (await api.client.post("/v1/me/messages/read?until=9", headers=api.bearer("m-2"))).json()["read"] == 0
        headers = api.bearer("boss", "operator")
        assert (await api.client.post("/v1/me/messages/read?until=9", headers=headers)).json()["read"] == 0
        mine = (await api.client.get("/v1/me/messages", headers=api.bearer("m-1"))).json()
        assert mine["unread"] == 2

    async def test_numbers_that_are_counted_up_tell_nothing_of_others(self, api: Api, told: None) -> None:
        """Each inbox begins with 1: a number says how many messages its own member had, and nothing else."""
        for number in range(1, 12):
            answer = await api.client.post(f"/v1/me/messages/{number}/read", headers=api.bearer("m-3"))
            assert str(number) in problem(answer, 404, "no-such-message")["detail"]

    async def test_a_forged_or_expired_session_reads_nothing(self, api: Api, told: None) -> None:
        forged = api.bearer("m-1")["Authorization"][:-20] + "A" * 20
        expired = f"Bearer {api.tokens.issue(Session('m-1', 'm-1'), -600)}"
        for authorization in (forged, expired, "Bearer ", "Basic bS0xOg==", ""):
            for method, path in (("GET", ""), ("GET", "/live"), ("POST", "/1/read"), ("POST", "/read?until=1")):
                answer = await api.client.request(
                    method, f"/v1/me/messages{path}", headers={"Authorization": authorization}
                )
                problem(answer, 401, "session-invalid")

    async def test_they_stand_in_no_log(self, front: Front, stores: Stores, logs: list[dict[str, Any]]) -> None:
        await tell(stores.ledger, message("secret-member", coupon="the secret"))
        line = await front.line()
        await line.send(request("GET", "/v1/me/messages/live", [front.bearer("secret-member"), ("Last-Event-ID", "0")]))
        async with asyncio.timeout(5):
            assert b"the secret" in await line._reader.readuntil(b"\n\n")
        said = str(logs)
        assert "secret-member" not in said
        assert "the secret" not in said


class TestDrafts:
    """What is not launched is nobody's but the operators': to all others it is a drop that does not exist."""

    @pytest.fixture
    async def draft(self, api: Api) -> str:
        """A draft, and beside it a launched drop."""
        await api.launched()
        assert (await api.operate("POST", "/v1/drops", drop_json("draft"))).status_code == 201
        return "draft"

    async def asked(self, api: Api, drop_id: str, headers: dict[str, str]) -> list[tuple[int, bytes, dict[str, str]]]:
        """What every route that names a drop answers, without what differs from request to request."""
        found = []
        for rule in RULES:
            if "{drop_id}" in rule:
                answer = await ask(api, rule, {"drop_id": drop_id}, headers)
                told = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
                found.append((answer.status_code, answer.content.replace(drop_id.encode(), b"ID"), told))
        return found

    async def test_members_and_others_get_what_they_get_for_an_unknown_drop(self, api: Api, draft: str) -> None:
        forged = {"Authorization": api.bearer("boss", "operator")["Authorization"][:-20] + "A" * 20}
        tickets = {"Authorization": f"Ticket {await api.ticket()}"}
        for headers in ({}, api.bearer("m-2"), {"Authorization": "Bearer x.y.z"}, forged, tickets):
            answers = await self.asked(api, draft, headers)
            assert answers == await self.asked(api, "empty", headers)
            assert {status for status, _, _ in answers} <= {401, 403, 404}

    async def test_each_way_to_read_it_is_404_no_such_drop(self, api: Api, draft: str) -> None:
        member = api.bearer("m-2")
        for headers in ({}, member):
            for path in ("", "/live", "/map", "/map/live"):
                problem(await api.client.get(f"/v1/drops/{draft}{path}", headers=headers), 404, "no-such-drop")
        problem(await api.client.get(f"/v1/drops/{draft}/challenge", headers=member), 404, "no-such-drop")
        problem(await api.client.post(f"/v1/drops/{draft}/ticket", headers=member), 404, "no-such-drop")
        problem(await api.claim(await api.ticket(), draft), 404, "no-such-drop")

    async def test_operators_see_it_whoever_made_it(self, api: Api, draft: str) -> None:
        for name in ("boss", "another"):
            headers = api.bearer(name, "operator")
            found = (await api.client.get(f"/v1/drops/{draft}", headers=headers)).json()
            assert (found["id"], found["status"]) == (draft, "draft")
            assert (await api.client.get(f"/v1/drops/{draft}/report", headers=headers)).status_code == 200
            assert (await api.client.get(f"/v1/drops/{draft}/challenge", headers=headers)).status_code == 200
            answer = await api.client.post(f"/v1/drops/{draft}/ticket", headers=headers)
            problem(answer, 409, "not-open")
            assert answer.headers["retry-after"]

    async def test_operators_watch_it(self, front: Front) -> None:
        assert (await front.operate("POST", "/v1/drops", drop_json("draft"))).status == 201
        line = await front.line()
        await line.send(request("GET", "/v1/drops/draft/live", [front.bearer("boss", "operator")]))
        async with asyncio.timeout(5):
            assert (await line._reader.readuntil(b"data: ")).startswith(b"HTTP/1.1 200 ")

    async def test_from_its_launch_on_everybody_sees_it(self, api: Api, draft: str) -> None:
        problem(await api.client.get(f"/v1/drops/{draft}"), 404, "no-such-drop")
        await api.operate("POST", f"/v1/drops/{draft}/launch")
        for act in ("pause", "resume", "close"):
            assert (await api.client.get(f"/v1/drops/{draft}")).status_code == 200
            assert (await api.operate("POST", f"/v1/drops/{draft}/{act}")).status_code == 200
        assert (await api.client.get(f"/v1/drops/{draft}")).json()["status"] == "closed"

    async def test_a_launched_drop_is_shown_though_the_session_is_worth_nothing(self, api: Api, draft: str) -> None:
        for authorization in ("Bearer x.y.z", "Bearer ", "Basic abc", ""):
            answer = await api.client.get("/v1/drops/trial", headers={"Authorization": authorization})
            assert answer.status_code == 200, authorization

    async def test_an_operator_whose_token_does_not_hold_is_told_so(self, api: Api, draft: str) -> None:
        """Not that there is no such drop; and whoever made the token up hears the same of an id that nobody has."""
        expired = api.tokens.issue(Session("boss", "boss", "operator", {}), -600)
        for token, why in ((expired, "ExpiredTokenError"), ("x.y.z", "not valid")):
            for path in ("", "/live", "/map", "/map/live"):
                told = []
                for drop_id in (draft, "empty"):
                    answer = await api.client.get(
                        f"/v1/drops/{drop_id}{path}", headers={"Authorization": f"Bearer {token}"}
                    )
                    assert why in problem(answer, 401, "session-invalid")["detail"]
                    told.append(answer.content)
                assert told[0] == told[1]

    async def test_a_provider_that_is_away_tells_nothing_of_it(self, api: Api, draft: str, settings: Settings) -> None:
        """An operator hears that it is away, and so does everybody of any id: not 503 for a draft, 404 for nothing."""
        away = {"session_secret": None, "session_jwks_url": "http://127.0.0.1:1/keys"}
        async with running(create_app(settings.model_copy(update=away))) as client:
            for drop_id in (draft, "empty"):
                answer = await client.get(f"/v1/drops/{drop_id}", headers=api.bearer("boss", "operator"))
                problem(answer, 503, "identity-unavailable")
                problem(await client.get(f"/v1/drops/{drop_id}"), 404, "no-such-drop")
            assert (await client.get("/v1/drops/trial", headers=api.bearer())).status_code == 200


PRIVILEGED = {
    "epoch": 9, "revision": 9, "status": "closed", "serial": 1, "actor": "x", "created_at": "2020-01-01T00:00:00Z",
    "updated_at": "2020-01-01T00:00:00Z", "taken": 0, "partition": 1, "nonce": "AAAA", "member_id": "m-9",
    "member": "m-9", "subject_id": "m-9", "role": "operator", "is_operator": True,
    "claimed_at": "2020-01-01T00:00:00Z", "receipt": "x", "not_before": 0, "expires_at": 0,
    "drop_id": "other", "limit": 99, "_id": 1, "__proto__": {}, "__class__": "x",
}  # fmt: skip


class TestMassAssignment:
    """A name that a body may not hold is refused with its name, on every route that takes a body."""

    async def test_privileged_names_are_refused_and_change_nothing(self, api: Api, stores: Stores) -> None:
        await api.launched(limit=5)
        before = await stores.redis.hgetall(keys.drop(0, "trial"))
        for name, value in PRIVILEGED.items():
            await self.refused(api, name, {name: value})
        assert await stores.redis.hgetall(keys.drop(0, "trial")) == before

    async def refused(self, api: Api, name: str, more: dict[str, Any]) -> None:
        answers = [
            await api.operate("POST", "/v1/drops", drop_json("another") | more),
            await api.operate(
                "POST", "/v1/drops", drop_json("another", items=[{"id": "a", "title": {"en": "a"}, "stock": 1, **more}])
            ),
            await api.operate("PATCH", "/v1/drops/trial", {"limit_per_member": 5, **more}, **{"If-Match": '"2"'}),
            await api.operate("POST", "/v1/drops/trial/restock", {"item": "box", "quantity": 1, **more}),
            await api.operate("PUT", "/v1/members/m-1", {"attributes": {}, **more}),
            await api.client.post("/v1/drops/trial/ticket", json={"item": "box", **more}, headers=api.bearer()),
            await api.claim(await api.ticket(), body={"quantity": 1, **more}),
            await api.client.post("/v1/receipts/verify", json={"receipt": "x", **more}),
        ]
        for answer in answers[:-1] if name == "receipt" else answers:
            assert answer.status_code == 422, answer.text
            assert name in answer.json()["detail"]

    async def test_a_draft_keeps_its_id_status_and_revision(self, api: Api) -> None:
        await api.operate("POST", "/v1/drops", drop_json("draft"))
        for change in ({"id": "trial"}, {"status": "launched"}, {"revision": 7}, {"epoch": 7}):
            answer = await api.operate("PATCH", "/v1/drops/draft", change, **{"If-Match": '"1"'})
            problem(answer, 422, "spec-invalid")
        found = (await api.operate("GET", "/v1/drops/draft")).json()
        assert (found["id"], found["status"], found["revision"]) == ("draft", "draft", 1)

    async def test_an_absent_person_is_no_person(self, api: Api) -> None:
        """A subject of null was once the text "None": all those members would have shared one limit."""
        for subject in (None, 5, True, ["m-1"], {"id": "m-1"}, "", "a b"):
            answer = await api.operate("PUT", "/v1/members/m-1", {"attributes": {}, "subject": subject})
            assert answer.status_code == 422
        wrong: list[Any] = [{"\0": "a"}, {"a": "\0"}, {"x" * 201: "a"}, {"a": None}, [], None, "town"]
        for attributes in wrong:
            answer = await api.operate("PUT", "/v1/members/m-1", {"attributes": attributes})
            assert answer.status_code == 422, answer.text
