"""The promise: the audit finds every planted fault, and nothing where there is none."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from engine.claims import keys, receipt
from engine.claims.wire import ClaimRequest, pack_request
from engine.drops.model import to_ms
from engine.ids import ClaimId, DropId
from engine.ledger.rebuild import Rebuild
from engine.ledger.schema import claims, operator_actions
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.ledger import record_all
from tests.factories.rushed import BOSS, CLAIMS, Rushed


@pytest.fixture
async def rushed(stores: Stores, settings: Settings, tmp_path: Path) -> Rushed:
    made = Rushed(stores, settings, tmp_path / "claims.jsonl")
    await made.rush()
    return made


async def test_a_clean_rush_has_no_difference_before_and_after_it_is_recorded(rushed: Rushed) -> None:
    before = await rushed.audit()
    await record_all(rushed.stores)
    after = await rushed.audit()
    for report in (before, after):
        assert report.details == []
        assert (report.accepted, report.in_ledger, report.told) == (CLAIMS, CLAIMS, CLAIMS)
    assert (before.released, after.released) == (0, 1)
    assert after.items[0]["taken"] == CLAIMS - 1


@pytest.mark.parametrize("partitions", [3])
async def test_several_partitions_are_one_drop(
    stores: Stores, settings: Settings, tmp_path: Path, partitions: int
) -> None:
    split = Rushed(stores, settings.model_copy(update={"partitions": partitions}), tmp_path / "claims.jsonl")
    await split.rush()
    await record_all(stores, partitions)
    report = await split.audit()
    assert report.details == []
    assert report.accepted == report.in_ledger == CLAIMS


async def test_claims_on_their_way_are_not_lost(rushed: Rushed) -> None:
    await rushed.claim("m-late")
    report = await rushed.audit()
    assert (report.lost, report.differences) == (0, 0)
    assert report.accepted == report.in_ledger + 1


async def test_a_limit_that_was_changed_counts_from_then_on(rushed: Rushed) -> None:
    await rushed.drops.amend("trial", {"limit_per_member": 2}, None, BOSS)
    await rushed.claim("m-1")
    await rushed.drops.amend("trial", {"limit_per_member": 1}, None, BOSS)
    await rushed.record()
    assert (await rushed.audit()).details == []
    await rushed.sql("update claims set subject = 'm-1' where serial = 4")
    assert (await rushed.audit()).over_limit == 1


async def _paused_then(rushed: Rushed) -> None:
    """A claim that is dated into a pause."""
    await rushed.drops.pause("trial", BOSS)
    await asyncio.sleep(0.05)
    await rushed.drops.resume("trial", BOSS)
    async with rushed.stores.ledger.begin() as connection:
        paused = select(operator_actions.c.applied_at).where(operator_actions.c.verb == "pause").scalar_subquery()
        in_it = update(claims).where(claims.c.serial == 4).values(claimed_at=paused + timedelta(milliseconds=20))
        await connection.execute(in_it)
        at = (await connection.execute(select(claims.c.claimed_at).where(claims.c.serial == 4))).scalar_one()
    value = await rushed.stores.redis.hget(CLAIMS_KEY, "m-3")
    assert isinstance(value, bytes)
    await rushed.stores.redis.hset(CLAIMS_KEY, "m-3", value[:16] + to_ms(at).to_bytes(6, "big") + value[22:])


async def _told_sold_out(rushed: Rushed) -> None:
    """With forty-eight boxes left."""
    now_ms = int(time.time() * 1000)
    line = {"code": "sold-out", "drop_id": "trial", "item": "box", "quantity": 1}
    with rushed.log.open("a") as log:
        log.write(json.dumps({**line, "sent_ms": now_ms - 5, "answered_ms": now_ms}) + "\n")


async def _entry_unreadable(rushed: Rushed) -> None:
    await rushed.stores.redis.xadd(keys.outbox(0), {"kind": "nonsense"})
    await rushed.record()


async def _accepted_when_fenced(rushed: Rushed) -> None:
    await Rebuild(rushed.stores, 1, "trial").apply(BOSS, "")
    await rushed.sql("update operator_actions set applied_at = applied_at - interval '1 day' where verb = 'rebuild'")


Fault = Callable[[Rushed], Awaitable[object]]
CLAIMS_KEY, DROP_KEY = keys.claims(0, "trial"), keys.drop(0, "trial")


async def _store_loses_a_claim(rushed: Rushed) -> None:
    await rushed.stores.redis.hdel(CLAIMS_KEY, "m-3")


async def _store_gives_one_twice(rushed: Rushed) -> None:
    value = await rushed.stores.redis.hget(CLAIMS_KEY, "m-3")
    assert isinstance(value, bytes)
    await rushed.stores.redis.hset(CLAIMS_KEY, "m-3", value + value[:8] + (99).to_bytes(4, "big") + value[12:])


async def _counter_off(rushed: Rushed) -> None:
    await rushed.stores.redis.hincrby(DROP_KEY, "taken:1", -1)


async def _client_told_of_nothing(rushed: Rushed) -> None:
    request = ClaimRequest(b"unknown!", 1, 1, "m-x", "m-x")
    claim_id = ClaimId(DropId("trial"), 0, 77)
    signed = receipt.sign(rushed.settings.receipt_keyring, *claim_id, 1_750_000_000_000, pack_request(request))
    line = {"claim_id": str(claim_id), "drop_id": "trial", "serial": 77, "item": "box", "quantity": 1}
    with rushed.log.open("a") as log:
        log.write(json.dumps({**line, "receipt": signed}) + "\n")


async def _forged_receipt(rushed: Rushed) -> None:
    lines = rushed.log.read_text().splitlines()
    first = json.loads(lines[0])
    first["receipt"] = first["receipt"][:-3] + "AAA"
    rushed.log.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")


async def _answer_differs_from_receipt(rushed: Rushed) -> None:
    rushed.log.write_text(rushed.log.read_text().replace('"quantity": 1', '"quantity": 2', 1))


@pytest.mark.parametrize(
    ("fault", "figure", "words"),
    [
        (lambda r: r.sql("delete from claims where serial = 4"), "lost", "the ledger has nothing"),
        (lambda r: r.sql("update claims set quantity = 2 where serial = 4"), "differences", "the ledger has 2"),
        (lambda r: r.sql("update claims set subject = 'm-2' where serial = 4"), "over_limit", "the limit is 1"),
        (lambda r: r.sql("update claims set claimed_at = '2020-01-01' where serial = 4"), "oversold", "oversold"),
        (_store_loses_a_claim, "differences", "the store has nothing"),
        (_store_gives_one_twice, "over_limit", "holds 2 units"),
        (_counter_off, "differences", "is counted as 10 taken"),
        (_client_told_of_nothing, "lost", "trial.0.77: a client was told"),
        (_forged_receipt, "differences", "altered or forged"),
        (_answer_differs_from_receipt, "differences", "its receipt says"),
        (_paused_then, "differences", "while the drop gave nothing out"),
        (_told_sold_out, "differences", "told to be sold out"),
        (_entry_unreadable, "differences", "dead letter: "),
        (_accepted_when_fenced, "differences", "under an epoch that was over"),
        (
            lambda r: r.sql("update operator_actions set actor = 'nobody' where verb = 'launch'"),
            "differences",
            "altered",
        ),
        (lambda r: r.sql("delete from operator_actions where verb = 'launch'"), "differences", "was altered"),
        (lambda r: r.stores.redis.hset(DROP_KEY, "taken:1", 61), "differences", "61 units of item 1 are taken"),
    ],
)
async def test_a_planted_fault_is_found(rushed: Rushed, fault: Fault, figure: str, words: str) -> None:
    await record_all(rushed.stores)
    await fault(rushed)
    report = await rushed.audit()
    assert getattr(report, figure) >= 1, report
    assert words in "\n".join(report.details)
    assert report.differences
