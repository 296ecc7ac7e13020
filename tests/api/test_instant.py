"""The promise: each play is told at once what the committed sequence says; all prizes go out, none before its moment;
and afterwards one file proves it to everybody, with Python alone.
"""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from engine.draws import verify
from engine.draws.verify import check
from engine.ledger.audit import audit
from engine.members.session import SessionTokens
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem, running
from tests.factories.instants import PRIZES, RULES, instant_json
from tests.factories.ledger import record_all

UNITS = sum(PRIZES.values())


@pytest.fixture(params=[1, 3], ids=["P=1", "P=3"])
async def split(request: pytest.FixtureRequest, settings: Settings, stores: Stores) -> AsyncIterator[tuple[Api, int]]:
    """The API on one partition, and on three."""
    shared = settings.model_copy(update={"partitions": request.param})
    async with running(create_app(shared)) as client:
        yield Api(client, SessionTokens(shared)), request.param


async def launch(api: Api, drop_id: str = "wheel", **more: Any) -> dict[str, Any]:
    created = await api.operate("POST", "/v1/drops", instant_json(drop_id, **more))
    assert created.status_code == 201, created.text
    launched = await api.operate("POST", f"/v1/drops/{drop_id}/launch")
    assert launched.status_code == 200, launched.text
    found: dict[str, Any] = launched.json()
    return found


async def play(api: Api, member: str, drop_id: str = "wheel") -> dict[str, Any]:
    answer = await api.claim(await api.ticket(member, drop_id), drop_id)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def rush(api: Api, plays: int, first: int = 0) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(play(api, f"m-{number}") for number in range(first, first + plays))))


async def revealed(api: Api, stores: Stores, partitions: int = 1) -> dict[str, Any]:
    assert (await api.operate("POST", "/v1/drops/wheel/close")).status_code == 200
    await record_all(stores, partitions)
    answer = await api.operate("GET", "/v1/drops/wheel/instant-document")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


class TestRefused:
    @pytest.mark.parametrize("wish", [{"item": "goose"}, {"item": "no-prize"}, {"item": "?"}, {"item": ""}])
    async def test_a_play_that_names_an_item(self, api: Api, wish: dict[str, Any]) -> None:
        await launch(api)
        answer = await api.client.post("/v1/drops/wheel/ticket", json=wish, headers=api.bearer())
        found = problem(answer, 422, "claim-invalid")
        assert (found["field"], "not chosen" in found["detail"]) == ("item", True)
        problem(await api.claim(await api.ticket(drop_id="wheel"), "wheel", wish), 422, "claim-invalid")

    @pytest.mark.parametrize("quantity", [0, 2, -1, 1_001])
    async def test_a_play_of_another_quantity_than_one(self, api: Api, quantity: int) -> None:
        await launch(api)
        wish = {"quantity": quantity}
        answer = await api.client.post("/v1/drops/wheel/ticket", json=wish, headers=api.bearer())
        assert problem(answer, 422, "claim-invalid")["field"] == "quantity"
        problem(await api.claim(await api.ticket(drop_id="wheel"), "wheel", wish), 422, "claim-invalid")

    async def test_one_is_the_quantity_of_every_play(self, api: Api) -> None:
        await launch(api)
        ticket = await api.ticket(drop_id="wheel", quantity=1)
        assert (await api.claim(ticket, "wheel", {"quantity": 1})).status_code == 201

    async def test_more_plays_than_the_limit(self, api: Api) -> None:
        await launch(api, limit=2)
        for _ in range(2):
            await play(api, "m-1")
        problem(await api.claim(await api.ticket("m-1", "wheel"), "wheel"), 409, "limit-reached")

    async def test_a_definition_that_brings_its_own_commitment(self, api: Api) -> None:
        told = (await launch(api))["instant"]["committed"]
        given = instant_json("other")
        given["instant"]["committed"] = told
        answer = await api.operate("POST", "/v1/drops", given)
        assert "comes by the launch" in problem(answer, 422, "spec-invalid")["detail"]

    @pytest.mark.parametrize("name", ["items", "instant", "opens_at", "closes_at", "allocation", "waves"])
    async def test_what_was_committed_to_is_not_amended(self, api: Api, name: str) -> None:
        shown = await launch(api)
        change = {name: shown[name]}
        answer = await api.operate("PATCH", "/v1/drops/wheel", change, **{"If-Match": '"2"'})
        assert "cannot be amended" in problem(answer, 422, "spec-invalid")["detail"]
        title = await api.operate("PATCH", "/v1/drops/wheel", {"title": {"en": "Wheel"}}, **{"If-Match": '"2"'})
        assert title.status_code == 200

    async def test_a_restock(self, api: Api) -> None:
        await launch(api)
        answer = await api.operate("POST", "/v1/drops/wheel/restock", {"item": "goose", "quantity": 1})
        assert "committed" in problem(answer, 422, "restock-invalid")["detail"]

    async def test_the_document_before_the_close_of_a_rush_and_for_members(self, api: Api) -> None:
        await launch(api)
        await api.launched("trial")
        path = "/v1/drops/{}/instant-document"
        problem(await api.operate("GET", path.format("wheel")), 409, "wrong-status")
        problem(await api.operate("GET", path.format("trial")), 404, "not-instant")
        problem(await api.operate("GET", path.format("nothing")), 404, "no-such-drop")
        problem(await api.client.get(path.format("wheel"), headers=api.bearer()), 403, "operators-only")
        problem(await api.client.get("/v1/drops/trial/commitment"), 404, "not-instant")

    async def test_a_launch_without_a_key(self, settings: Settings, stores: Stores) -> None:
        keyless = settings.model_copy(update={"instant_keys": {}})
        async with running(create_app(keyless)) as client:
            api = Api(client, SessionTokens(keyless))
            assert (await api.operate("POST", "/v1/drops", instant_json())).status_code == 201
            answer = await api.operate("POST", "/v1/drops/wheel/launch")
            assert "instant_keys" in problem(answer, 409, "commitment-broken")["detail"]
            assert (await api.operate("GET", "/v1/drops/wheel")).json()["status"] == "draft"


