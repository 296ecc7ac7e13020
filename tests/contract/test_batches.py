"""The promise: a batch that fails answers every waiter and harms no other; an answer that fails harms one claim."""

import pytest

from api import claim as claim_path
from engine.claims.admission import Answers
from engine.claims.model import Claim, OutcomeUnknown
from engine.errors import FlashclaimError
from tests.contract.conftest import Log, Store
from tests.contract.front import Front, claim_request, told
from tests.contract.line import Line


async def gathered(front: Front, store: Store, tickets: list[str]) -> list[Line]:
    """Lines with a claim in flight each: the first alone at the store, the others together behind it."""
    lines = [await front.line() for _ in tickets]
    before = store.claims
    store.hold()
    for place, (line, ticket) in enumerate(zip(lines, tickets, strict=True)):
        await line.send(claim_request(ticket))
        if place == 0:
            await store.until_asked()
    await store.until_gathered(before + len(tickets))
    return lines


@pytest.mark.parametrize("failure", [OutcomeUnknown("the line broke", retry_after_s=1), RuntimeError("a bug")])
async def test_every_waiter_of_a_failed_batch_is_told_and_the_next_batch_works(
    front: Front, store: Store, failure: Exception
) -> None:
    await front.launched()
    tickets = await front.tickets(6)
    lines = await gathered(front, store, tickets)
    store.failures = [failure]  # for the first batch, of one claim
    store.release()
    told(await lines[0].read(), 503, "outcome-unknown", ["retry-after"])
    for line in lines[1:]:
        told(await line.read(), 201)
    store.hold()
    lines = await gathered(front, store, tickets)
    store.failures = [KeyError("nothing of ours"), failure]
    store.release()
    for line in lines:
        answer = await line.read()
        told(answer, 503, "outcome-unknown", ["retry-after"])
        assert answer.headers["retry-after"] == "1"
    statuses = [(await line.ask(claim_request(ticket))).status for line, ticket in zip(lines, tickets, strict=True)]
    assert statuses == [201, 200, 200, 200, 200, 200]


async def test_an_answer_that_cannot_be_worked_out_harms_one_claim(
    front: Front, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await front.launched()
    work_out = Answers.__call__

    def breaking(answers: Answers, place: int) -> Claim | FlashclaimError:
        if place == 1:
            raise ArithmeticError("a bug")
        return work_out(answers, place)

    monkeypatch.setattr(Answers, "__call__", breaking)
    tickets = await front.tickets(4)
    lines = await gathered(front, store, tickets)
    store.release()
    for place in (0, 1, 3):
        told(await lines[place].read(), 201)
    told(await lines[2].read(), 503, "outcome-unknown", ["retry-after"])
    told(await lines[2].ask(claim_request(tickets[2])), 200)


async def test_an_answer_that_cannot_be_written_harms_one_claim(
    front: Front, store: Store, monkeypatch: pytest.MonkeyPatch, logs: Log
) -> None:
    """Its client too is told, and not left to wait; the claim is made, and the ticket tells it."""
    front.may_break = True
    await front.launched()
    rendered = claim_path.rendered

    def breaking(claim: Claim) -> claim_path.Told:
        if claim.serial == 3 and not claim.repeated:
            raise ArithmeticError("a bug")
        return rendered(claim)

    monkeypatch.setattr(claim_path, "rendered", breaking)
    tickets = await front.tickets(4)
    lines = await gathered(front, store, tickets)
    store.release()
    for place in (0, 1, 3):
        told(await lines[place].read(), 201)
    answer = await lines[2].read(within_s=1)
    assert (answer.status, answer.code) == (500, "internal")
    assert told(await front.ask(claim_request(tickets[2])), 200)["serial"] == 3


async def test_a_request_that_breaks_is_500_and_the_next_is_answered(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.may_break = True
    await front.launched()
    ticket = await front.ticket()

    def breaking(*_: object) -> claim_path.Wish:
        raise ArithmeticError("a bug")

    monkeypatch.setattr(claim_path, "_decoded", breaking)
    for data in (claim_request(ticket, b"{}"), front.ticket_request(body=b"{}")):
        answer = await front.ask(data)
        assert (answer.status, answer.code) == (500, "internal")
    told(await front.ask(claim_request(ticket)), 201)
