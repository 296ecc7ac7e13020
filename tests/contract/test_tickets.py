"""The promise: a ticket from the gate is a ticket from the twin route: the same answers, and it claims the same."""

import time

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.ledger.schema import list_members, lists
from engine.members import store as members_store
from engine.runtime.settings import Settings
from tests.contract.front import REQUEST_ID, Front, claim_request, told
from tests.contract.line import request
from tests.factories.drops import drop_json

TICKET = "/v1/drops/trial/ticket"


NO_SESSIONS = [None, "", "Basic abc", "Bearer", "Bearer x.y.z", "Bearer \xe9"]


WRONG_WISHES = [
    (b"{", 422, "invalid"),
    (b'{"item": "nothing"}', 422, "claim-invalid"),
    (b'{"quantity": 0}', 422, "claim-invalid"),
    (b" " * 1_025, 413, "too-large"),
]


def bare_session(settings: Settings, member: str, **more: object) -> tuple[str, str]:
    """A session as an identity provider makes it that knows nothing of members but their id."""
    assert settings.session_secret is not None
    key = OctKey.import_key(settings.session_secret.get_secret_value())
    token = jwt.encode({"alg": "HS256"}, {"sub": member, "exp": int(time.time()) + 600, **more}, key)
    return "Authorization", f"Bearer {token}"


class TestRefused:
    async def test_without_a_valid_session_it_is_401(self, front: Front) -> None:
        await front.launched()
        for authorization in NO_SESSIONS:
            headers = [("X-Request-ID", REQUEST_ID)] + ([("Authorization", authorization)] if authorization else [])
            answer = await front.ask(request("POST", TICKET, headers))
            told(answer, 401, "session-invalid", ["www-authenticate"])
            assert answer.headers["www-authenticate"] == "Bearer"

    async def test_an_expired_session_is_401(self, front: Front, settings: Settings) -> None:
        await front.launched()
        headers = [("X-Request-ID", REQUEST_ID), bare_session(settings, "m-1", exp=int(time.time()) - 60)]
        told(await front.ask(request("POST", TICKET, headers)), 401, "session-invalid", ["www-authenticate"])

    async def test_a_member_of_another_town_is_403(self, front: Front, settings: Settings) -> None:
        await front.launched(eligibility={"town": {"in": ["大朗"]}})
        away = bare_session(settings, "m-1", attributes={"town": "东坑"})
        answer = await front.ask(request("POST", TICKET, [("X-Request-ID", REQUEST_ID), away]))
        assert told(answer, 403, "not-eligible")["attribute"] == "town"
        here = bare_session(settings, "m-1", attributes={"town": "大朗"})
        told(await front.ask(request("POST", TICKET, [("X-Request-ID", REQUEST_ID), here])), 200)

    async def test_a_list_decides_by_what_the_ledger_says_now(
        self, front: Front, settings: Settings, ledger: AsyncEngine
    ) -> None:
        """Such a drop's tickets are the app's, whoever listens: the gate waits for no ledger."""
        async with ledger.begin() as connection:
            await connection.execute(lists.insert().values(name="couriers"))
            await connection.execute(list_members.insert().values(list="couriers", member="m-1"))
        await front.launched(eligibility={"list": "couriers"})
        for member, status in (("m-1", 200), ("m-2", 403)):
            here = bare_session(settings, member, attributes={"town": "大朗"})
            answer = await front.ask(request("POST", TICKET, [("X-Request-ID", REQUEST_ID), here]))
            found = told(answer, status, "not-eligible" if status == 403 else None)
            assert status == 200 or found["explanation"]["zh"] == "此活动面向在名单 couriers 上的会员；您不在其中"
        assert front.by_gate == 0
        answer = await front.ask(claim_request(await front.ticket()))
        assert answer.status == 201
        assert (front.by_gate > 0) == front.is_gate

    async def test_a_closed_drop_gives_none(self, front: Front) -> None:
        await front.launched()
        assert (await front.operate("POST", "/v1/drops/trial/close")).status == 200
        front.gate._places.clear()
        await front.remember()
        told(await front.ask(front.ticket_request()), 409, "closed")

    async def test_a_draft_gives_none_as_if_there_were_none(self, front: Front) -> None:
        assert (await front.operate("POST", "/v1/drops", drop_json("draft"))).status == 201
        assert (await front.operate("GET", "/v1/drops/draft")).status == 200
        told(await front.ask(front.ticket_request(drop_id="draft")), 404, "no-such-drop")

    async def test_a_wrong_wish_is_refused(self, front: Front) -> None:
        await front.launched()
        for body, status, code in WRONG_WISHES:
            told(await front.ask(front.ticket_request(body=body)), status, code)


class TestIssued:
    async def test_it_says_when_it_may_be_shown(self, front: Front) -> None:
        await front.launched()
        found = told(await front.ask(front.ticket_request()), 200)
        assert list(found) == ["ticket", "not_before", "expires_at"]
        assert front.by_gate == front.is_gate

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
    async def test_the_scheme_may_have_any_case_and_spaces(self, front: Front, scheme: str) -> None:
        await front.launched()
        token = front.bearer()[1].removeprefix("Bearer ")
        headers = [("Authorization", f"{scheme} {token}"), ("X-Request-ID", REQUEST_ID)]
        told(await front.ask(request("POST", TICKET, headers)), 200)

    async def test_an_operator_gets_one_too(self, front: Front) -> None:
        await front.launched()
        headers = [front.bearer("boss", "operator"), ("X-Request-ID", REQUEST_ID)]
        told(await front.ask(request("POST", TICKET, headers)), 200)

    async def test_members_of_one_subject_share_its_limit(
        self, front: Front, settings: Settings, ledger: AsyncEngine
    ) -> None:
        """The ledger knows that two members are one person; a session without attributes is completed from there."""
        await front.launched()
        async with ledger.begin() as connection:
            for member in ("m-1", "m-2"):
                await members_store.put(connection, member, "one-person", {"town": "大朗"}, "boss")
        codes = []
        for member in ("m-1", "m-2"):
            answer = await front.ask(request("POST", TICKET, [bare_session(settings, member)]))
            codes.append((await front.ask(claim_request(answer.json()["ticket"]))).code)
        assert codes == ["201", "limit-reached"]
