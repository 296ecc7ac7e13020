"""The promise: the map is the ledger's sums by town and slogan; whoever watches it is told each change, once."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text

from api.routes import city_map
from engine.claims import keys
from engine.claims.ticket import seal
from engine.claims.wire import ClaimRequest
from engine.ids import ClaimId
from engine.runtime.connections import Stores
from tests.contract.front import Front
from tests.contract.line import Line, request
from tests.factories.ledger import record_all


class Watcher:
    """Reads the events of a map from a line."""

    def __init__(self, line: Line) -> None:
        self._reader = line._reader

    async def event(self) -> dict[str, str]:
        """The next event that is no comment."""
        async with asyncio.timeout(5):
            while True:
                block = (await self._reader.readuntil(b"\n\n")).decode()
                found = dict(
                    part.split(": ", 1) for part in block.splitlines() if ": " in part and not part.startswith(":")
                )
                if "data" in found:
                    return found

    async def is_quiet(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._reader.readuntil(b"data: ")
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def watching(front: Front, *headers: tuple[str, str]) -> AsyncIterator[Watcher]:
    line = await front.line()
    await line.send(request("GET", "/v1/drops/trial/map/live", list(headers)))
    async with asyncio.timeout(5):
        head = await line._reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    yield Watcher(line)
    await line.close()


async def claim(front: Front, member: str, town: int, slogan: int = 0, quantity: int = 1) -> ClaimId:
    """Claim with a ticket that says for which town and with which slogan, as the gates have it made."""
    use = front.app.state.services
    drop = await use.drops.get("trial")
    asked = ClaimRequest(random.randbytes(8), 1, quantity, member, member, town, slogan)
    ticket = seal(use.settings.ticket_keyring, drop.id, asked, drop.opens_ms, drop.closes_ms)
    claimed = await use.claims.claim(drop, use.claims.open_ticket(ticket), None, None)
    found: ClaimId = claimed.claim_id
    return found


async def shown(front: Front) -> dict[str, Any]:
    answer = await front.ask(request("GET", "/v1/drops/trial/map"), "GET")
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_after_a_rush_it_equals_the_ledgers_sums(front: Front, stores: Stores) -> None:
    await front.launched(stock=500, limit=9)
    chance, claimed = random.Random(11), list[ClaimId]()
    for number in range(200):
        town, slogan = chance.randrange(0, 36), chance.choice([0, 0, 1, 2, 200])
        claimed.append(await claim(front, f"m-{number % 90}", town, slogan, chance.choice([1, 1, 3])))
    await record_all(stores)
    for claim_id in chance.sample(claimed, 60):
        await front.app.state.services.claims.release(claim_id, "boss", "ill")
    await record_all(stores)
    query = "select town, slogan, sum(quantity) from claims where released_at is null group by town, slogan"
    async with stores.ledger.connect() as connection:
        sums = {(town, slogan): units for town, slogan, units in await connection.execute(text(query))}
    found = await shown(front)
    assert len(found["towns"]) == 33
    for tile in found["towns"]:
        ours = {slogan: units for (town, slogan), units in sums.items() if town == tile["number"]}
        assert (tile["units"], tile["is_lit"]) == (sum(ours.values()), bool(ours))
        assert tile["slogans"] == {str(slogan): units for slogan, units in ours.items() if slogan}
    by_slogan: Counter[str] = Counter()
    for (_, slogan), units in sums.items():
        by_slogan[str(slogan)] += units if slogan else 0
    assert found["slogans"] == +by_slogan
    assert found["units"] == sum(units for (town, slogan), units in sums.items() if town or slogan)
    assert found["elsewhere"] == sum(
        units for (town, slogan), units in sums.items() if town > 33 or (slogan and not town)
    )


class TestLive:
    async def test_tells_the_map_at_once_and_then_each_change(self, front: Front, stores: Stores) -> None:
        await front.launched()
        async with watching(front) as watcher:
            first = await watcher.event()
            assert (first["event"], json.loads(first["data"])["lit"]) == ("map", 0)
            assert await watcher.is_quiet(2.2)
        first_claim = await claim(front, "m-1", 19)
        async with watching(front, ("Last-Event-ID", first["id"])) as watcher:
            lit = await watcher.event()
            await record_all(stores)
            await front.app.state.services.claims.release(first_claim, "boss", "ill")
            dark = await watcher.event()
        assert json.loads(lit["data"])["towns"][18]["is_lit"]
        assert json.loads(dark["data"]) == json.loads(first["data"])
        assert dark["id"] == first["id"] != lit["id"]

    async def test_who_comes_back_is_told_only_what_is_new(self, front: Front) -> None:
        await front.launched()
        async with watching(front) as watcher:
            known = (await watcher.event())["id"]
        async with watching(front, ("Last-Event-ID", known)) as watcher:
            assert await watcher.is_quiet(1.5)
        await claim(front, "m-1", 19)
        async with watching(front, ("Last-Event-ID", known)) as watcher:
            assert json.loads((await watcher.event())["data"])["lit"] == 1

    async def test_the_store_is_asked_once_an_interval_for_all(
        self, front: Front, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await front.launched()
        looks, look = 0, city_map._look

        async def counted(*asked: Any) -> Any:
            nonlocal looks
            looks += 1
            return await look(*asked)

        monkeypatch.setattr(city_map, "_look", counted)
        lines = [await front.line() for _ in range(20)]
        for line in lines:
            await line.send(request("GET", "/v1/drops/trial/map/live"))
        await asyncio.gather(*(Watcher(line).event() for line in lines))
        await asyncio.sleep(2.5)
        assert 1 <= looks <= 4
        assert front.app.state.maps.watchers == 20
        for line in lines:
            await line.close()
        async with asyncio.timeout(5):
            while front.app.state.maps.watchers:  # noqa: ASYNC110 (a line that is closed tells nobody)
                await asyncio.sleep(0.05)

    async def test_past_its_bound_it_is_refused_and_has_room_again(
        self, front: Front, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await front.launched()
        monkeypatch.setattr(city_map, "MAP_WATCHERS_MAX", 1)
        async with watching(front) as watcher:
            await watcher.event()
            answer = await front.ask(request("GET", "/v1/drops/trial/map/live"), "GET")
            assert (answer.status, answer.json()["code"]) == (503, "too-many-watchers")
            assert answer.headers["retry-after"] == "10"
            assert (await shown(front))["lit"] == 0
        async with asyncio.timeout(5):
            while front.app.state.maps.watchers:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        async with watching(front) as watcher:
            await watcher.event()

    @pytest.mark.parametrize("start", ["gate"], indirect=True)  # uvicorn's own protocol tells nobody of the end
    async def test_it_ends_with_the_process(self, front: Front) -> None:
        await front.launched()
        async with watching(front) as watcher:
            await watcher.event()
            front.server.should_exit = True
            async with asyncio.timeout(3):
                await front.serving

    @pytest.mark.parametrize("path", ["map", "map/live"])
    async def test_an_unknown_drop_is_404(self, front: Front, path: str) -> None:
        answer = await front.ask(request("GET", f"/v1/drops/nothing/{path}"), "GET")
        assert (answer.status, answer.json()["code"]) == (404, "no-such-drop")

    async def test_an_id_that_is_no_id_is_422(self, front: Front) -> None:
        await front.launched()
        answer = await front.ask(request("GET", "/v1/drops/trial/map/live", [("Last-Event-ID", "x" * 65)]), "GET")
        assert (answer.status, answer.json()["code"]) == (422, "invalid")


async def test_a_lost_state_is_said(front: Front, stores: Stores) -> None:
    await front.launched()
    assert (await shown(front))["is_ready"]
    await stores.redis.delete(keys.drop(0, "trial"))
    assert not (await shown(front))["is_ready"]
