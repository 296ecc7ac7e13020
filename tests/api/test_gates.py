"""The promise: a client learns all that a drop asks in one answer, each refusal says what is missing, and coordinates
are neither kept nor logged.
"""

import json
import logging
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from api.app import create_app
from engine.drops.model import Actor
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem, running
from tests.api.test_refused import dump
from tests.factories.drops import drop_json
from tests.factories.gates import DALANG, DONGKENG, SLOGANS, quiz_json
from tests.factories.lists import put_list
from tests.factories.proofs import solved

LISTED = {"list": "veterans"}
CITY = {"location": {"towns": "any"}}


async def ask(api: Api, body: Any, member: str = "m-1") -> httpx.Response:
    return await api.client.post("/v1/drops/trial/ticket", json=body, headers=api.bearer(member))


async def ask_raw(api: Api, body: bytes) -> httpx.Response:
    headers = {**api.bearer(), "Content-Type": "application/json"}
    return await api.client.post("/v1/drops/trial/ticket", content=body, headers=headers)


class TestChallenge:
    async def test_all_that_is_asked_is_in_one_answer_in_order(self, api: Api) -> None:
        gates = {"proof_of_work": {"bits": 6}, "quiz": quiz_json(), "slogan": SLOGANS, **CITY, **LISTED}
        await api.launched(gates=gates)
        answer = await api.client.get("/v1/drops/trial/challenge", headers=api.bearer())
        on_list, location, slogan, quiz, work = answer.json()["gates"]
        assert on_list == {"gate": "list", "route": "POST /v1/drops/trial/list"}
        assert location == {"gate": "location", "towns": "any"}
        assert slogan == {"gate": "slogan", **SLOGANS}
        assert quiz == {
            "gate": "quiz",
            "questions": 3,
            "pass_mark": 2,
            "attempts": 3,
            "time_limit_s": 120,
            "route": "POST /v1/drops/trial/quiz",
        }
        assert (work["gate"], work["bits"]) == ("proof-of-work", 6)

    async def test_what_it_says_is_enough_for_a_ticket(self, api: Api) -> None:
        await api.launched(gates={"proof_of_work": {"bits": 6}, "slogan": SLOGANS, **CITY})
        answer = await api.client.get("/v1/drops/trial/challenge", headers=api.bearer())
        _, slogan, work = answer.json()["gates"]
        body = {"location": DALANG, "slogan": slogan["choices"][1]["id"], "proof": solved(work), "item": "box"}
        given = await ask(api, body)
        assert (given.status_code, given.json()["town"], given.json()["slogan"]) == (200, "大朗", "moon")
        claim = await api.claim(given.json()["ticket"])
        assert claim.status_code == 201

    async def test_a_drop_without_gates_asks_for_nothing_and_tells_no_town(self, api: Api) -> None:
        await api.launched()
        answer = await api.client.get("/v1/drops/trial/challenge", headers=api.bearer())
        assert answer.json() == {"gates": []}
        given = await ask(api, {"location": DALANG, "slogan": "light"})
        assert set(given.json()) == {"ticket", "not_before", "expires_at"}


