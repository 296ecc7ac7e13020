"""The promise: no body makes us work long, keep much or break; each is taken as one meaning or refused with 4xx.

What plain wrong claim bodies get is in tests/api/test_claims_malformed.py, wrong drops in tests/api/test_drops.py.
"""

import gzip
import json
import time
import zlib
from itertools import product
from typing import Any

import httpx
import pytest

from engine.bounds import CLAIM_BODY_BYTES_MAX, FAULTS_TOLD_MAX, QUANTITY_MAX, REQUEST_BODY_BYTES_MAX
from engine.drops.spec import SpecInvalid, amended, parse
from tests.api.conftest import Api, problem
from tests.contract.front import Front, claim_request
from tests.contract.line import request
from tests.factories.campaigns import campaign_json
from tests.factories.drops import drop_json, drop_spec

JSON = {"Content-Type": "application/json"}
SOON_S = 5.0  # of the processor, for a request whatever it holds; such a body once took 18 s, now the worst takes 1.3 s
# What each route that takes a body gets, and who may send it.
ROUTES = [
    ("POST", "/v1/drops", "operator"),
    ("PATCH", "/v1/drops/trial", "operator"),
    ("POST", "/v1/drops/trial/restock", "operator"),
    ("PUT", "/v1/members/m-1", "operator"),
    ("POST", "/v1/campaigns", "operator"),
    ("POST", "/v1/campaigns/autumn/amendments?dry_run=true", "operator"),
    ("POST", "/v1/campaigns/autumn/copies", "operator"),
    ("POST", "/v1/drops/trial/ticket", "member"),
    ("POST", "/v1/drops/trial/quiz/answers", "member"),
    ("POST", "/v1/drops/trial/claims", "ticket"),
    ("POST", "/v1/receipts/verify", "nobody"),
]


class Sender:
    """Sends a body to every route that takes one."""

    def __init__(self, api: Api, headers: dict[str, dict[str, str]]) -> None:
        self._api = api
        self._headers = headers

    async def everywhere(self, body: bytes, **more: str) -> list[tuple[str, httpx.Response]]:
        found = []
        for method, path, who in ROUTES:
            headers = {**JSON, "If-Match": '"2"', **self._headers[who], **more}
            since_s = time.process_time()
            found.append((path, await self._api.client.request(method, path, headers=headers, content=body)))
            assert time.process_time() - since_s < SOON_S, path
        return found

    async def refused(self, body: bytes, *statuses: int, **more: str) -> None:
        for path, answer in await self.everywhere(body, **more):
            assert answer.status_code in (statuses or (422,)), (path, body[:60], answer.text[:300])
            assert answer.headers["content-type"] == "application/problem+json"
            assert len(answer.content) < 100_000, path


@pytest.fixture
async def sender(api: Api) -> Sender:
    await api.launched(limit=9)
    assert (await api.operate("POST", "/v1/campaigns", campaign_json())).status_code == 201
    assert (await api.operate("POST", "/v1/campaigns/autumn/launch")).status_code == 200
    ticket = {"Authorization": f"Ticket {await api.ticket()}"}
    who = {"nobody": {}, "member": api.bearer(), "operator": api.bearer("boss", "operator"), "ticket": ticket}
    return Sender(api, who)


NO_TEXTS = [
    b"\xff\xfe{\x00}\x00",  # UTF-16, which Python's json would take
    b"\x00\x00\x00{\x00\x00\x00}",
    '{"item": "b\u00f6x"}'.encode("latin-1"),
    b'{"item": "\xc0\xaf"}',  # overlong
    b'{"item": "\xed\xa0\x80"}',  # a surrogate's bytes
    b'{"item": "\xf5\x80\x80\x80"}',
    b'{"item": "box\x00"}',
    b'{"item": "box\n"}',
    b'\xef\xbb\xbf{"item": "box"}',
    b'{"item": "box",}',
    b'{"item": "box"}{"item": "box"}',
    b'{"item": "box"} x',
    b"{'item': 'box'}",
    b'{"item": "box" /* x */}',
    b"\x1f\x8b\x08\x00",
    b"item=box&quantity=1",
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>',
]


