"""The promise: a claim that is not well formed is refused with a status that says why, and names the field."""

from collections.abc import AsyncIterator

import pytest

from engine.bounds import CLAIM_BODY_BYTES_MAX
from tests.api.conftest import Api, problem


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
async def test_a_text_that_is_no_ticket_is_401(api: Api, authorization: str | None) -> None:
    await api.launched()
    headers = {} if authorization is None else {b"Authorization": authorization.encode()}
    answer = await api.client.post("/v1/drops/trial/claims", headers=headers)
    problem(answer, 401, "ticket-invalid")
    assert answer.headers["www-authenticate"] == "Ticket"


async def test_every_altered_character_is_401(api: Api) -> None:
    await api.launched()
    ticket = await api.ticket()
    for at in range(len(ticket)):
        other = "A" if ticket[at] != "A" else "B"
        problem(await api.claim(ticket[:at] + other + ticket[at + 1 :]), 401, "ticket-invalid")
    for changed in (ticket[:-1], ticket + "A", ticket + "=", ticket + "\t"):
        if changed.strip() != ticket:
            problem(await api.claim(changed), 401, "ticket-invalid")


async def test_a_ticket_of_another_drop_is_401(api: Api) -> None:
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
async def test_a_wrong_body_is_422_and_names_the_field(api: Api, body: bytes, field: str | None) -> None:
    await api.launched()
    headers = {"Authorization": f"Ticket {await api.ticket()}", "Content-Type": "application/json"}
    answer = await api.client.post("/v1/drops/trial/claims", headers=headers, content=body)
    found = problem(answer, 422, "invalid" if field is None else answer.json()["code"])
    assert found.get("field") == field


async def test_a_missing_item_is_422_and_names_the_items(api: Api) -> None:
    items = [{"id": name, "title": {"en": name}, "stock": 1} for name in ("apples", "pears")]
    await api.launched(items=items)
    found = problem(await api.claim(await api.ticket()), 422, "claim-invalid")
    assert "apples, pears" in found["detail"]


async def test_an_item_other_than_the_tickets_is_422(api: Api) -> None:
    items = [{"id": name, "title": {"en": name}, "stock": 1} for name in ("apples", "pears")]
    await api.launched(items=items)
    ticket = await api.ticket(item="apples")
    problem(await api.claim(ticket, body={"item": "pears"}), 422, "claim-invalid")
    assert (await api.claim(ticket)).status_code == 201


async def test_another_media_type_is_415(api: Api) -> None:
    await api.launched()
    headers = {"Authorization": f"Ticket {await api.ticket()}", "Content-Type": "text/xml"}
    problem(await api.client.post("/v1/drops/trial/claims", headers=headers, content=b"<a/>"), 415, "media-type")


async def test_a_large_body_is_413(api: Api) -> None:
    await api.launched()
    headers = {"Authorization": f"Ticket {await api.ticket()}", "Content-Type": "application/json"}
    for size in (CLAIM_BODY_BYTES_MAX + 1, 2_000_000):
        answer = await api.client.post("/v1/drops/trial/claims", headers=headers, content=b" " * size)
        problem(answer, 413, "too-large")


async def test_a_large_chunked_body_is_413(api: Api) -> None:
    await api.launched()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 50_000

    headers = {"Authorization": f"Ticket {await api.ticket()}", "Content-Type": "application/json"}
    answer = await api.client.post("/v1/drops/trial/claims", headers=headers, content=chunks())
    problem(answer, 413, "too-large")


async def test_another_method_is_405(api: Api) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = await api.client.request(method, "/v1/drops/trial/claims")
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == "POST"


async def test_an_unknown_drop_is_404(api: Api) -> None:
    await api.launched()
    ticket = await api.ticket()
    for name in ("nothing", "a" * 300, "%00", "%F0%9F%A6%86", "..%2f"):
        answer = await api.claim(ticket, name)
        assert answer.status_code == 404, (name, answer.text)
