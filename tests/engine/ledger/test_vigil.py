"""The promise: a broken promise shows in the metrics while the drop runs, and no longer when it is mended."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from engine.claims import keys
from engine.ledger import vigil
from engine.ledger.vigil import JUDGED, Vigil
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.rushed import BOSS, Rushed

CLAIMS_KEY = keys.claims(0, "trial")
Fault = Callable[[Rushed], Awaitable[object]]


@pytest.fixture
async def rushed(stores: Stores, settings: Settings, tmp_path: Path) -> Rushed:
    made = Rushed(stores, settings, tmp_path / "claims.jsonl")
    await made.rush()
    await made.record()
    return made


async def look(rushed: Rushed, count: int = 4) -> dict[str, float]:
    """So often that every window is looked at twice; the promises that are shown as broken."""
    watching = Vigil(rushed.stores, 1)
    for _ in range(count):
        await watching.look([await rushed.drops.read("trial")])
    names = [*(promise.__name__ for promise in JUDGED), "altered_actions"]
    shown = {name: REGISTRY.get_sample_value("flashclaim_broken_promises", {"promise": name}) for name in names}
    assert None not in shown.values()
    return {name: count for name, count in shown.items() if count}


async def _second_claim(rushed: Rushed, change: Callable[[bytes], bytes]) -> None:
    value = await rushed.stores.redis.hget(CLAIMS_KEY, "m-3")
    assert isinstance(value, bytes)
    await rushed.stores.redis.hset(CLAIMS_KEY, "m-3", value + change(value))


async def _dated(rushed: Rushed, at_ms: int) -> None:
    value = await rushed.stores.redis.hget(CLAIMS_KEY, "m-3")
    assert isinstance(value, bytes)
    await rushed.stores.redis.hset(CLAIMS_KEY, "m-3", value[:16] + at_ms.to_bytes(6, "big") + value[22:])


async def _unreadable(rushed: Rushed) -> None:
    await rushed.stores.redis.xadd(keys.outbox(0), {"kind": "nonsense"})
    await rushed.record()


async def test_where_nothing_is_broken_nothing_is_shown(rushed: Rushed) -> None:
    await rushed.drops.amend("trial", {"limit_per_member": 2}, None, BOSS)
    await rushed.claim("m-1")
    await rushed.drops.amend("trial", {"limit_per_member": 1}, None, BOSS)
    await rushed.record()
    assert await look(rushed) == {}
    assert REGISTRY.get_sample_value("flashclaim_dead_letters_kept") == 0


@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        (lambda r: _second_claim(r, lambda v: b"another!" + (99).to_bytes(4, "big") + v[12:]), "over_limit"),
        (lambda r: _second_claim(r, lambda v: v[:8] + (99).to_bytes(4, "big") + v[12:]), "one_ticket_one_claim"),
        (lambda r: _second_claim(r, lambda v: v), "duplicate_serials"),
        (lambda r: _dated(r, 1_000), "outside_window"),
        (lambda r: r.sql("update operator_actions set applied_at = now() + interval '1 hour' where verb = 'launch'"),
         "while_shut"),
        (_unreadable, "unread"),
        (lambda r: r.sql("update operator_actions set actor = 'x' where verb = 'launch'"), "altered_actions"),
        (lambda r: r.sql("delete from operator_actions where verb = 'launch'"), "altered_actions"),
    ],
)  # fmt: skip
async def test_a_broken_promise_is_shown(rushed: Rushed, fault: Fault, promise: str) -> None:
    await fault(rushed)
    assert promise in await look(rushed)


async def test_dead_letters_are_counted_as_long_as_they_lie_there(rushed: Rushed) -> None:
    await _unreadable(rushed)
    await look(rushed)
    assert REGISTRY.get_sample_value("flashclaim_dead_letters_kept") == 1
    await rushed.sql("delete from dead_letters")
    assert await look(rushed) == {}
    assert REGISTRY.get_sample_value("flashclaim_dead_letters_kept") == 0


async def test_every_window_is_looked_at(rushed: Rushed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the middle of the claims, and one in the middle of the chain, with windows of two rows each."""
    monkeypatch.setattr(vigil, "VIGIL_ROWS", 2)
    monkeypatch.setattr(vigil, "VIGIL_ACTIONS", 1)
    for limit in (2, 3, 1):
        await rushed.drops.amend("trial", {"limit_per_member": limit}, None, BOSS)
    await _dated(rushed, 1_000)
    await rushed.sql("update operator_actions set actor = 'x' where revision = 4")
    assert await look(rushed, count=12) == {"outside_window": 1, "altered_actions": 1}
