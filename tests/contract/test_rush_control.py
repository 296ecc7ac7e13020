"""The promise: rates, deny lists and gates refuse alike on the fast way and on the documented way, and say whose it is.

A refusal for a rate is kept back: the tests that are not about that shorten it.
"""

import asyncio
import json
from pathlib import Path

import pytest

from engine.bounds import HELD_S
from engine.rates import control
from tests.contract.conftest import Start
from tests.contract.front import REQUEST_ID, Front, claim_request, told
from tests.contract.line import Answer, request
from tests.factories.gates import DALANG, DONGKENG, SLOGANS
from tests.factories.proofs import solved

FORGED = "AQEFdHJpYWw" + "A" * 80
SOON_S = 0.02


@pytest.fixture
def is_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "HELD_S", SOON_S)


def write(path: Path, text: str) -> None:
    path.write_text(text)


def slowed(answers: list[Answer], whose: str) -> None:
    """At least one was refused, for this rate."""
    (refused, *_) = [answer for answer in answers if answer.status == 429]
    assert told(refused, 429, "slow-down", ["retry-after"])["whose"] == whose
    assert refused.headers["retry-after"] == "1"


@pytest.mark.usefixtures("is_soon")
class TestRates:
    async def test_a_members_burst_is_of_one_member(self, start: Start) -> None:
        front = await start(member_claims_per_second=1, member_claims_burst=3)
        await front.launched()
        ticket = await front.ticket()
        answers = [await front.ask(claim_request(ticket)) for _ in range(6)]
        assert [answer.status for answer in answers[:3]] == [201, 200, 200]
        slowed(answers[3:], "member")
        assert (await front.ask(claim_request(await front.ticket("m-2")))).status == 201

    async def test_a_client_key_is_counted_where_there_is_one(self, start: Start) -> None:
        front = await start(client_claims_per_second=1)
        await front.launched()
        ticket = await front.ticket()

        def of(*keys: str) -> bytes:
            return claim_request(ticket, headers=[("X-Client-Key", key) for key in keys])

        slowed([await front.ask(of("town-app")) for _ in range(4)], "client key")
        assert (await front.ask(of("another-app"))).status in (200, 201)
        assert {(await front.ask(of())).status for _ in range(4)} <= {200, 201}

    @pytest.mark.parametrize("key", ["", "a b", "é", "a" * 65, "a,b", '"'])
    async def test_a_client_key_that_is_none_is_422(self, start: Start, key: str) -> None:
        front = await start(client_claims_per_second=100)
        await front.launched()
        answer = await front.ask(claim_request(await front.ticket(), headers=[("X-Client-Key", key)]))
        assert told(answer, 422, "invalid")["field"] == "X-Client-Key"

    async def test_without_a_rate_for_them_client_keys_are_not_looked_at(self, front: Front) -> None:
        await front.launched()
        told(await front.ask(claim_request(await front.ticket(), headers=[("X-Client-Key", "a b")])), 201)

    async def test_forged_tickets_are_slowed_by_address_and_good_ones_from_there_are_not(self, start: Start) -> None:
        front = await start(invalid_tickets_per_second=1, invalid_tickets_burst=3)
        await front.launched()
        answers = [await front.ask(claim_request(FORGED)) for _ in range(3)]
        for answer in answers:
            told(answer, 401, "ticket-invalid", ["www-authenticate"])
        slowed([await front.ask(claim_request(FORGED)) for _ in range(3)], "address")
        told(await front.ask(claim_request(await front.ticket())), 201)
        elsewhere = claim_request(FORGED, headers=[("X-Forwarded-For", "203.0.113.9")])
        told(await front.ask(elsewhere), 401, "ticket-invalid", ["www-authenticate"])

    async def test_neighbours_in_a_64_are_one_address(self, start: Start) -> None:
        front = await start(address_claims_per_second=1, address_claims_burst=2)
        await front.launched()
        ticket = await front.ticket()
        answers = [
            await front.ask(claim_request(ticket, headers=[("X-Forwarded-For", f"2001:db8::{number}")]))
            for number in range(1, 6)
        ]
        slowed(answers, "address")

    async def test_shared_buckets_hold_over_two_processes(self, start: Start, redis_url: str) -> None:
        """The second store is the same server here, under another database: only its name must differ."""
        changes = {"rates_redis_url": redis_url[:-1] + "5", "member_claims_per_second": 1, "member_claims_burst": 4}
        one, other = await start(**changes), await start(**changes)
        await one.launched()
        await other.remember()
        ticket = await one.ticket()
        answers = [await front.ask(claim_request(ticket)) for front in (one, other) * 4]
        assert 4 <= [answer.status in (200, 201) for answer in answers].count(True) <= 5
        slowed(answers, "member")

    async def test_tickets_have_buckets_of_their_own_by_client_key_too(self, start: Start) -> None:
        front = await start(client_claims_per_second=1)
        await front.launched()
        ticket = await front.ticket()
        headers = [front.bearer(), ("X-Request-ID", REQUEST_ID), ("X-Client-Key", "town-app")]
        slowed([await front.ask(request("POST", "/v1/drops/trial/ticket", headers)) for _ in range(4)], "client key")
        told(await front.ask(claim_request(ticket, headers=headers[2:])), 201)
        headers[2] = ("X-Client-Key", "a b")
        told(await front.ask(request("POST", "/v1/drops/trial/ticket", headers)), 422, "invalid")

    async def test_shared_buckets_of_tickets_hold_over_two_processes(self, start: Start, redis_url: str) -> None:
        changes = {"rates_redis_url": redis_url[:-1] + "5", "member_claims_per_second": 1, "member_claims_burst": 4}
        one, other = await start(**changes), await start(**changes)
        await one.launched()
        await other.remember()
        answers = [await front.ask(front.ticket_request()) for front in (one, other) * 4]
        assert 4 <= [answer.status for answer in answers].count(200) <= 5
        slowed(answers, "member")
        assert one.by_gate + other.by_gate == (8 if one.is_gate else 0)
        wrong = one.ticket_request("m-2", body=b"{")
        told(await one.ask(wrong), 422, "invalid")  # also behind the shared buckets a fault has its answer
        given = next(answer.json()["ticket"] for answer in answers if answer.status == 200)
        told(await other.ask(claim_request(given)), 201)

    async def test_without_their_store_claims_go_on(self, start: Start) -> None:
        front = await start(rates_redis_url="redis://127.0.0.1:1/0", member_claims_per_second=2)
        await front.launched()
        ticket = await front.ticket()
        answers = [await front.ask(claim_request(ticket)) for _ in range(5)]
        assert [answer.status for answer in answers[:2]] == [201, 200]
        slowed(answers, "member")  # by this process alone