class TestTheCommitment:
    async def test_is_public_from_the_launch_on_and_tells_no_secret(self, api: Api) -> None:
        await api.operate("POST", "/v1/drops", instant_json())
        problem(await api.client.get("/v1/drops/wheel/commitment"), 404, "no-such-drop")
        problem(await api.operate("GET", "/v1/drops/wheel/commitment"), 409, "wrong-status")
        launched = (await api.operate("POST", "/v1/drops/wheel/launch")).json()
        told = (await api.client.get("/v1/drops/wheel/commitment")).json()
        assert check(told).differences == []
        assert told["commitment"] == launched["instant"]["committed"]["commitment"]
        assert told["terms"]["rules"] == RULES
        assert "secret" not in told["terms"]

    async def test_a_launch_that_is_sent_again_changes_nothing(self, api: Api) -> None:
        await api.operate("POST", "/v1/drops", instant_json())
        answers = [await api.operate("POST", "/v1/drops/wheel/launch", **{"Idempotency-Key": "once"}) for _ in range(2)]
        assert answers[0].json() == answers[1].json()
        answer = await api.operate("POST", "/v1/drops/wheel/pause", **{"Idempotency-Key": "once"})
        problem(answer, 422, "idempotency-key-reused")


class TestPlays:
    async def test_a_rush_gives_out_every_prize_and_the_file_proves_it(
        self, split: tuple[Api, int], stores: Stores, settings: Settings, tmp_path: Path
    ) -> None:
        api, partitions = split
        await launch(api)
        told = await rush(api, 150)
        got = Counter(answer["item"] for answer in told)
        assert {name: got[name] for name in PRIZES} == PRIZES
        assert got["no-prize"] == 150 - UNITS
        for answer in told[:20]:
            proved = await api.client.post("/v1/receipts/verify", json={"receipt": answer["receipt"]})
            assert (proved.json()["item"], proved.json()["serial"]) == (answer["item"], answer["serial"])
        document = await revealed(api, stores, partitions)
        plays = document["revealed"]["plays"]
        names = ["no-prize", *PRIZES]
        for answer in told:
            _, partition, serial = answer["claim_id"].split(".")
            assert names[plays[int(partition)][int(serial) - 1][1]] == answer["item"]
        (tmp_path / "wheel.json").write_text(json.dumps(document))
        # The file as anybody downloads it: one Python, isolated, from an empty folder.
        command = [sys.executable, "-I", verify.__file__, "wheel.json"]
        found = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, text=True)
        assert (found.returncode, found.stderr) == (0, ""), found.stdout
        assert f"{UNITS} of {UNITS} units went out" in found.stdout
        report = await audit(stores, partitions, settings.receipt_keyring, "wheel")
        assert (report.details, report.oversold, report.accepted) == ([], 0, 150)

    async def test_a_partition_without_a_prize_gives_out_blanks(
        self, split: tuple[Api, int], stores: Stores, settings: Settings
    ) -> None:
        api, partitions = split
        await launch(api, items=[{"id": "car", "title": {"en": "A car"}, "stock": 1}])
        got = Counter(answer["item"] for answer in await rush(api, 60))
        assert got == {"car": 1, "no-prize": 59}
        document = await revealed(api, stores, partitions)
        assert check(document).differences == []
        report = await audit(stores, partitions, settings.receipt_keyring, "wheel")
        assert (report.details, report.oversold) == ([], 0)

    async def test_no_prize_goes_out_before_its_moment_however_many_play(self, api: Api, stores: Stores) -> None:
        """Nothing is released for an hour but a quarter, which is due now: early luck takes a quarter."""
        await launch(api, curve=[(-1, 250_000), (3_000, 250_000), (3_400, 1_000_000)])
        told = await rush(api, 80)
        assert sum(answer["item"] != "no-prize" for answer in told) == UNITS // 4
        document = await revealed(api, stores)
        assert check(document).differences == []

    async def test_what_nobody_took_at_its_moment_waits_for_the_next_play(self, api: Api, stores: Stores) -> None:
        await launch(api, curve=[(0, 0), (2, 1_000_000)])
        early = await rush(api, 20)
        await asyncio.sleep(2.2)
        late = await rush(api, 30, first=20)
        got = Counter(answer["item"] for answer in [*early, *late])
        assert {name: got[name] for name in PRIZES} == PRIZES
        document = await revealed(api, stores)
        assert check(document).differences == []

    async def test_a_ticket_that_is_shown_again_tells_the_same_win(self, api: Api) -> None:
        await launch(api)
        tickets = [await api.ticket(f"m-{number}", "wheel") for number in range(30)]
        first = [(await api.claim(ticket, "wheel")).json() for ticket in tickets]
        again = [await api.claim(ticket, "wheel") for ticket in reversed(tickets)]
        assert [answer.json() for answer in again] == first[::-1]
        assert {answer.status_code for answer in again} == {200}
        assert len({answer["item"] for answer in first}) == 3

    async def test_a_prize_that_is_given_back_is_not_dealt_again(
        self, api: Api, stores: Stores, settings: Settings
    ) -> None:
        await launch(api)
        told = await rush(api, 40)
        winner = next(answer for answer in told if answer["item"] == "goose")
        await record_all(stores)
        assert (await api.operate("POST", f"/v1/claims/{winner['claim_id']}/release")).status_code == 200
        later = await rush(api, 40, first=40)
        assert {answer["item"] for answer in later} == {"no-prize"}
        document = await revealed(api, stores)
        assert check(document).differences == []  # a play that was given back stays a play
        report = await audit(stores, 1, settings.receipt_keyring, "wheel")
        assert (report.details, report.released) == ([], 1)


