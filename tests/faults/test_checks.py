"""The promise: each check after a fault would fail, were its promise broken. Here each of them is broken by hand."""

import asyncio
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from engine.ledger.schema import dead_letters
from engine.runtime.connections import Stores, open_stores
from tests.faults import checks
from tests.faults.faults import FAULTS
from tests.faults.rush import Exchange, Rush
from tests.faults.scene import Fault, Scene, live_through
from tests.faults.stack import Stack

Sabotage = Callable[[Scene[Any]], object]


async def nothing(scene: Scene[Any]) -> None:
    await scene.moment()
    scene.heals()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene[Stack]]:
    """A rush that met no fault, and is over."""
    with tempfile.TemporaryDirectory(prefix="fc-fault-") as name:
        Path(name).chmod(0o755)
        stack = Stack(Path(name))
        stack.start()
        scene = Scene(stack, Rush(stack, "calm", 7), random.Random(7))
        asyncio.run(_live(scene))
        yield scene
        stack.stop()


async def _live(scene: Scene[Stack]) -> None:
    await live_through(Fault("none", "nothing", nothing), scene)
    async with open_stores(scene.stack.settings) as stores:
        assert await checks.check(scene, stores) > 300


def _forge_a_claim(scene: Scene[Any]) -> None:
    claim = scene.rush.told.claims[0]
    scene.rush.told.claims.append({**claim, "serial": claim["serial"] + 1})


def _answer_late(scene: Scene[Any]) -> None:
    scene.rush.told.wrong.append("a claim waited 20 s")


def _say_sold_out_too_early(scene: Scene[Any]) -> None:
    first = min(found.sent_s for found in scene.rush.told.exchanges if found.status == 201)
    scene.rush.told.exchanges.append(Exchange("claim", first - 0.2, first - 0.1, 409, "sold-out"))


def _deny_a_release(scene: Scene[Any]) -> None:
    scene.rush.told.released.pop()


def _claim_within_the_pause(scene: Scene[Any]) -> None:
    told = scene.rush.told
    told.exchanges = [
        replace(found, sent_s=found.sent_s + 60) if found.what == "resume" else found for found in told.exchanges
    ]
    told.exchanges = [
        replace(found, answered_s=found.answered_s - 60) if found.what == "pause" else found for found in told.exchanges
    ]


def _log_a_ticket(scene: Scene[Any]) -> None:
    with (scene.stack.place / "api.log").open("a") as log:
        log.write(max(scene.rush.told.secrets, key=len))


@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        (_forge_a_claim, "its receipt says"),
        (_answer_late, "waited"),
        (_say_sold_out_too_early, "when boxes were left"),
        (_deny_a_release, "given back"),
        (_claim_within_the_pause, "while the drop was paused"),
        (_log_a_ticket, "holds the secret"),
    ],
)
async def test_what_was_told_wrongly_is_found(scene: Scene[Stack], sabotage: Sabotage, said: str) -> None:
    told = scene.rush.told
    before = (list(told.claims), list(told.exchanges), set(told.released), list(told.wrong))
    log = (scene.stack.place / "api.log").read_bytes()
    sabotage(scene)
    try:
        async with open_stores(scene.stack.settings) as stores:
            with pytest.raises(AssertionError, match=said):
                await checks.check(scene, stores)
    finally:
        told.claims, told.exchanges, told.released, told.wrong = before
        (scene.stack.place / "api.log").write_bytes(log)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("delete from claims where drop_id = 'calm' and serial = 3", "the ledger has nothing"),
        ("update claims set quantity = 2 where drop_id = 'calm' and serial = 4", "the ledger has 2 ×"),
        ("delete from operator_actions where drop_id = 'calm' and verb = 'resume'", "has the acts"),
    ],
)
async def test_what_the_ledger_lost_is_found(scene: Scene[Stack], statement: str, said: str) -> None:
    async with open_stores(scene.stack.settings) as stores, stores.ledger.connect() as saboteur:
        await saboteur.execute(text(statement))
        await saboteur.commit()
        with pytest.raises(AssertionError, match=said):
            await checks.check(scene, stores)


async def test_a_dead_letter_is_found(scene: Scene[Stack]) -> None:
    async with open_stores(scene.stack.settings) as stores:
        await _bury(stores)
        with pytest.raises(AssertionError, match="1 dead letters"):
            await checks.check(scene, stores)


async def _bury(stores: Stores) -> None:
    row = {"stream": "s", "entry_id": "1-0", "fields": {}, "error": "planted"}
    async with stores.ledger.begin() as connection:
        await connection.execute(insert(dead_letters).values(row))


def test_every_fault_has_a_name_of_its_own_and_says_what_happens() -> None:
    titles = {fault.what for fault in FAULTS.values()}
    assert len(titles) == len(FAULTS) >= 40
