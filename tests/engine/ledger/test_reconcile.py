"""The promise: store and ledger are compared all the time; what is safe is repaired, the rest pauses the drop."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from structlog.testing import capture_logs

from engine.claims import keys
from engine.claims.history import Group, RecordedClaim
from engine.claims.model import LimitReached, Paused
from engine.claims.wire import StoredClaim
from engine.drops.model import Status
from engine.ids import ClaimId, DropId
from engine.ledger import actions, balance, reconcile
from engine.ledger.balance import Books, Flow, Record, Remedy, Units
from engine.ledger.rebuild import Rebuild
from engine.ledger.reconcile import Reconciler
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.rushed import BOSS, CLAIMS, Rushed

CLAIMS_KEY, DROP_KEY = keys.claims(0, "trial"), keys.drop(0, "trial")
BOOKS = Books(at_ms=1_000, revision=2, serial=10, taken={1: 8}, waves=[(500, 1, 20), (2_000, 1, 10)])
RECORD = Record(revision=2, claims=10, skipped=0, flows={Group(1, 0, 0): Flow(10, 2)})


class TestBalance:
    def test_units_sum_to_the_stock(self) -> None:
        assert balance.units(BOOKS, RECORD) == {1: Units(issued=8, held=10, returned=2, free=10)}

    def test_books_that_agree_have_no_finding(self) -> None:
        assert balance.compare(BOOKS, RECORD) == []

    @pytest.mark.parametrize(
        ("books", "record", "remedy", "words"),
        [
            ({"revision": 1}, {}, Remedy.REAPPLY, "revision 1"),
            ({"taken": {1: 9}}, {}, Remedy.RECOUNT, "counts 9 taken, the ledger 8"),
            ({}, {"claims": 9}, Remedy.PAUSE, "gave 10 serials"),
            ({}, {"claims": 9, "skipped": 0}, Remedy.PAUSE, "the ledger has 9"),
            ({"taken": {1: 21}}, {"flows": {Group(1, 0, 0): Flow(23, 2)}}, Remedy.PAUSE, "oversold by 1"),
        ],
    )
    def test_each_difference_has_its_remedy(
        self, books: dict[str, object], record: dict[str, object], remedy: Remedy, words: str
    ) -> None:
        (found,) = balance.compare(
            Books(**{**{n: getattr(BOOKS, n) for n in Books.__slots__}, **books}),
            Record(**{**{n: getattr(RECORD, n) for n in Record.__slots__}, **record}),
        )
        assert found.remedy is remedy
        assert words in found.detail

    def test_skipped_serials_are_no_loss(self) -> None:
        assert balance.compare(BOOKS, Record(2, 7, 3, RECORD.flows)) == []

    @pytest.mark.parametrize(
        ("stored", "remedy"),
        [
            ([], Remedy.PUT_BACK),
            ([StoredClaim(b"nonce-00", 6, 1, 1, released=False, at_ms=1_000)], Remedy.PUT_BACK),
            ([StoredClaim(b"other-00", 5, 1, 1, released=False, at_ms=1_000)], Remedy.PAUSE),
            ([StoredClaim(b"nonce-00", 5, 1, 2, released=False, at_ms=1_000)], Remedy.PAUSE),
            ([StoredClaim(b"nonce-00", 5, 1, 1, released=True, at_ms=1_000)], None),  # the release is on its way
            ([StoredClaim(b"nonce-00", 5, 1, 1, released=False, at_ms=1_000)], None),
        ],
    )
    def test_a_recorded_claim_beside_what_the_store_keeps(
        self, stored: list[StoredClaim], remedy: Remedy | None
    ) -> None:
        at = datetime.fromtimestamp(1, UTC)
        row = RecordedClaim(ClaimId(DropId("trial"), 0, 5), 1, 1, "m-1", "m-1", b"nonce-00", at, None)
        found = balance.compare_claims([row], {"m-1": stored})
        assert [finding.remedy for _, finding in found] == ([remedy] if remedy else [])

    def test_a_release_that_only_the_ledger_knows_pauses(self) -> None:
        at = datetime.fromtimestamp(1, UTC)
        row = RecordedClaim(ClaimId(DropId("trial"), 0, 5), 1, 1, "m-1", "m-1", b"nonce-00", at, at)
        held = {"m-1": [StoredClaim(b"nonce-00", 5, 1, 1, released=False, at_ms=1_000)]}
        assert balance.compare_claims([row], held)[0][1].remedy is Remedy.PAUSE


@pytest.fixture(params=[1, 3])
async def rushed(request: pytest.FixtureRequest, stores: Stores, settings: Settings, tmp_path: Path) -> Rushed:
    made = Rushed(stores, settings.model_copy(update={"partitions": request.param}), tmp_path / "claims.jsonl")
    await made.rush()
    await made.record()
    return made


async def rounds(rushed: Rushed, count: int = 6) -> Reconciler:
    """So many that every window is looked at twice."""
    reconciler = Reconciler(rushed.stores, rushed.settings.partitions)
    for _ in range(count):
        await reconciler.round()
    return reconciler


def repairs(remedy: str) -> float:
    return REGISTRY.get_sample_value("flashclaim_repairs_total", {"remedy": remedy}) or 0.0


async def place_of(rushed: Rushed, member: str) -> tuple[str, str, bytes]:
    """Where a member's claim is: the key of the claims, that of the drop, and the value."""
    for partition in range(rushed.settings.partitions):
        value = await rushed.stores.redis.hget(keys.claims(partition, "trial"), member)
        if value is not None:
            assert isinstance(value, bytes)
            return keys.claims(partition, "trial"), keys.drop(partition, "trial"), value
    raise AssertionError(f"{member} has no claim")


