"""The promise: with its protocol the gate answers, without it the app does; so what both must do is tested of both."""

from tests.contract.front import Front, claim_request
from tests.contract.line import request


async def test_plain_claims_and_tickets_are_the_gates(front: Front) -> None:
    await front.launched()
    assert front.by_gate == 0
    ticket = await front.ticket()
    assert (await front.ask(claim_request(ticket))).status == 201
    assert (await front.ask(claim_request("nonsense"))).status == 401
    assert front.by_gate == (3 if front.is_gate else 0)


async def test_everything_else_is_the_apps(front: Front) -> None:
    """Each of these is right on the app; the gate has no rule of its own for it."""
    await front.launched()
    ticket = await front.ticket()
    seen = front.by_gate
    requests = [
        request("GET", "/v1/drops/trial/claims"),
        request("POST", "/v1/drops/other/claims"),
        claim_request(ticket, target="/v1/drops/trial/claims?x=1"),
        claim_request(ticket, b'{"quantity": 1}' + b" " * 2_000),
        claim_request(ticket, headers=[("Expect", "100-continue")]),
        claim_request(ticket, headers=[("Transfer-Encoding", "chunked")]) + b"0\r\n\r\n",
        claim_request(ticket, headers=[("Upgrade", "h2c")]),
        claim_request(ticket, headers=[("X-Request-ID", "twice")]),
        request("POST", "/v1/drops/trial/ticket"),
        request("POST", "/v1/drops/trial/ticket", [("Authorization", "Bearer nonsense")]),
    ]
    for data in requests:
        await front.ask(data)
    assert front.by_gate == seen


async def test_a_drop_that_is_not_in_memory_is_the_apps_the_first_time(front: Front) -> None:
    await front.launched()
    ticket = await front.ticket()
    front.app.state.services.drops.forget("trial")
    front.gate._places.clear()
    seen = front.by_gate
    assert (await front.ask(claim_request(ticket))).status == 201
    assert front.by_gate == seen
    assert (await front.ask(claim_request(ticket))).status == 200
    assert front.by_gate == seen + (1 if front.is_gate else 0)
