"""The promise: anybody may check a draw, a member sees their own awards alone, and each stage is an operator's act."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.draws.verify import check, check_proof
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem
from tests.factories.drawn import HOUR, VALUE, Drawn, draw_json, names, recording


@pytest.fixture
async def drawn(stores: Stores, settings: Settings) -> AsyncIterator[Drawn]:
    async with recording(stores):
        yield Drawn(stores, settings)


async def awards(api: Api, member: str) -> list[dict[str, Any]]:
    answer = await api.client.get("/v1/me/awards", headers=api.bearer(member))
    assert answer.status_code == 200
    return answer.json()["awards"]  # type: ignore[no-any-return]


async def test_a_draw_is_seen_at_each_stage(api: Api, drawn: Drawn) -> None:
    problem(await api.client.get("/v1/draws/goose"), 404, "no-such-draw")
    await drawn.commit()
    committed = (await api.client.get("/v1/draws/goose")).json()
    assert (committed["stage"], committed["root"], committed["results"]) == ("committed", None, [])
    first = await api.client.get("/v1/draws/goose/document")
    assert first.headers["content-encoding"] == "gzip"
    assert set(first.json()) == {"terms", "commitment"}
    await drawn.enter(*names(6))
    await drawn.close()
    closed = await api.client.get("/v1/draws/goose/document")
    assert closed.headers["etag"] != first.headers["etag"]
    proof = await api.client.get("/v1/draws/goose/proof", headers=api.bearer("m-3"))
    assert check_proof(closed.json(), proof.json()).differences == []
    problem(await api.client.get("/v1/draws/goose/proof", headers=api.bearer("stranger")), 422, "draw-invalid")
    await drawn.reveal()
    revealed = (await api.client.get("/v1/draws/goose?limit=2")).json()
    assert revealed["awards"] == {"offered": 3, "waiting": 2}
    assert [place["prize"] for place in revealed["results"]] == ["goose", "goose"]
    rest = (await api.client.get(f"/v1/draws/goose?after={revealed['next']}")).json()
    assert [place["state"] for place in rest["results"]] == ["offered", "waiting", "waiting"]
    document = (await api.client.get("/v1/draws/goose/document")).json()
    assert check(document).differences == []
    ((secret,),) = await drawn.sql("select secret from draws")
    assert document["revealed"]["secret"] == secret.hex()


async def test_nothing_tells_the_secret_before_the_reveal(api: Api, drawn: Drawn) -> None:
    await drawn.commit()
    await drawn.enter(*names(2))
    await drawn.close()
    ((secret,),) = await drawn.sql("select secret from draws")
    for path in ("/v1/draws/goose", "/v1/draws/goose/document", "/v1/drops/goose", "/metrics", "/v1/draws/goose/proof"):
        answer = await api.client.get(path, headers=api.bearer("m-0"))
        assert answer.status_code == 200, path
        assert secret.hex() not in answer.text
    answer = await api.operate("POST", "/v1/draws/goose/reveal", {"round": 7, "value": "00"})
    assert secret.hex() not in answer.text


async def test_a_winner_takes_a_ticket_and_claims(api: Api, drawn: Drawn) -> None:
    await drawn.whole(*names(6))
    won = await drawn.awards()
    first, waiting = won[0], won[3]
    (shown,) = await awards(api, first.member_id)
    assert (shown["drop_id"], shown["prize"], shown["state"]) == ("goose-prizes", "goose", "offered")
    problem(
        await api.client.post("/v1/drops/goose-prizes/ticket", headers=api.bearer(waiting.member_id)), 409, "no-award"
    )
    ticket = await api.ticket(first.member_id, "goose-prizes")
    answer = await api.claim(ticket, "goose-prizes")
    assert (answer.status_code, answer.json()["item"]) == (201, "goose")
    await asyncio.sleep(0.4)
    (shown,) = await awards(api, first.member_id)
    assert shown["state"] == "claimed"
    assert (await api.client.get("/v1/draws/goose")).json()["awards"]["claimed"] == 1
    path = "/v1/me/awards/goose/decline"
    problem(await api.client.post(path, headers=api.bearer(first.member_id)), 409, "no-award")
    declined = await api.client.post(path, headers=api.bearer(waiting.member_id))
    assert declined.json()["state"] == "declined"
    assert await awards(api, "stranger") == []


async def test_an_operator_leads_it_through_its_stages(api: Api, drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    app: Any = api.client._transport.app  # type: ignore[attr-defined]
    for part in (app.state.services.draws, app.state.services.draws.awarding):
        monkeypatch.setattr(part, "_drops", drawn.clocked)
    drawn.clocked.shift = -2 * HOUR
    assert (await api.operate("POST", "/v1/drops", draw_json())).status_code == 201
    problem(await api.operate("POST", "/v1/drops/goose/launch"), 409, "not-committed")
    assert (await api.operate("POST", "/v1/draws/goose/commit")).json()["stage"] == "committed"
    revision = (await api.operate("GET", "/v1/drops/goose")).json()["revision"]
    change = {"closes_at": "2099-01-01T00:00:00Z"}
    answer = await api.operate("PATCH", "/v1/drops/goose", change, **{"If-Match": f'"{revision}"'})
    problem(answer, 409, "already-committed")
    assert (await api.operate("POST", "/v1/drops/goose/launch")).status_code == 200
    for name in names(4):
        assert (await api.claim(await api.ticket(name, "goose"), "goose")).status_code == 201
    problem(await api.operate("POST", "/v1/draws/goose/close"), 409, "wrong-stage")
    await drawn.closing()
    assert (await api.operate("POST", "/v1/draws/goose/close")).json()["entrants"] == 4
    beacon = {"round": 7, "value": VALUE, "seen_at": (await drawn.beacon()).seen_at.isoformat()}
    problem(await api.operate("POST", "/v1/draws/goose/reveal", beacon), 422, "draw-invalid")
    drawn.clocked.shift = 3 * HOUR
    for wrong in ({}, {**beacon, "round": "7"}, {"round": 7}, {**beacon, "seen_at": "now"}, {**beacon, "x": 1}):
        problem(await api.operate("POST", "/v1/draws/goose/reveal", wrong), 422, "invalid")
    assert (await api.operate("POST", "/v1/draws/goose/reveal", beacon)).json()["stage"] == "revealed"
    problem(await api.operate("POST", "/v1/draws/goose/reveal", {**beacon, "value": "00" * 32}), 422, "draw-invalid")
    lapsed = await api.operate("POST", "/v1/draws/goose/lapse")
    assert lapsed.json() == {"claimed": 0, "lapsed": 0, "declined": 0, "offered": 0}
    problem(await api.operate("POST", "/v1/draws/goose/void", {"reason": "no"}), 409, "wrong-stage")
    acts = await drawn.acts()
    assert [(act["verb"], act["actor"]) for act in acts] == [(verb, "boss") for verb in ("commit", "close", "reveal")]
    assert acts[2]["after"]["winners"] == 3


async def test_a_wrong_definition_is_told_with_its_field(api: Api) -> None:
    answer = await api.operate("POST", "/v1/drops", draw_json(waiting=-1))
    assert problem(answer, 422, "spec-invalid")["errors"][0]["field"] == "draw.waiting"