async def test_where_nothing_is_wrong_nothing_is_done_and_the_sum_is_shown(rushed: Rushed) -> None:
    before = {remedy: repairs(remedy) for remedy in Remedy}
    await rounds(rushed)
    assert {remedy: repairs(remedy) for remedy in Remedy} == before
    assert (await rushed.drops.read("trial")).status is Status.LAUNCHED
    shown = {
        state: REGISTRY.get_sample_value("flashclaim_units", {"drop": "trial", "item": "box", "state": state})
        for state in Units._fields
    }
    assert shown == {"issued": CLAIMS - 1, "held": 0, "returned": 1, "free": 60 - CLAIMS}
    assert REGISTRY.get_sample_value("flashclaim_differences", {"drop": "trial"}) == 0


async def test_a_forgotten_claim_is_put_back(rushed: Rushed) -> None:
    place, _, value = await place_of(rushed, "m-3")
    await rushed.stores.redis.hdel(place, "m-3")
    await rounds(rushed)
    assert await rushed.stores.redis.hget(place, "m-3") == value
    with pytest.raises(LimitReached):
        await rushed.claim("m-3")
    assert (await rushed.audit()).details == []


async def test_a_counter_that_is_off_is_counted_again(rushed: Rushed) -> None:
    _, drop_key, _ = await place_of(rushed, "m-3")
    await rushed.stores.redis.hincrby(drop_key, "taken:1", -1)
    await rounds(rushed)
    assert (await rushed.audit()).details == []


