"""The promise: a draw closes, reveals and gives out its prizes by itself, on time, and its people are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select

from engine.draws import beacon
from engine.draws.model import State
from engine.ledger.schema import messages
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from engine.schedule.kinds import draws as kinds
from tests.engine.schedule.test_runner import working
from tests.factories.drawn import BOSS, VALUE, Drawn, draw_spec, names, recording
from tests.factories.servers import listening

MEMBERS = 6


@asynccontextmanager
async def beacon_server(answers: list[str]) -> AsyncIterator[str]:
    """A beacon that answers in turn; its last answer for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = answers.pop(0) if len(answers) > 1 else answers[0]
        status = "200 OK" if body else "503 Unavailable"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()

    async with listening(answer) as port:
        yield f"http://127.0.0.1:{port}/public/{{round}}"


def soon(url: str, **rules: Any) -> Any:
    """A draw that opens, closes and is drawn within seconds; nobody has to confirm."""
    now = datetime.now(UTC).replace(microsecond=0)
    spec = draw_spec(opens_at=now + timedelta(seconds=2), confirm=None, waiting=0, **rules)
    assert spec.draw is not None
    due = now + timedelta(seconds=8)
    rounds = [
        {"round": 7, "due_at": due, "wait_until": due + timedelta(seconds=30)},
        {"round": 9, "due_at": due + timedelta(seconds=40), "wait_until": due + timedelta(seconds=60)},
    ]
    told = spec.model_dump(by_alias=True)
    told["closes_at"] = now + timedelta(seconds=5)
    told["draw"]["beacon"] |= {"rounds": rounds, "url": url}
    return type(spec).model_validate(told)


async def test_a_draw_runs_by_itself_though_its_beacon_is_late(
    stores: Stores, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that the beacon is on this machine is allowed here; it is asked over a real connection."""
    monkeypatch.setattr(beacon, "read", partial(beacon.read, may_ask=lambda _: True))
    monkeypatch.setattr(kinds, "BEACON_AGAIN_S", 0.5)
    drawn = Drawn(stores, settings)
    async with beacon_server(["", "", VALUE]) as url, working(stores, workers=2), recording(stores):
        spec = soon(url)
        await drawn.drops.create(spec, BOSS)
        await drawn.draws.commit("goose", BOSS)
        await drawn.drops.launch("goose", BOSS)
        await asyncio.sleep((spec.opens_at - datetime.now(UTC)).total_seconds() + 0.1)
        await drawn.enter(*names(MEMBERS))
        async with asyncio.timeout(40):
            while (await drawn.draws.read("goose")).state is not State.REVEALED:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
            while len(found := await told(stores)) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    assert {kind for _, kind, _ in found} == {"prize-arrived"}
    assert len({member for member, _, _ in found}) == 3
    assert any("您在“烧鹅”中抽中的烧鹅已到账" in text for _, _, text in found)
    entries, prizes = await drawn.audits()
    assert entries.details == prizes.details == []
    assert (entries.accepted, prizes.accepted) == (MEMBERS, 3)


async def told(stores: Stores) -> list[tuple[str, str, str]]:
    async with stores.ledger.connect() as connection:
        return [(row.member_id, row.kind, row.texts["zh"]) for row in await connection.execute(select(messages))]