class TestKeptBack:
    async def test_a_refusal_comes_late_and_the_connection_goes_on(self, start: Start) -> None:
        front = await start(member_claims_per_second=1, member_claims_burst=1)
        await front.launched()
        data = claim_request(await front.ticket())
        line = await front.line()
        told(await line.ask(data), 201)
        since_s = front.loop.time()
        told(await line.ask(data), 429, "slow-down", ["retry-after"])
        assert HELD_S <= front.loop.time() - since_s < HELD_S + 1
        told(await line.ask(data), 200)  # who has waited for the answer has waited long enough

    async def test_past_the_bound_it_is_told_at_once(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(control, "HELD_MAX", 2)
        front = await start(member_claims_per_second=1, member_claims_burst=1)
        await front.launched()
        data = claim_request(await front.ticket())
        told(await front.ask(data), 201)
        waiting = [asyncio.create_task(front.ask(data)) for _ in range(2)]
        await asyncio.sleep(0.1)
        since_s = front.loop.time()
        told(await front.ask(data), 429, "slow-down", ["retry-after"])
        assert front.loop.time() - since_s < HELD_S / 2
        for answer in await asyncio.gather(*waiting):
            assert answer.status in (200, 429)

    async def test_a_client_that_goes_away_meanwhile_breaks_nothing(self, start: Start) -> None:
        front = await start(member_claims_per_second=1, member_claims_burst=1)
        await front.launched()
        data = claim_request(await front.ticket())
        told(await front.ask(data), 201)
        line = await front.line()
        await line.send(data)
        await asyncio.sleep(0.05)
        line.vanish()
        await asyncio.sleep(HELD_S)
        assert (await front.ask(data)).status == 200


class TestDenied:
    @pytest.fixture
    def deny_file(self, tmp_path: Path) -> Path:
        path = tmp_path / "deny"
        path.write_text("address 203.0.113.0/24 # a farm\nmember m-bad\n")
        return path

    async def test_an_address_gets_neither_ticket_nor_claim(self, start: Start, deny_file: Path) -> None:
        front = await start(deny_file=deny_file)
        await front.launched()
        ticket, session = await front.ticket(), front.bearer()
        there = [("X-Forwarded-For", "203.0.113.9"), ("X-Request-ID", REQUEST_ID)]
        for data in (
            claim_request(ticket, headers=there[:1]),
            claim_request(FORGED, headers=there[:1]),
            request("POST", "/v1/drops/trial/ticket", [session, *there]),
        ):
            assert told(await front.ask(data), 403, "denied")["whose"] == "address"
        told(await front.ask(claim_request(ticket)), 201)

    async def test_a_member_gets_neither_and_a_ticket_from_before_claims_nothing(
        self, start: Start, deny_file: Path
    ) -> None:
        free = await start()
        await free.launched()
        ticket = await free.ticket("m-bad")
        front = await start(deny_file=deny_file)
        await front.remember()
        assert told(await front.ask(claim_request(ticket)), 403, "denied")["whose"] == "member"
        assert told(await front.ask(front.ticket_request("m-bad")), 403, "denied")["whose"] == "member"
        assert await front.taken() == 0

    async def test_a_change_counts_within_a_second(self, start: Start, deny_file: Path) -> None:
        front = await start(deny_file=deny_file)
        await front.launched()
        ticket = await front.ticket()
        write(deny_file, "member m-1\n")
        await asyncio.sleep(1)
        told(await front.ask(claim_request(ticket)), 403, "denied")
        write(deny_file, "")
        await asyncio.sleep(1)
        told(await front.ask(claim_request(ticket)), 201)


class TestGate:
    async def test_a_client_needs_one_more_request(self, front: Front) -> None:
        await front.launched(gates={"proof_of_work": {"bits": 6}})
        asked = told(await front.ask(front.ticket_request()), 428, "proof-required")
        assert asked["bits"] == 6
        proof = solved(asked)
        found = told(await front.ask(front.ticket_request(body=b'{"proof": "%b"}' % proof.encode())), 200)
        told(await front.ask(claim_request(str(found["ticket"]))), 201)

    async def test_another_members_proof_is_422_with_a_challenge_of_ones_own(self, front: Front) -> None:
        await front.launched(gates={"proof_of_work": {"bits": 6}})
        asked = told(await front.ask(front.ticket_request()), 428, "proof-required")
        body = b'{"proof": "%b"}' % solved(asked).encode()
        again = told(await front.ask(front.ticket_request("m-2", body=body)), 422, "proof-invalid")
        body = b'{"proof": "%b"}' % solved(again).encode()
        told(await front.ask(front.ticket_request("m-2", body=body)), 200)

    async def test_a_challenge_can_be_asked_for_beforehand(self, front: Front) -> None:
        await front.launched(gates={"proof_of_work": {"bits": 6}})
        headers = [front.bearer(), ("X-Request-ID", REQUEST_ID)]
        (asked,) = told(await front.ask(request("GET", "/v1/drops/trial/challenge", headers)), 200)["gates"]
        body = b'{"proof": "%b", "item": "box"}' % solved(asked).encode()
        told(await front.ask(front.ticket_request(body=body)), 200)
        await front.launched("open")
        asked = told(await front.ask(request("GET", "/v1/drops/open/challenge", headers)), 200)
        assert asked == {"gates": []}

    async def test_a_place_and_a_slogan_are_judged_and_told(self, front: Front) -> None:
        await front.launched(gates={"location": {"towns": ["大朗"]}, "slogan": SLOGANS})
        told(await front.ask(front.ticket_request()), 428, "location-required")
        there = json.dumps({"location": DONGKENG, "slogan": "moon"}).encode()
        told(await front.ask(front.ticket_request(body=there)), 403, "wrong-town")
        swapped = json.dumps({"location": {"lat": DALANG["lon"], "lon": DALANG["lat"]}}).encode()
        told(await front.ask(front.ticket_request(body=swapped)), 422, "location-invalid")
        here = json.dumps({"location": DALANG, "slogan": "moon"}).encode()
        found = told(await front.ask(front.ticket_request(body=here)), 200)
        assert (found["town"], found["slogan"]) == ("大朗", "moon")
        told(await front.ask(claim_request(str(found["ticket"]))), 201)

    async def test_a_claim_takes_no_proof(self, front: Front) -> None:
        await front.launched()
        told(await front.ask(claim_request(await front.ticket(), b'{"proof": "x"}')), 422, "invalid")

    async def test_an_operator_changes_the_work_of_a_running_drop(self, front: Front) -> None:
        await front.launched()
        told(await front.ask(front.ticket_request()), 200)
        headers = [front.bearer("boss", "operator"), ("Content-Type", "application/json"), ("If-Match", '"2"')]
        body = b'{"gates": {"proof_of_work": {"bits": 6}}}'
        assert (await front.ask(request("PATCH", "/v1/drops/trial", headers, body))).status == 200
        front.app.state.services.drops.forget("trial")
        if front.is_gate:
            front.gate._places.clear()
        await front.remember()
        told(await front.ask(front.ticket_request()), 428, "proof-required")