async def test_a_repair_that_came_too_late_is_none_and_is_made_again(
    rushed: Rushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody claims between the look at a counter and its repair."""
    _, drop_key, _ = await place_of(rushed, "m-3")
    redis, reconciler = rushed.stores.redis, Reconciler(rushed.stores, rushed.settings.partitions)
    await redis.hincrby(drop_key, "taken:1", -1)
    repair, before = Reconciler._repair, repairs("recount")

    async def claim_then_repair(self: Reconciler, place: str, *others: Any) -> bool:
        seen, members = await redis.hgetall(drop_key), count()
        while await redis.hgetall(drop_key) == seen:  # until one is of this partition
            await rushed.claim(f"between-{next(members)}")
        return await repair(self, place, *others)

    with capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(Reconciler, "_repair", claim_then_repair)
        for _ in range(2):
            await reconciler.round()
    assert [log["is_done"] for log in logs if log["event"] == "difference"] == [False]
    assert repairs("recount") == before
    assert (await rushed.audit()).details != []
    await rushed.record()
    for _ in range(3):
        await reconciler.round()
    assert repairs("recount") == before + 1
    assert (await rushed.drops.read("trial")).status is Status.LAUNCHED
    assert (await rushed.audit()).details == []


async def test_an_act_that_a_partition_missed_is_applied(rushed: Rushed) -> None:
    _, drop_key, _ = await place_of(rushed, "m-3")
    await rushed.drops.pause("trial", BOSS)
    await rushed.record()
    await rushed.stores.redis.hset(drop_key, mapping={"status": "launched", "revision": 2})
    await rounds(rushed)
    assert await rushed.stores.redis.hmget(drop_key, ["status", "revision"]) == [b"paused", b"3"]


async def _other_quantity(rushed: Rushed) -> None:
    place, _, value = await place_of(rushed, "m-3")
    await rushed.stores.redis.hset(place, "m-3", value[:14] + b"\x02" + value[15:])


Fault = Callable[[Rushed], Awaitable[object]]


@pytest.mark.parametrize(
    "fault", [_other_quantity, lambda rushed: rushed.sql("delete from claims where member_id = 'm-3'")]
)
async def test_what_has_no_certain_remedy_pauses_the_drop_and_says_why(rushed: Rushed, fault: Fault) -> None:
    await fault(rushed)
    await rounds(rushed)
    drop = await rushed.drops.read("trial")
    assert drop.status is Status.PAUSED
    with pytest.raises(Paused):
        await rushed.claim("m-new")
    await rushed.record()
    async with rushed.stores.ledger.connect() as connection:
        act = (await actions.chain(connection))[-1].action
    assert (act.verb, act.actor) == ("pause", "reconciler")
    assert act.change["reason"]


async def test_a_rebuild_that_was_cut_off_is_finished(rushed: Rushed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cut_off(*_: object) -> None:
        raise ConnectionError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(Rebuild, "_make", cut_off)
        with pytest.raises(ConnectionError):
            await Rebuild(rushed.stores, rushed.settings.partitions, "trial").apply(BOSS, "")
    await rounds(rushed)
    assert (await rushed.drops.read("trial")).epoch == 2
    await rushed.claim("m-new")
    await rushed.record()
    assert (await rushed.audit()).details == []


async def test_a_missing_state_is_told_and_left_alone(rushed: Rushed) -> None:
    _, drop_key, _ = await place_of(rushed, "m-3")
    await rushed.stores.redis.delete(drop_key)
    await rounds(rushed)
    assert not await rushed.stores.redis.exists(drop_key)
    assert REGISTRY.get_sample_value("flashclaim_differences", {"drop": "trial"}) == 1


async def test_claims_on_their_way_to_the_ledger_are_no_difference(rushed: Rushed) -> None:
    reconciler = await rounds(rushed)
    for number in range(5):
        await rushed.claim(f"late-{number}")
        await reconciler.round()
    assert (await rushed.drops.read("trial")).status is Status.LAUNCHED
    await rushed.record()
    for _ in range(3):
        await reconciler.round()
    assert REGISTRY.get_sample_value("flashclaim_differences", {"drop": "trial"}) == 0


async def test_a_lock_that_is_lost_with_its_connection_is_taken_again(rushed: Rushed) -> None:
    """Or another worker would be elected too, and this one would never know."""
    stop = asyncio.Event()
    working = asyncio.create_task(Reconciler(rushed.stores, 1).run(stop))
    try:
        first = await holder(rushed)
        await rushed.sql(f"select pg_terminate_backend({first})")
        async with asyncio.timeout(10):
            while await holder(rushed) == first:  # noqa: ASYNC110 (a lock tells nobody)
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await working


async def holder(rushed: Rushed) -> int:
    """The process of PostgreSQL that holds the reconciler's lock, once there is one."""
    query = text("select pid from pg_locks where locktype = 'advisory' and objid = :low and granted")
    async with asyncio.timeout(10):
        while True:
            async with rushed.stores.ledger.connect() as connection:
                found = await connection.scalar(query, {"low": reconcile._LOCK & 0xFFFFFFFF})
            if found is not None:
                return int(found)
            await asyncio.sleep(0.02)