class TestText:
    async def test_what_is_not_json_in_utf8_is_refused(self, sender: Sender) -> None:
        for body in NO_TEXTS:
            await sender.refused(body)

    async def test_signs_that_can_be_spelled_and_not_kept_are_refused(self, sender: Sender) -> None:
        for text in [r"\ud800", r"\udfff", r"\ud800\ud800", r"\u0000", r"box\u0000", r"\u001b[2J", r"\u202e"]:
            for body in (f'{{"{text}": 1}}', f'{{"item": "{text}"}}', f'{{"attributes": {{"{text}": "a"}}}}'):
                await sender.refused(body.encode())

    async def test_a_name_that_stands_twice_is_refused_or_the_last_one_counts(self, api: Api, sender: Sender) -> None:
        body = b'{"item": "nothing", "item": "box", "quantity": 0, "quantity": 2}'
        for path, answer in await sender.everywhere(body):
            if path.endswith(("ticket", "claims")):  # both ways to a claim read it alike, and the limit holds
                assert answer.status_code in (200, 201)
            else:
                assert answer.status_code == 422, path
        problem(await api.operate("POST", "/v1/drops", {}), 422, "spec-invalid")
        twice = json.dumps(drop_json("twice")).replace(
            '"limit_per_member": 1', '"limit_per_member": 1, "limit_per_member": 9'
        )
        headers = {**api.bearer("boss", "operator"), **JSON}
        answer = await api.client.post("/v1/drops", headers=headers, content=twice)
        assert "'limit_per_member' stands twice" in problem(answer, 422, "invalid")["detail"]


NO_QUANTITIES = [
    "0", "-0", "-1", "2147483648", "4294967297", "9223372036854775808",
    "18446744073709551617", "1" * 400, "1" * 5_000, "1.5", "1e-1", "1e999", "-1e999", "NaN", "Infinity",
    "-Infinity", "true", "false", '"1"', '"１"', "[1]", '{"a": 1}', "0x1", "1_0", "+1", "01", ".5", "1.",
]  # fmt: skip


class TestNumbers:
    async def test_a_quantity_that_is_none_is_refused_and_nothing_is_taken(self, api: Api, sender: Sender) -> None:
        for quantity in NO_QUANTITIES:
            statuses = (422,) if len(quantity) < CLAIM_BODY_BYTES_MAX - 50 else (413, 422)
            await sender.refused(f'{{"item": "box", "quantity": {quantity}}}'.encode(), *statuses)
        report = (await api.operate("GET", "/v1/drops/trial/report")).json()["items"][0]
        assert (report["store"]["taken"], report["stock"]) == (0, 10)

    async def test_a_quantity_that_its_two_bytes_cannot_hold_is_refused(self, api: Api) -> None:
        """It would wrap around to a small one: 65,537 to 1."""
        await api.launched(limit=9)
        for quantity in (QUANTITY_MAX + 1, 65_536, 65_537, 16_777_217):
            problem(await api.claim(await api.ticket(), body={"quantity": quantity}), 422, "claim-invalid")
            answer = await api.client.post("/v1/drops/trial/ticket", json={"quantity": quantity}, headers=api.bearer())
            problem(answer, 422, "claim-invalid")

    async def test_a_drops_numbers_are_whole_and_within_bounds(self, api: Api) -> None:
        headers = {**api.bearer("boss", "operator"), **JSON}
        numbers = ("-1", "1.5", "1e3", "true", '"1"', "NaN", "Infinity", "1e999", "9" * 30, "9" * 4_400, "null")
        for name, number in product(("limit_per_member", "stock", "weight_jin"), numbers):
            fresh = drop_json("numbers")
            (fresh if name == "limit_per_member" else fresh["items"][0])[name] = "HERE"
            text = json.dumps(fresh).replace('"HERE"', number)
            answer = await api.client.post("/v1/drops", headers=headers, content=text)
            is_left_out = (name, number) == ("weight_jin", "null")
            assert answer.status_code == (201 if is_left_out else 422), (number, answer.text)
            assert is_left_out or len(answer.content) < 10_000

    async def test_what_comes_back_is_what_json_can_say(self, api: Api, sender: Sender) -> None:
        """An answer that repeats the input must still be JSON for a strict reader."""
        for text in ("NaN", "-Infinity", r'"\ud800"', r'{"\ud800": 1}', r'"\u0000"'):
            for _, answer in await sender.everywhere(f'{{"item": {text}}}'.encode()):
                json.loads(answer.content.decode(), parse_constant=pytest.fail)