class TestRefused:
    async def test_without_a_location(self, api: Api) -> None:
        await api.launched(gates=CITY)
        for body in (None, {}, {"location": None}):
            assert problem(await ask(api, body), 428, "location-required")["towns"] == "any"

    async def test_in_another_town(self, api: Api) -> None:
        await api.launched(gates={"location": {"towns": ["大朗"]}})
        found = problem(await ask(api, {"location": DONGKENG}), 403, "wrong-town")
        assert found["town"] == "东坑"
        assert (await ask(api, {"location": DALANG})).status_code == 200

    async def test_outside_the_city(self, api: Api) -> None:
        await api.launched(gates=CITY)
        problem(await ask(api, {"location": {"lat": 39.9, "lon": 116.4}}), 403, "outside")

    @pytest.mark.parametrize(
        ("body", "code", "field"),
        [
            (b'{"location": {"lat": 113.93, "lon": 22.90}}', "location-invalid", "location.lat"),
            (b'{"location": {"lat": 22.9, "lon": 1800}}', "location-invalid", "location.lon"),
            (b'{"location": {"lat": "22.9", "lon": 113.93}}', "invalid", "location.lat"),
            (b'{"location": {"lat": true, "lon": 113.93}}', "invalid", "location.lat"),
            (b'{"location": {"lat": null, "lon": 113.93}}', "invalid", "location.lat"),
            (b'{"location": {"lat": [22.9], "lon": 113.93}}', "invalid", "location.lat"),
            (b'{"location": {"lat": NaN, "lon": 113.93}}', "invalid", None),
            (b'{"location": {"lat": -Infinity, "lon": 113.93}}', "invalid", None),
            (b'{"location": {"lat": 1e999, "lon": 113.93}}', "invalid", "location.lat"),
            (b'{"location": {"lat": 22.9}}', "invalid", "location"),
            (b'{"location": {"lat": 22.9, "lon": 113.93, "town": "x"}}', "invalid", "location"),
            (b'{"location": [22.9, 113.93]}', "invalid", "location"),
            (b'{"location": "22.9,113.93"}', "invalid", "location"),
        ],
    )
    async def test_what_is_no_location(self, api: Api, body: bytes, code: str, field: str | None) -> None:
        await api.launched(gates=CITY)
        found = problem(await ask_raw(api, body), 422, code)
        assert found.get("field") == field, found
        assert "113.93" not in json.dumps(found)

    async def test_without_a_slogan_or_with_an_unknown_one(self, api: Api) -> None:
        await api.launched(gates={"slogan": SLOGANS})
        assert problem(await ask(api, {}), 428, "slogan-required")["choices"] == SLOGANS["choices"]
        for wrong in ("", "Light", "点亮", "x" * 500, "light\x00"):
            problem(await ask(api, {"slogan": wrong}), 422, "unknown-slogan")
        for untyped in (1, ["light"], {"id": "light"}, True):
            problem(await ask(api, {"slogan": untyped}), 422, "invalid")

    async def test_without_the_lists_pass(self, api: Api) -> None:
        await api.launched(gates=LISTED)
        found = problem(await ask(api, {}), 428, "list-pass-required")
        method, path = found["route"].split(" ")
        problem(await api.client.request(method, path, headers=api.bearer()), 403, "not-on-list")
        problem(await ask(api, {"list": "x" * 32}), 422, "pass-invalid")

    async def test_where_the_gate_is_not(self, api: Api) -> None:
        await api.launched()
        for path, body in (("quiz", None), ("quiz/answers", {"attempt": 1, "answers": {}}), ("list", None)):
            answer = await api.client.post(f"/v1/drops/trial/{path}", json=body, headers=api.bearer())
            problem(answer, 404, "no-such-gate")


class TestList:
    async def test_whoever_is_on_it_gets_a_ticket_with_its_pass(self, api: Api, stores: Stores) -> None:
        await api.launched(gates=LISTED)
        await put_list(stores.ledger, "veterans", "m-1")
        answer = await api.client.post("/v1/drops/trial/list", headers=api.bearer())
        assert set(answer.json()) == {"gate", "pass", "pass_expires_at"}
        assert (await ask(api, {"list": answer.json()["pass"]})).status_code == 200
        problem(await ask(api, {"list": answer.json()["pass"]}, "m-2"), 422, "pass-invalid")
        problem(await api.client.post("/v1/drops/trial/list", headers=api.bearer("m-2")), 403, "not-on-list")

    async def test_its_name_is_for_operators(self, api: Api) -> None:
        await api.launched(gates=LISTED)
        for headers in ({}, api.bearer()):
            answer = await api.client.get("/v1/drops/trial", headers=headers)
            assert answer.json()["gates"] == {"list": True}
        assert (await api.operate("GET", "/v1/drops/trial")).json()["gates"] == LISTED


