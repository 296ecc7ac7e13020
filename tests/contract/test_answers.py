"""The promise: every answer of the claim contract (design 3.2) is the same from the gate and from the twin route.

Same status, same headers, same body but for serial, times and receipt.
"""

from datetime import UTC, datetime, timedelta

import pytest

from engine.claims import keys
from engine.claims.model import Overloaded, StoreUnavailable
from engine.claims.service import Claims
from engine.claims.ticket import seal
from engine.claims.wire import ClaimRequest
from engine.drops.model import to_ms
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.contract.conftest import Start, Store
from tests.contract.front import Front, claim_request, told
from tests.contract.line import request
from tests.factories.ledger import record_all

JSON = ("Content-Type", "application/json")


WRONG_BODIES = [
    (b"{", "invalid", None),
    (b"\xff\xfe", "invalid", None),
    (b'{"item": 5}', "invalid", "item"),
    (b'{"itm": "box"}', "invalid", None),
    (b'{"item": "nothing"}', "claim-invalid", "item"),
    (b'{"quantity": 0}', "claim-invalid", "quantity"),
]


NO_IDS = ["", "x" * 65, "a b", "a\tb", "\xe9", "a;b"]


NO_TICKETS = ["", "Ticket", "Bearer abc", "Ticket !!!", "Ticket " + "A" * 5_000, "Ticket \xe9", "ticket x"]


def expired_ticket(settings: Settings) -> str:
    asked = ClaimRequest(nonce=bytes(8), item=1, quantity=1, member="m-1", subject="m-1")
    now = datetime.now(UTC)
    times = to_ms(now - timedelta(minutes=2)), to_ms(now - timedelta(minutes=1))
    return seal(settings.ticket_keyring, "trial", asked, *times)