class TestTheDocument:
    async def test_names_what_was_tampered_with(self, api: Api, stores: Stores) -> None:
        await launch(api)
        await rush(api, 30)
        document = await revealed(api, stores)
        plays = document["revealed"]["plays"][0]
        won = next(index for index, (_, item) in enumerate(plays) if item == 1)
        plays[won][1] = 2
        found = [difference.where for difference in check(document).differences]
        assert f"revealed.plays[0][{won}].item" in found
        plays[won][1] = 1
        document["terms"]["prizes"][0]["stock"] += 1
        assert check(document).differences[0].where == "commitment"

    async def test_waits_until_the_ledger_has_every_play(self, api: Api, stores: Stores) -> None:
        await launch(api)
        await rush(api, 5)
        await api.operate("POST", "/v1/drops/wheel/close")
        problem(await api.operate("GET", "/v1/drops/wheel/instant-document"), 503, "not-ready")
        await record_all(stores)
        assert (await api.operate("GET", "/v1/drops/wheel/instant-document")).status_code == 200

    async def test_is_the_same_each_time(self, api: Api, stores: Stores) -> None:
        await launch(api)
        await rush(api, 5)
        document = await revealed(api, stores)
        assert (await api.operate("GET", "/v1/drops/wheel/instant-document")).json() == document

    async def test_of_a_drop_that_nobody_played(self, api: Api, stores: Stores) -> None:
        await launch(api)
        document = await revealed(api, stores)
        assert (document["revealed"]["plays"], check(document).differences) == ([[]], [])
