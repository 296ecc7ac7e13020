"""The promise: every answer of the claim contract (design 3.2) is given when it says, with the facts that help."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from api.app import create_app
from engine.bounds import CLAIM_BODY_BYTES_MAX, OUTBOX_LOOK_S, QUEUE_CLAIMS_MAX
from engine.claims import keys
from engine.claims.model import Overloaded
from engine.claims.service import Claims
from engine.drops.model import Drop
from engine.members.session import SessionTokens
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem, running
from tests.factories.drops import drop_json
from tests.factories.ledger import record_all


class TestMalformed:
    @pytest.mark.parametrize(
        "authorization",
        [
            None,
            "",
            "Ticket",
            "Ticket ",
            "Bearer abc",
            "Ticket !!!",
            "Ticket AAAA",
            "Ticket " + "A" * 400,
            "Ticket " + "A" * 5_000,
            "Ticket é",
        ],
    )
    async def test_a_text_that_is_no_ticket_is_401(self, api: Api, authorization: str | None) -> None:
        await api.launched()
        headers = {} if authorization is None else {b"Authorization": authorization.encode()}
        answer = await api.client.post("/v1/drops/trial/claims", headers=headers)
        problem(answer, 401, "ticket-invalid")
        assert answer.headers["www-authenticate"] == "Ticket"

    async def test_every_altered_character_is_401(self, api: Api) -> None:
        await api.launched()
        ticket = await api.ticket()
        for at in range(len(ticket)):
            other = "A" if ticket[at] != "A" else "B"
            problem(await api.claim(ticket[:at] + other + ticket[at + 1 :]), 401, "ticket-invalid")
        for changed in (ticket[:-1], ticket + "A", ticket + "=", ticket + "\t"):
            if changed.strip() != ticket:
                problem(await api.claim(changed), 401, "ticket-invalid")

    async def test_a_ticket_of_another_drop_is_401(self, api: Api) -> None:
        await api.launched("one")
        await api.launched("two")
        ticket = await api.ticket(drop_id="one")
        assert "'one'" in problem(await api.claim(ticket, "two"), 401, "ticket-invalid")["detail"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (b"{", None),
            (b"[]", None),
            (b"\xff\xfe", None),
            (b'{"item": 5}', "item"),
            (b'{"quantity": "1"}', "quantity"),
            (b'{"quantity": 1.5}', "quantity"),
            (b'{"itm": "box"}', None),
            (b'{"item": "nothing"}', "item"),
            (b'{"quantity": 0}', "quantity"),
            (b'{"quantity": -1}', "quantity"),
            (b'{"quantity": 99999999999999999999}', "quantity"),
        ],
    )
    async def test_a_wrong_body_is_422_and_names_the_field(self, api: Api, body: bytes, field: str | None) -> None:
        await api.launched()
        headers = {"Authorization": f"Ticket {await api.ticket()}", "Content-Type": "application/json"}
        answer = await api.client.post("/v1/drops/trial/claims", headers=headers, content=body)
        found = problem(answer, 422, "invalid" if field is None else answer.json()["code"])
        assert found.get("field") == field

    async def test_a_missing_item_is_422_and_names_the_items(self, api: Api) -> None:
        items = [{"id": name, "title": {"en": name}, "stock": 1} for name in ("apples", "pears")]
        await api.launched(items=items)
        found = problem(await api.claim(await api.ticket()), 422, "claim-invalid")
        assert "apples, pears" in found["detail"]

    async def test_an_item_other_than_the_tickets_is_422(self, api: Api) -> None:
        items = [{"id": name, "title": {"en": name}, "stock": 1} for name in ("apples", "pears")]
        await api.launched(items=items)
        ticket = await api.ticket(item="apples")
        problem(await api.claim(ticket, body={"item": "pears"}), 422, "claim-invalid")
        assert (await api.claim(ticket)).status_code == 201

    async def test_another_media_type_is_415(self, api: Api) -> None:
        await api.launched()
        headers = {"Authorization": f"Ticket {await api.ticket()}", "Content-Type": "text/xml"}
        problem(await api.client.post("/v1/drops/trial/claims", headers=headers, content=b"<a/>"), 415, "media-type")

    async def test_a_large_body_is_413(self, api: Api) -> None:
        await api.launched()
        headers = {"Authorization": f"Ticket {await api.ticket()}", "Content-Type": "application/json"}
        for size in (CLAIM_BODY_BYTES_MAX + 1, 2_000_000):
            answer = await api.client.post("/v1/drops/trial/claims", headers=headers, content=b" " * size)
            problem(answer, 413, "too-large")

    async def test_a_large_chunked_body_is_413(self, api: Api) -> None:
        await api.launched()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b" " * 50_000

        headers = {"Authorization": f"Ticket {await api.ticket()}", "Content-Type": "application/json"}
        answer = await api.client.post("/v1/drops/trial/claims", headers=headers, content=chunks())
        problem(answer, 413, "too-large")

    async def test_another_method_is_405(self, api: Api) -> None:
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            answer = await api.client.request(method, "/v1/drops/trial/claims")
            problem(answer, 405, "method-not-allowed")
            assert answer.headers["allow"] == "POST"

    async def test_an_unknown_drop_is_404(self, api: Api) -> None:
        await api.launched()
        ticket = await api.ticket()
        for name in ("nothing", "a" * 300, "%00", "%F0%9F%A6%86", "..%2f"):
            answer = await api.claim(ticket, name)
            assert answer.status_code == 404, (name, answer.text)


class TestAccepted:
    async def test_the_first_time_is_201_with_a_receipt_that_verifies(self, api: Api) -> None:
        await api.launched()
        answer = await api.claim(await api.ticket())
        assert answer.status_code == 201
        claim = answer.json()
        assert claim | {"receipt": "", "claimed_at": ""} == {
            "claim_id": "trial.0.1",
            "drop_id": "trial",
            "item": "box",
            "quantity": 1,
            "serial": 1,
            "claimed_at": "",
            "receipt": "",
        }
        assert abs(datetime.fromisoformat(claim["claimed_at"]) - datetime.now(UTC)) < timedelta(seconds=30)
        checked = await api.client.post("/v1/receipts/verify", json={"receipt": claim["receipt"]})
        assert checked.json() == {name: value for name, value in claim.items() if name != "receipt"}

    async def test_the_same_ticket_again_is_200_with_the_same_claim_whatever_happened_since(self, api: Api) -> None:
        await api.launched(stock=1)
        ticket = await api.ticket()
        first = (await api.claim(ticket)).json()
        problem(await api.claim(await api.ticket("m-2")), 409, "sold-out")
        for act in (None, "pause", "resume", "close"):
            if act:
                assert (await api.operate("POST", f"/v1/drops/trial/{act}")).status_code == 200
            again = await api.claim(ticket)
            assert again.status_code == 200
            assert again.json() == first

    async def test_a_hundred_presses_at_once_make_one_claim(self, api: Api) -> None:
        await api.launched(stock=50, limit=5)
        ticket = await api.ticket()
        answers = await asyncio.gather(*(api.claim(ticket) for _ in range(100)))
        assert sorted(answer.status_code for answer in answers) == [200] * 99 + [201]
        assert len({answer.text for answer in answers}) == 1

    async def test_a_member_with_a_limit_takes_a_ticket_for_each_claim(self, api: Api) -> None:
        await api.launched(stock=50, limit=40)
        tickets = [await api.ticket() for _ in range(41)]
        answers = [(await api.claim(ticket)).status_code for ticket in tickets]
        assert answers == [201] * 40 + [409]


class TestRefused:
    async def test_limit_reached_says_which_limit_and_what_remains(self, api: Api) -> None:
        await api.launched(limit=3)
        assert (await api.claim(await api.ticket(quantity=2))).status_code == 201
        found = problem(await api.claim(await api.ticket(quantity=2)), 409, "limit-reached")
        facts = {name: found[name] for name in ("limit", "limit_per_member", "held", "remaining")}
        assert facts == {"limit": "limit_per_member", "limit_per_member": 3, "held": 2, "remaining": 1}
        assert (await api.claim(await api.ticket(quantity=1))).status_code == 201

    async def test_a_race_for_the_limit_has_one_winner(self, api: Api) -> None:
        await api.launched(stock=50)
        tickets = [await api.ticket() for _ in range(30)]
        answers = await asyncio.gather(*(api.claim(ticket) for ticket in tickets))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 29

    async def test_a_race_for_the_last_boxes_sells_each_once(self, api: Api) -> None:
        await api.launched(stock=7)
        tickets = [await api.ticket(f"m-{number}") for number in range(40)]
        answers = await asyncio.gather(*(api.claim(ticket) for ticket in tickets))
        accepted = [answer.json()["serial"] for answer in answers if answer.status_code == 201]
        assert sorted(accepted) == [1, 2, 3, 4, 5, 6, 7]
        for answer in answers:
            if answer.status_code != 201:
                problem(answer, 409, "sold-out")

    async def test_sold_out_says_when_more_is_released(self, api: Api) -> None:
        opens = datetime.now(UTC) - timedelta(minutes=1)
        later = opens + timedelta(minutes=30)
        waves = [{"at": opens.isoformat(), "stock": {"box": 1}}, {"at": later.isoformat(), "stock": {"box": 1}}]
        await api.launched(opens_at=opens, stock=2, waves=waves)
        assert (await api.claim(await api.ticket())).status_code == 201
        found = problem(await api.claim(await api.ticket("m-2")), 409, "sold-out")
        assert found["left"] == 0
        assert abs(datetime.fromisoformat(found["next_release_at"]) - later) < timedelta(milliseconds=1)

    async def test_not_open_says_when_and_the_same_ticket_works_then(self, api: Api) -> None:
        await api.launched(opens_at=datetime.now(UTC) + timedelta(seconds=1))
        ticket = await api.ticket()
        answer = await api.claim(ticket)
        found = problem(answer, 409, "not-open")
        wait = datetime.fromisoformat(found["opens_at"]) - datetime.now(UTC)
        assert wait < timedelta(seconds=1)
        assert answer.headers["retry-after"] == "1"
        await asyncio.sleep(wait.total_seconds() + 0.05)
        assert (await api.claim(ticket)).status_code == 201

    async def test_paused_and_closed(self, api: Api) -> None:
        await api.launched()
        ticket = await api.ticket()
        await api.operate("POST", "/v1/drops/trial/pause")
        problem(await api.claim(ticket), 409, "paused")
        await api.operate("POST", "/v1/drops/trial/resume")
        assert (await api.claim(ticket)).status_code == 201
        other = await api.ticket("m-2")
        await api.operate("POST", "/v1/drops/trial/close")
        problem(await api.claim(other), 409, "closed")

    async def test_an_expired_ticket_may_ask_but_never_claim(self, settings: Settings, stores: Stores) -> None:
        brief = settings.model_copy(update={"ticket_ttl_s": 1})
        async with running(create_app(brief)) as client:
            api = Api(client, SessionTokens(brief))
            await api.launched()
            used, unused = await api.ticket(), await api.ticket("m-2")
            assert (await api.claim(used)).status_code == 201
            await asyncio.sleep(1.1)
            assert (await api.claim(used)).status_code == 200
            answer = await api.claim(unused)
            assert "expired_at" in problem(answer, 401, "ticket-expired")
            assert answer.headers["www-authenticate"] == "Ticket"


class TestSlowDown:
    async def test_a_members_rate_is_429_and_the_ticket_stays_good(self, settings: Settings, stores: Stores) -> None:
        strict = settings.model_copy(update={"member_claims_per_second": 3})
        async with running(create_app(strict)) as client:
            api = Api(client, SessionTokens(strict))
            await api.launched()
            ticket = await api.ticket()
            answers = await asyncio.gather(*(api.claim(ticket) for _ in range(20)))
            slowed = [answer for answer in answers if answer.status_code == 429]
            assert slowed
            problem(slowed[0], 429, "slow-down")
            assert slowed[0].headers["retry-after"] == "1"
            await asyncio.sleep(1.05)
            assert (await api.claim(ticket)).status_code == 200
            assert (await api.claim(await api.ticket("m-2"))).status_code == 201

    async def test_an_address_rate_is_429(self, settings: Settings, stores: Stores) -> None:
        strict = settings.model_copy(update={"address_claims_per_second": 3})
        async with running(create_app(settings)) as free, running(create_app(strict)) as client:
            taking, api = Api(free, SessionTokens(settings)), Api(client, SessionTokens(strict))
            await api.launched()
            tickets = [await taking.ticket(f"m-{number}") for number in range(20)]
            answers = await asyncio.gather(*map(api.claim, tickets))
            assert 429 in {answer.status_code for answer in answers}


def fill(claims: Claims, drop: Drop, ticket: str) -> None:
    opened = claims.open_ticket(ticket)
    for _ in range(QUEUE_CLAIMS_MAX + 1):
        claims.submit(drop, opened, None, None, lambda _: None)


class TestUnavailable:
    async def test_past_the_bound_a_claim_is_shed_before_the_store(self, settings: Settings, stores: Stores) -> None:
        app = create_app(settings)
        async with running(app) as client:
            api = Api(client, SessionTokens(settings))
            await api.launched()
            ticket = await api.ticket()
            claims = app.state.services.claims
            drop = await app.state.services.drops.get("trial")
            await stores.redis.client_pause(700)  # the store is slow: the queue fills
            for _ in range(2):  # the first batches leave the queue at once, then nothing leaves it
                with pytest.raises(Overloaded):
                    fill(claims, drop, ticket)
                await asyncio.sleep(0.02)
            answer = await api.claim(ticket)
            problem(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            await claims.drain()
            assert (await api.claim(ticket)).status_code == 200

    async def test_past_the_bound_of_the_outbox_claims_are_shed_until_the_ledger_has_caught_up(
        self, settings: Settings, stores: Stores
    ) -> None:
        async with running(create_app(settings.model_copy(update={"outbox_bytes_max": 1_000_000}))) as client:
            api = Api(client, SessionTokens(settings))
            await api.launched()
            ticket = await api.ticket()
            for _ in range(150):
                await stores.redis.xadd(keys.outbox(0), {"claims": bytes(10_000)})
            await asyncio.sleep(OUTBOX_LOOK_S * 1.5)
            answer = await api.claim(ticket)
            assert "ledger is behind" in problem(answer, 503, "overloaded")["detail"]
            assert answer.headers["retry-after"]
            await stores.redis.delete(keys.outbox(0))
            await asyncio.sleep(OUTBOX_LOOK_S * 1.5)
            assert (await api.claim(ticket)).status_code == 201

    async def test_a_missing_state_is_503_and_never_made_again(self, api: Api, stores: Stores) -> None:
        await api.launched()
        ticket = await api.ticket()
        await stores.redis.delete(keys.drop(0, "trial"))
        answer = await api.claim(ticket)
        problem(answer, 503, "not-ready")
        assert answer.headers["retry-after"]
        for act in ("pause", "close"):
            problem(await api.operate("POST", f"/v1/drops/trial/{act}"), 503, "not-ready")
        assert not await stores.redis.exists(keys.drop(0, "trial"))

    async def test_a_missing_field_of_the_state_is_503(self, api: Api, stores: Stores) -> None:
        await api.launched()
        ticket = await api.ticket()
        await stores.redis.hdel(keys.drop(0, "trial"), "taken:1")
        problem(await api.claim(ticket), 503, "not-ready")

    async def test_a_store_that_cannot_be_reached_is_503(self, settings: Settings, stores: Stores) -> None:
        async with running(create_app(settings)) as client:
            api = Api(client, SessionTokens(settings))
            await api.launched()
            ticket = await api.ticket()
        lost = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
        async with running(create_app(lost)) as client:
            answer = await Api(client, SessionTokens(lost)).claim(ticket)
            problem(answer, 503, "store-unavailable")
            assert answer.headers["retry-after"]

    async def test_a_store_that_does_not_answer_is_503_outcome_unknown(
        self, settings: Settings, stores: Stores
    ) -> None:
        """The store takes the batch and the line breaks: the same ticket learns later that it was accepted."""
        async with running(create_app(settings)) as client:
            api = Api(client, SessionTokens(settings))
            await api.launched()
            ticket = await api.ticket()
            async with cut_line(settings.redis_url) as url:
                behind = settings.model_copy(update={"redis_url": url})
                async with running(create_app(behind)) as other:
                    answer = await Api(other, SessionTokens(behind)).claim(ticket)
                    problem(answer, 503, "outcome-unknown")
            again = await api.claim(ticket)
            assert again.status_code == 200
            assert again.json()["serial"] == 1


class cut_line:  # noqa: N801 (used as a function)
    """A line to the store that carries every request and cuts the connection instead of carrying a script's answer."""

    def __init__(self, redis_url: str) -> None:
        self._port = int(httpx.URL(redis_url).port or 0)

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._port)
        while sent := await reader.read(65_536):
            store_writer.write(sent)
            answer = await store_reader.read(65_536)
            if b"EVAL" in sent and not answer.startswith(b"-NOSCRIPT"):
                break
            writer.write(answer)
        writer.close()
        store_writer.close()