class TestDefinition:
    async def test_a_town_that_the_city_has_not_is_refused_with_the_nearest(self, api: Api) -> None:
        for wrong, words in (("大郎", "大朗"), ("广州", "known are")):
            body = drop_json("trial", gates={"location": {"towns": [wrong]}})
            found = problem(await api.operate("POST", "/v1/drops", body), 422, "spec-invalid")
            assert found["errors"][0]["field"] == "gates.location.towns"
            assert words in found["detail"]
        await api.launched()
        change = {"gates": {"location": {"towns": ["大郎"]}}}
        answer = await api.operate("PATCH", "/v1/drops/trial", change, **{"If-Match": '"2"'})
        problem(answer, 422, "spec-invalid")

    async def test_slogans_are_only_added_once_their_numbers_are_out(self, api: Api) -> None:
        await api.launched(gates={"slogan": SLOGANS})
        light, moon = SLOGANS["choices"]
        more = {"id": "more", "text": {"en": "More"}}

        async def amended(revision: int, gates: Any) -> httpx.Response:
            return await api.operate("PATCH", "/v1/drops/trial", {"gates": gates}, **{"If-Match": f'"{revision}"'})

        for choices in ([moon, light], [light], [light, more, moon], [more, light, moon]):
            found = problem(await amended(2, {"slogan": {"choices": choices}}), 422, "spec-invalid")
            assert "light, moon" in found["detail"]
        problem(await amended(2, {}), 422, "spec-invalid")
        reworded = [{"id": "light", "text": {"en": "Other words"}}, moon, more]
        assert (await amended(2, {"slogan": {"choices": reworded}})).status_code == 200
        api.client._transport.app.state.services.drops.forget("trial")  # type: ignore[attr-defined]
        assert (await ask(api, {"slogan": "more"})).json()["slogan"] == "more"

    async def test_the_ledger_has_it_as_it_was_written(self, api: Api, stores: Stores) -> None:
        gates = {"quiz": quiz_json(), "slogan": SLOGANS, **CITY, **LISTED, "proof_of_work": {"bits": 6}}
        await api.launched(gates=gates)
        async with stores.ledger.connect() as connection:
            kept = await connection.scalar(text("select spec->'gates' from drops where id = 'trial'"))
        assert kept == gates
        drop = await api.client._transport.app.state.services.drops.pause("trial", Actor("boss"))  # type: ignore[attr-defined]
        assert drop.spec.gates.model_dump(mode="json", by_alias=True) == gates


class TestCoordinates:
    """Used and forgotten."""

    PLACES = ({"lat": 22.912345, "lon": 113.923456}, {"lat": 113.923456, "lon": 22.912345}, {"lat": 1.912345, "lon": 2})

    async def test_they_are_in_no_log_and_in_no_store(
        self, settings: Settings, stores: Stores, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        app = create_app(settings.model_copy(update={"access_log": True}))
        with capture_logs() as logs:
            async with running(app) as client:
                api = Api(client, app.state.services.sessions)
                await api.launched(gates=CITY)
                for place in self.PLACES:
                    answer = await ask(api, {"location": place})
                    assert "12345" not in answer.text
                    await ask(api, {"location": {**place, "nonsense": 1}})
                ticket = (await ask(api, {"location": self.PLACES[0]})).json()["ticket"]
                assert (await api.claim(ticket)).status_code == 201
        assert [line for line in logs if line["event"] == "answered"]
        said = caplog.text + str(logs)
        kept = str(await dump(stores)) + await ledger_text(stores)
        for digits in ("912345", "923456"):
            assert digits not in said
            assert digits not in kept


async def ledger_text(stores: Stores) -> str:
    """Every row of every table."""
    found = ""
    async with stores.ledger.connect() as connection:
        names = await connection.scalars(text("select tablename from pg_tables where schemaname = 'public'"))
        for name in list(names):
            found += str(list(await connection.scalars(text(f"select to_jsonb(t)::text from {name} t"))))
    return found