class TestSizes:
    async def test_a_deep_body_is_refused(self, sender: Sender) -> None:
        for depth in (400, 3_000, 100_000):
            for start, end in (("[", "]"), ('{"item":', "}")):
                statuses = (413, 422)
                await sender.refused((start * depth + "1" + end * depth).encode(), *statuses)
                await sender.refused((start * depth).encode(), *statuses)

    async def test_a_large_body_is_refused_by_its_length_and_by_what_comes(self, sender: Sender) -> None:
        await sender.refused(b" " * (REQUEST_BODY_BYTES_MAX + 1), 413)

    async def test_a_body_full_of_faults_is_answered_soon_and_briefly(self, api: Api) -> None:
        items = [{"id": f"it-{number:06}", "title": {"en": "a"}, "stock": 1} for number in range(64)]
        near = {f"it-{number:05}": 1 for number in range(60_000)}  # each is near to 64 names
        drop = drop_json("x")
        bodies: list[dict[str, Any]] = [
            drop | {f"limit_pe{number:06}": 1 for number in range(50_000)},
            drop | {"items": items, "waves": [{"at": drop["opens_at"], "stock": near}]},
            drop | {"items": [0] * 300_000},
            drop | {"eligibility": {f"town{number}": 5 for number in range(50_000)}},
            drop | {"eligibility": {"town": {"in": ["x"] * 200_000}}},
            drop | {"title": {f"z{number}": "x" for number in range(50_000)}},
            drop | {"gates": {"quiz": {"bank": [{}] * 300_000}}},
            drop | {"gates": {"quiz": {"bank": [{"choices": [{}] * 10}] * 500}}},
            drop | {"gates": {"slogan": {"choices": [0] * 300_000}, "location": {"towns": [0] * 100_000}}},
        ]
        for body in bodies:
            assert len(json.dumps(body)) < REQUEST_BODY_BYTES_MAX * 1.5
            since_s = time.process_time()
            with pytest.raises(SpecInvalid) as refused:
                parse(body, "body")
            assert time.process_time() - since_s < SOON_S
            assert len(refused.value.detail.splitlines()) <= FAULTS_TOLD_MAX
            assert len(refused.value.detail) < 50_000
        with pytest.raises(SpecInvalid) as refused:
            amended(drop_spec("x"), bodies[0], draft=False)
        assert len(refused.value.detail.splitlines()) <= FAULTS_TOLD_MAX

    async def test_a_name_or_a_text_that_is_long_does_not_come_back_whole(self, sender: Sender) -> None:
        for body in ({"x" * 500_000: 1}, {"item": "x" * 500_000}, {"attributes": {"x" * 500_000: "a"}}):
            await sender.refused(json.dumps(body).encode(), 413, 422)


class TestCompressed:
    async def test_nothing_is_inflated(self, sender: Sender) -> None:
        """A bomb of 900 bytes that inflates to 800 kB is 900 bytes that are no JSON; a good body in gzip as well."""
        bomb = gzip.compress(b"[" * 800_000)
        assert len(bomb) < CLAIM_BODY_BYTES_MAX
        bodies = (bomb, gzip.compress(b'{"item": "box"}'), zlib.compress(b'{"item": "box"}'))
        for body, encoding in product(bodies, ("gzip", "deflate", "br", "zstd", "gzip, gzip", "identity")):
            await sender.refused(body, **{"Content-Encoding": encoding})

    async def test_nothing_is_inflated_by_the_gate(self, front: Front) -> None:
        await front.launched()
        body = gzip.compress(b'{"quantity": 1}')
        for headers in ([("Content-Encoding", "gzip")], [("Transfer-Encoding", "gzip, chunked")]):
            answer = await front.ask(claim_request(await front.ticket(), body, headers))
            assert answer.status in (400, 422)
        assert await front.taken() == 0


async def test_the_gate_refuses_all_of_it_as_the_routes_do(front: Front) -> None:
    await front.launched(limit=9)
    ticket = await front.ticket()
    bodies = NO_TEXTS + [f'{{"quantity": {quantity}}}'.encode() for quantity in NO_QUANTITIES]
    for body in [*bodies, b"[" * CLAIM_BODY_BYTES_MAX, b'{"item":' * 100, b'{"item": "\\ud800"}']:
        for data in (claim_request(ticket, body), front.ticket_request(body=body)):
            answer = await front.ask(data)
            assert answer.status in (413, 422), (body[:60], answer)
    assert await front.taken() == 0


async def test_who_asks_is_judged_before_what_they_send(api: Api) -> None:
    """So that nobody but an operator makes us read a large body."""
    for method, path, who in ROUTES:
        if who == "operator":
            for body in (b"{", b" " * 100, b'{"a": NaN}'):
                problem(await api.client.request(method, path, headers=JSON, content=body), 401, "session-invalid")
                as_member = {**JSON, **api.bearer()}
                problem(await api.client.request(method, path, headers=as_member, content=body), 403, "operators-only")


async def test_types_that_pages_may_send_without_asking_are_refused(front: Front) -> None:
    """A form on another page can send these three types across origins: none of them is read as JSON."""
    await front.launched()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        headers = [("Content-Type", kind)]
        answer = await front.ask(claim_request(await front.ticket(), b'{"quantity": 1}', headers))
        assert answer.code == "media-type"
        operator = [front.bearer("boss", "operator"), *headers]
        answer = await front.ask(
            request("POST", "/v1/drops/trial/restock", operator, b'{"item": "box", "quantity": 1}')
        )
        assert answer.code == "media-type"
    assert await front.taken() == 0