class TestMalformed:
    async def test_a_text_that_is_no_ticket_is_401(self, front: Front) -> None:
        await front.launched()
        for authorization in NO_TICKETS:
            headers = [("Authorization", authorization), ("X-Request-ID", "r-1.a_B")]
            answer = await front.ask(request("POST", "/v1/drops/trial/claims", headers))
            told(answer, 401, "ticket-invalid", ["www-authenticate"])
            assert answer.headers["www-authenticate"] == "Ticket"
            assert front.by_gate > 0 or not front.is_gate

    async def test_no_authorization_is_401(self, front: Front) -> None:
        await front.launched()
        answer = await front.ask(request("POST", "/v1/drops/trial/claims", [("X-Request-ID", "r-1.a_B")]))
        told(answer, 401, "ticket-invalid", ["www-authenticate"])

    async def test_a_ticket_of_another_drop_is_401(self, front: Front) -> None:
        await front.launched("other")
        await front.launched()
        answer = await front.ask(claim_request(await front.ticket(drop_id="other")))
        assert "'other'" in told(answer, 401, "ticket-invalid", ["www-authenticate"])["detail"]

    async def test_a_wrong_body_is_422_and_names_the_field(self, front: Front) -> None:
        await front.launched()
        for body, code, field in WRONG_BODIES:
            answer = await front.ask(claim_request(await front.ticket(), body, [JSON]))
            assert told(answer, 422, code).get("field") == field

    async def test_another_media_type_is_415(self, front: Front) -> None:
        await front.launched()
        answer = await front.ask(claim_request(await front.ticket(), b"<a/>", [("Content-Type", "text/xml")]))
        told(answer, 415, "media-type")

    async def test_the_media_type_may_have_parameters_odd_case_or_be_left_out(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        for headers in ([("Content-Type", "Application/JSON; charset=utf-8")], [JSON], []):
            assert (await front.ask(claim_request(ticket, b'{"item": "box"}', headers))).status in (200, 201)

    async def test_a_large_body_is_413(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        told(await front.ask(claim_request(ticket, b" " * 1_025, [JSON])), 413, "too-large")
        answer = await front.ask(claim_request(ticket, headers=[JSON, ("Content-Length", "1048577")]))
        told(answer, 413, "too-large", ["connection"])

    async def test_a_body_of_just_the_bound_is_taken(self, front: Front) -> None:
        await front.launched()
        body = b'{"item": "box"}'.ljust(1_024)
        told(await front.ask(claim_request(await front.ticket(), body, [JSON])), 201)

    async def test_another_method_is_405(self, front: Front) -> None:
        await front.launched()
        for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
            answer = await front.ask(request(method, "/v1/drops/trial/claims"), method)
            assert answer.status == 405
            assert answer.headers["allow"] == "POST"

    async def test_an_unknown_drop_is_404(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        for name in ("nothing", "Trial", "-", "a" * 64):
            told(await front.ask(claim_request(ticket, target=f"/v1/drops/{name}/claims")), 404, "no-such-drop")
        for target in ("/v1/drops/trial/claims/", "/v1/drops/trial/claim", "/v1//drops/trial/claims"):
            assert (await front.ask(claim_request(ticket, target=target))).status in (307, 404)


class TestAccepted:
    async def test_the_first_time_is_201_and_the_same_ticket_again_is_200(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        first = told(await front.ask(claim_request(ticket)), 201)
        assert first | {"claimed_at": "", "receipt": ""} == {
            "claim_id": "trial.0.1",
            "drop_id": "trial",
            "item": "box",
            "quantity": 1,
            "serial": 1,
            "claimed_at": "",
            "receipt": "",
        }
        assert told(await front.ask(claim_request(ticket)), 200) == first
        assert list(first) == ["claim_id", "drop_id", "item", "quantity", "serial", "claimed_at", "receipt"]

    async def test_what_the_body_wishes_is_given(self, front: Front) -> None:
        items = [{"id": name, "title": {"en": name}, "stock": 5} for name in ("apples", "pears")]
        await front.launched(items=items, limit=5)
        body = b'{"item": "pears", "quantity": 3}'
        claim = told(await front.ask(claim_request(await front.ticket(), body, [JSON])), 201)
        assert (claim["item"], claim["quantity"]) == ("pears", 3)


class TestRefused:
    async def test_limit_reached(self, front: Front) -> None:
        await front.launched()
        assert (await front.ask(claim_request(await front.ticket()))).status == 201
        found = told(await front.ask(claim_request(await front.ticket())), 409, "limit-reached")
        assert (found["limit_per_member"], found["held"], found["remaining"]) == (1, 1, 0)

    async def test_sold_out(self, front: Front) -> None:
        await front.launched(stock=1)
        assert (await front.ask(claim_request(await front.ticket("m-1")))).status == 201
        told(await front.ask(claim_request(await front.ticket("m-2"))), 409, "sold-out")

    async def test_not_open_says_when(self, front: Front) -> None:
        await front.launched(opens_at=datetime.now(UTC) + timedelta(minutes=5))
        answer = await front.ask(claim_request(await front.ticket()))
        assert told(answer, 409, "not-open", ["retry-after"])["opens_at"]
        assert 290 <= int(answer.headers["retry-after"]) <= 300

    async def test_paused_and_closed(self, front: Front) -> None:
        await front.launched()
        ticket = await front.ticket()
        for act, code in (("pause", "paused"), ("close", "closed")):
            assert (await front.operate("POST", f"/v1/drops/trial/{act}")).status == 200
            await front.remember()
            told(await front.ask(claim_request(ticket)), 409, code)

    async def test_a_released_claim_is_not_claimed_again(self, front: Front, stores: Stores) -> None:
        await front.launched()
        ticket = await front.ticket()
        claim_id = (await front.ask(claim_request(ticket))).json()["claim_id"]
        await record_all(stores)
        assert (await front.operate("POST", f"/v1/claims/{claim_id}/release")).status == 200
        told(await front.ask(claim_request(ticket)), 409, "claim-released")

    async def test_an_expired_ticket_is_401(self, front: Front, settings: Settings) -> None:
        await front.launched()
        answer = await front.ask(claim_request(expired_ticket(settings)))
        told(answer, 401, "ticket-expired", ["www-authenticate"])
        assert answer.headers["www-authenticate"] == "Ticket"


class TestAnotherTime:
    async def test_over_the_members_rate_is_429(self, start: Start) -> None:
        front = await start(member_claims_per_second=1)
        await front.launched()
        ticket = await front.ticket()
        answers = [await front.ask(claim_request(ticket)) for _ in range(4)]  # four fit in no two windows of one
        slowed = [answer for answer in answers if answer.status == 429]
        assert slowed
        told(slowed[0], 429, "slow-down", ["retry-after"])
        assert slowed[0].headers["retry-after"] == "1"

    async def test_a_state_that_is_not_there_is_503(self, front: Front, stores: Stores) -> None:
        await front.launched()
        ticket = await front.ticket()
        await stores.redis.delete(keys.drop(0, "trial"))
        told(await front.ask(claim_request(ticket)), 503, "not-ready", ["retry-after"])

    async def test_an_overload_is_503_and_says_how_long(self, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
        await front.launched()
        ticket = await front.ticket()

        def overloaded(*_: object) -> None:
            raise Overloaded("too many", retry_after_s=7)

        monkeypatch.setattr(Claims, "submit", overloaded)
        answer = await front.ask(claim_request(ticket))
        told(answer, 503, "overloaded", ["retry-after"])
        assert answer.headers["retry-after"] == "7"

    async def test_a_store_that_is_away_is_503(self, front: Front, store: Store) -> None:
        await front.launched()
        ticket = await front.ticket()
        store.failures = [StoreUnavailable("away")]
        told(await front.ask(claim_request(ticket)), 503, "store-unavailable", ["retry-after"])


class TestRequestIds:
    async def test_an_id_that_cannot_be_logged_is_replaced(self, front: Front) -> None:
        await front.launched()
        for given in NO_IDS:
            for target in ("/v1/drops/trial/claims", "/v1/drops/trial"):
                answer = await front.ask(request("POST", target, [("X-Request-ID", given)]))
                assert answer.headers["x-request-id"] not in ("", given)

    async def test_without_one_each_answer_has_its_own(self, front: Front) -> None:
        await front.launched()
        answers = [await front.ask(request("POST", "/v1/drops/trial/claims")) for _ in range(5)]
        assert len({answer.headers["x-request-id"] for answer in answers}) == 5