class TestReleased:
    async def test_a_released_claim_gives_back_once_and_its_ticket_never_claims_again(
        self, api: Api, stores: Stores
    ) -> None:
        await api.launched(stock=1)
        ticket = await api.ticket()
        claim_id = (await api.claim(ticket)).json()["claim_id"]
        path = f"/v1/claims/{claim_id}/release"
        problem(await api.operate("POST", path), 404, "no-such-claim")
        await record_all(stores)
        assert (await api.operate("POST", path + "?reason=ill")).status_code == 200
        problem(await api.operate("POST", path), 409, "already-released")
        problem(await api.claim(ticket), 409, "claim-released")
        assert (await api.claim(await api.ticket())).status_code == 201

    async def test_only_operators_release(self, api: Api) -> None:
        answer = await api.client.post("/v1/claims/trial.0.1/release", headers=api.bearer())
        problem(answer, 403, "operators-only")
        problem(await api.operate("POST", "/v1/claims/nonsense/release"), 422, "id-invalid")


class TestTickets:
    async def test_a_ticket_needs_a_session(self, api: Api) -> None:
        await api.launched()
        for headers in ({}, {"Authorization": "Bearer x.y.z"}, {"Authorization": "Basic abc"}):
            answer = await api.client.post("/v1/drops/trial/ticket", headers=headers)
            problem(answer, 401, "session-invalid")
            assert answer.headers["www-authenticate"] == "Bearer"

    async def test_a_member_of_another_town_is_told_why_not(self, api: Api) -> None:
        await api.launched(eligibility={"town": {"in": ["大朗"]}})
        refused = await api.client.post("/v1/drops/trial/ticket", headers=api.bearer(town="东坑"))
        found = problem(refused, 403, "not-eligible")
        assert found["attribute"] == "town"
        assert "大朗" in found["detail"]
        allowed = await api.client.post("/v1/drops/trial/ticket", headers=api.bearer(town="大朗"))
        assert allowed.status_code == 200

    async def test_drafts_and_closed_drops_give_no_tickets(self, api: Api) -> None:
        await api.operate("POST", "/v1/drops", drop_json("draft"))
        problem(await api.client.post("/v1/drops/draft/ticket", headers=api.bearer()), 404, "no-such-drop")
        await api.launched()
        await api.operate("POST", "/v1/drops/trial/close")
        problem(await api.client.post("/v1/drops/trial/ticket", headers=api.bearer()), 409, "closed")

    async def test_my_claims_are_mine(self, api: Api, stores: Stores) -> None:
        await api.launched()
        await api.claim(await api.ticket("m-1"))
        await api.claim(await api.ticket("m-2"))
        await record_all(stores)
        mine = (await api.client.get("/v1/claims", headers=api.bearer("m-2"))).json()["claims"]
        assert [claim["claim_id"] for claim in mine] == ["trial.0.2"]

    async def test_my_claims_are_paged_without_a_gap_or_a_double(self, api: Api, stores: Stores) -> None:
        await api.launched("other", limit_per_member=3)
        await api.launched(limit_per_member=4)
        for drop_id in ("other", "trial", "trial", "other", "trial", "trial", "other"):
            await api.claim(await api.ticket(drop_id=drop_id), drop_id)
        await record_all(stores)
        seen: list[str] = []
        query = "?limit=2"
        while query:
            page = (await api.client.get(f"/v1/claims{query}", headers=api.bearer())).json()
            seen += [claim["claim_id"] for claim in page["claims"]]
            query = f"?limit=2&after={page['next']}" if page["next"] else ""
        assert len(seen) == len(set(seen)) == 7
        assert seen[0] == "other.0.3"
        problem(await api.client.get("/v1/claims?after=x", headers=api.bearer()), 422, "id-invalid")


async def test_forged_receipts_are_422(api: Api) -> None:
    await api.launched()
    ticket = await api.ticket()
    receipt = (await api.claim(ticket)).json()["receipt"]
    for text in ("", "x", ticket, receipt[:-1], "B" + receipt[1:], "A" * 5_000):
        answer = await api.client.post("/v1/receipts/verify", json={"receipt": text})
        assert answer.status_code in (413, 422)
        problem(answer, answer.status_code, answer.json()["code"])
