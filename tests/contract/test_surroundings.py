"""The promise: what surrounds an answer is the same from both: CORS, root path, client address, access log, metrics."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from tests.contract.conftest import Log, Start, Store
from tests.contract.front import EVERY_ANSWER, REQUEST_ID, Front, claim_request, told
from tests.contract.line import Answer, Headers, request

OURS, OTHERS = "https://union.test", "https://elsewhere.test"
EXPOSED = "ETag, Retry-After, X-Request-ID"
CLAIMS, TICKET = "/v1/drops/{drop_id}/claims", "/v1/drops/{drop_id}/ticket"


def of_cors(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in EVERY_ANSWER | {"www-authenticate"}}


class TestCors:
    @pytest.mark.parametrize(
        ("origin", "expected"),
        [
            (OURS, {"access-control-allow-origin": OURS, "access-control-expose-headers": EXPOSED, "vary": "Origin"}),
            (OTHERS, {"access-control-expose-headers": EXPOSED, "vary": "Origin"}),
            ("null", {"access-control-expose-headers": EXPOSED, "vary": "Origin"}),
            ("", {"access-control-expose-headers": EXPOSED, "vary": "Origin"}),
            (None, {"vary": "Origin"}),
        ],
    )
    async def test_an_answer_says_who_may_read_it(
        self, start: Start, origin: str | None, expected: dict[str, str]
    ) -> None:
        front = await start(cors_origins=(OURS, "https://other.test"))
        await front.launched()
        ticket = await front.ticket()
        headers = [] if origin is None else [("Origin", origin)]
        for data in (
            claim_request(ticket, headers=headers),
            claim_request("nonsense", headers=headers),
            request("POST", "/v1/drops/trial/ticket", [front.bearer(), *headers]),
        ):
            assert of_cors(await front.ask(data)) == expected

    @pytest.mark.parametrize("origin", [OURS, None])
    async def test_every_origin_may_be_allowed(self, start: Start, origin: str | None) -> None:
        front = await start(cors_origins=("*",))
        await front.launched()
        headers = [] if origin is None else [("Origin", origin)]
        found = of_cors(await front.ask(claim_request(await front.ticket(), headers=headers)))
        allowed = {"access-control-allow-origin": "*", "access-control-expose-headers": EXPOSED}
        assert found == {"vary": "Origin", **(allowed if origin else {})}

    async def test_without_origins_nothing_is_said(self, front: Front) -> None:
        await front.launched()
        told(await front.ask(claim_request(await front.ticket(), headers=[("Origin", OURS)])), 201)

    @pytest.mark.parametrize(("origin", "status"), [(OURS, 200), (OTHERS, 400)])
    async def test_a_preflight_is_answered(self, start: Start, origin: str, status: int) -> None:
        front = await start(cors_origins=(OURS,))
        await front.launched()
        asked = [("Origin", origin), ("Access-Control-Request-Method", "POST")]
        asked.append(("Access-Control-Request-Headers", "authorization,x-request-id"))
        line = await front.line()
        answer = await line.ask(request("OPTIONS", "/v1/drops/trial/claims", asked), "OPTIONS")
        assert answer.status == status
        assert answer.headers.get("access-control-allow-origin") == (OURS if status == 200 else None)
        assert (await line.ask(claim_request(await front.ticket(), headers=[("Origin", origin)]))).status == 201


# FastAPI would have the server told of the root path; that warning is no matter of the gate's.
OLD_ROOT_PATH = pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")


@OLD_ROOT_PATH
@pytest.mark.parametrize("target", ["/app/v1/drops/trial/claims", "/v1/drops/trial/claims"])
async def test_below_a_root_path_a_claim_is_found_with_it_and_without(start: Start, target: str) -> None:
    """A proxy that serves us under a path may cut it off before us, or leave it."""
    front = await start(root_path="/app")
    await front.launched()
    ticket = await front.ticket()
    seen = front.by_gate
    told(await front.ask(claim_request(ticket, target=target)), 201)
    assert front.by_gate == seen + front.is_gate
    await front.remember()
    for other in ("/app/app/v1/drops/trial/claims", "/appv1/drops/trial/claims", "/other/v1/drops/trial/claims"):
        assert (await front.ask(claim_request(ticket, target=other))).status == 404


class TestAddresses:
    @pytest.mark.parametrize(
        ("trusted", "forwarded", "counted"),
        [
            ("127.0.0.1", [], "127.0.0.1"),
            ("127.0.0.1", ["1.1.1.1"], "1.1.1.1"),
            ("127.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("127.0.0.1, 1.1.1.1", ["6.6.6.6, 1.1.1.1"], "6.6.6.6"),
            ("127.0.0.0/8", ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
            ("127.0.0.1", ["1.1.1.1:4711"], "1.1.1.1"),
            ("127.0.0.1", ["[2001:db8::1]:80"], "2001:db8::/64"),
            ("127.0.0.1", ["2001:db8:0:1:ffff::1"], "2001:db8:0:1::/64"),
            ("127.0.0.1", ["::ffff:1.1.1.1"], "1.1.1.1"),
            ("127.0.0.1", [""], "127.0.0.1"),
            ("127.0.0.1", ["nonsense \xe9"], "nonsense \xe9"),
            ("10.0.0.1", ["1.1.1.1"], "127.0.0.1"),
            ("", ["1.1.1.1"], "127.0.0.1"),
            ("*", ["6.6.6.6, 1.1.1.1"], "6.6.6.6"),
        ],
    )
    async def test_a_rate_counts_the_client_and_not_the_proxy(
        self, start: Start, trusted: str, forwarded: list[str], counted: str
    ) -> None:
        front = await start(address_claims_per_second=1_000, trusted_proxies=trusted)
        await front.launched()
        headers = [("X-Forwarded-For", value) for value in forwarded]
        told(await front.ask(claim_request(await front.ticket(), headers=headers)), 201)
        buckets = front.app.state.services.control.claims.addresses
        assert (len(buckets), counted in buckets) == (1, True)

    async def test_over_the_rate_one_address_is_slowed_and_another_is_not(self, start: Start) -> None:
        front = await start(address_claims_per_second=1)
        await front.launched()
        ticket = await front.ticket()

        def of(address: str) -> bytes:
            return claim_request(ticket, headers=[("X-Forwarded-For", address)])

        answers = [await front.ask(of("1.1.1.1")) for _ in range(4)]
        told(next(answer for answer in answers if answer.status == 429), 429, "slow-down", ["retry-after"])
        assert (await front.ask(of("2.2.2.2"))).status in (200, 201)


def answered(logs: Log) -> Log:
    return [entry for entry in logs if entry["event"] == "answered"]


class TestAccessLog:
    @OLD_ROOT_PATH
    async def test_each_answer_is_a_line_without_a_secret(self, start: Start, logs: Log) -> None:
        front = await start(access_log=True, root_path="/app")
        await front.launched()
        ticket = await front.ticket()
        logs.clear()
        target = "/app/v1/drops/trial/claims"
        for data in (
            claim_request(ticket),
            claim_request(ticket, target=target),
            claim_request("nonsense"),
            front.ticket_request(),
        ):
            await front.ask(data)
        await asyncio.sleep(0.01)  # the twin writes its line after its answer
        expected = [
            (CLAIMS, "/v1/drops/trial/claims", 201),
            (CLAIMS, target, 200),
            (CLAIMS, "/v1/drops/trial/claims", 401),
            (TICKET, "/v1/drops/trial/ticket", 200),
        ]
        lines = answered(logs)
        for line, (route, path, status) in zip(lines, expected, strict=True):
            assert 0 <= line.pop("ms") < 1_000
            assert line == {
                "event": "answered",
                "log_level": "info",
                "method": "POST",
                "route": route,
                "path": path,
                "status": status,
                "request_id": REQUEST_ID,
            }
        assert ticket not in str(logs)
        assert "eyJ" not in str(logs)

    async def test_pipelined_answers_have_each_their_own_line(self, start: Start, logs: Log, store: Store) -> None:
        front = await start(access_log=True)
        await front.launched()
        ticket = await front.ticket()
        logs.clear()
        line = await front.line()
        store.hold()
        await line.send(claim_request(ticket) + request("GET", "/v1/drops/trial", [("X-Request-ID", "r-2")]))
        await store.until_asked()
        store.release()
        assert [(await line.read()).status for _ in range(2)] == [201, 200]
        await asyncio.sleep(0.01)
        assert [(entry["request_id"], entry["method"], entry["path"]) for entry in answered(logs)] == [
            (REQUEST_ID, "POST", "/v1/drops/trial/claims"),
            ("r-2", "GET", "/v1/drops/trial"),
        ]

    async def test_a_client_that_has_gone_leaves_a_line_too(self, start: Start, logs: Log, store: Store) -> None:
        """An operator who looks for a claim that a member says they never heard of finds it here."""
        front = await start(access_log=True)
        await front.launched()
        line = await front.line()
        ticket = await front.ticket()
        logs.clear()
        store.hold()
        await line.send(claim_request(ticket))
        await store.until_asked()
        line.vanish()
        await asyncio.sleep(0.02)
        store.release()
        await front.app.state.services.claims.drain()
        await asyncio.sleep(0.01)
        assert [(entry["route"], entry["status"]) for entry in answered(logs)] == [(CLAIMS, 201)]

    async def test_it_is_off_unless_it_is_wished(self, front: Front, logs: Log) -> None:
        await front.launched()
        await front.ask(claim_request(await front.ticket()))
        assert answered(logs) == []


def count(route: str, status: int) -> float:
    labels = {"route": route, "status": str(status)}
    return REGISTRY.get_sample_value("flashclaim_http_answers_total", labels) or 0.0


async def test_answers_are_counted_by_route_and_status(front: Front) -> None:
    await front.launched()
    ticket = await front.ticket()
    expected = {(CLAIMS, 201): 1.0, (CLAIMS, 200): 3.0, (CLAIMS, 401): 2.0, (TICKET, 200): 2.0, (TICKET, 422): 1.0}
    await asyncio.sleep(1.02 if front.is_gate else 0)  # the gate tells the metric once a second
    before = {key: count(*key) for key in expected}
    headers: Headers = [("Content-Type", "application/json")]
    for data in [claim_request(ticket, headers=headers)] * 4 + [claim_request("nonsense")] * 2:
        await front.ask(data)
    for data in (front.ticket_request(), front.ticket_request(), front.ticket_request(body=b"{")):
        await front.ask(data)
    await asyncio.sleep(1.02 if front.is_gate else 0)
    assert {key: count(*key) - value for key, value in before.items()} == expected
