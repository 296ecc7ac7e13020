"""The promise: the audit finds every planted fault, and nothing where there is none."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from engine.bounds import OUTBOX_BYTES_MAX
from engine.claims import keys, receipt
from engine.claims.backlog import Backlog
from engine.claims.service import Claims
from engine.claims.wire import ClaimRequest, pack_request
from engine.drops.model import Actor
from engine.drops.service import Drops
from engine.ids import ClaimId, DropId
from engine.ledger.audit import AuditReport, audit
from engine.members.model import Session
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.drops import drop_spec
from tests.factories.ledger import record_all

CLAIMS = 12


class Rushed:
    """A drop of which twelve members have claimed a box each, and one has given it back."""

    def __init__(self, stores: Stores, settings: Settings, log: Path) -> None:
        self.stores = stores
        self.settings = settings
        self.log = log
        self.drops = Drops(stores.redis, stores.scripts, stores.ledger, settings.partitions)
        self.claims = Claims(
            stores.scripts, stores.ledger, self.drops, settings, Backlog(stores.redis, 1, OUTBOX_BYTES_MAX)
        )

    async def rush(self) -> None:
        await self.drops.create(drop_spec("trial", stock=60), Actor("boss"))
        await self.drops.launch("trial", Actor("boss"))
        drop = await self.drops.get("trial")
        with self.log.open("w") as log:
            for number in range(CLAIMS):
                issued = self.claims.issue_ticket(Session(f"m-{number}", f"m-{number}"), drop, None, None)
                claim = await self.claims.claim(drop, self.claims.open_ticket(issued.ticket), None, None)
                line = {"claim_id": str(claim.claim_id), "drop_id": "trial", "serial": claim.claim_id.serial}
                log.write(json.dumps({**line, "item": "box", "quantity": 1, "receipt": claim.receipt}) + "\n")
        await record_all(self.stores, self.settings.partitions)
        last = json.loads(self.log.read_text().splitlines()[-1])["claim_id"]
        await self.claims.release(ClaimId.parse(last), "boss", "ill")

    async def audit(self) -> AuditReport:
        keyring = self.settings.receipt_keyring
        return await audit(self.stores, self.settings.partitions, keyring, "trial", self.log)

    async def sql(self, statement: str) -> None:
        async with self.stores.ledger.begin() as connection:
            await connection.execute(text(statement))

    def tell(self, serial: int) -> None:
        request = ClaimRequest(b"unknown!", 1, 1, "m-x", "m-x")
        claim_id = ClaimId(DropId("trial"), 0, serial)
        signed = receipt.sign(self.settings.receipt_keyring, *claim_id, 1_750_000_000_000, pack_request(request))
        line = {"claim_id": str(claim_id), "drop_id": "trial", "serial": serial, "item": "box", "quantity": 1}
        with self.log.open("a") as log:
            log.write(json.dumps({**line, "receipt": signed}) + "\n")


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
    drop = await rushed.drops.get("trial")
    issued = rushed.claims.issue_ticket(Session("m-late", "m-late"), drop, None, None)
    await rushed.claims.claim(drop, rushed.claims.open_ticket(issued.ticket), None, None)
    report = await rushed.audit()
    assert (report.lost, report.differences) == (0, 0)
    assert report.accepted == report.in_ledger + 1


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
    rushed.tell(77)


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
    ],
)
async def test_a_planted_fault_is_found(rushed: Rushed, fault: Fault, figure: str, words: str) -> None:
    await record_all(rushed.stores)
    await fault(rushed)
    report = await rushed.audit()
    assert getattr(report, figure) >= 1, report
    assert words in "\n".join(report.details)
    assert report.differences
