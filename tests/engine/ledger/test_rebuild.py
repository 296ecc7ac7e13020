"""The promise: a rebuilt store equals the old one but for unflushed claims, and receipts bring those back."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from engine.claims import keys, receipt
from engine.claims.model import ClaimReleased, LimitReached, NotReady, Paused, SoldOut
from engine.claims.outbox import GROUP
from engine.claims.receipt import ReceiptBody
from engine.claims.wire import ClaimRequest, StoredClaim, pack_request
from engine.drops.model import Drop, NoSuchDrop, Status, to_ms
from engine.errors import Unavailable
from engine.ids import ClaimId, DropId
from engine.ledger.client_log import read_receipts
from engine.ledger.locks import held
from engine.ledger.persist import Outbox
from engine.ledger.plan import RebuildRefused
from engine.ledger.rebuild import Rebuild, RebuildBusy, lock_of
from engine.ledger.reconcile import Reconciler
from engine.ledger.remake import Made, excess
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.drops import drop_spec
from tests.factories.rushed import BOSS, CLAIMS, Rushed

CLAIMS_KEY, DROP_KEY = keys.claims(0, "trial"), keys.drop(0, "trial")


@pytest.fixture
async def rushed(stores: Stores, settings: Settings, tmp_path: Path) -> Rushed:
    made = Rushed(stores, settings, tmp_path / "claims.jsonl")
    await made.rush()
    return made


def rebuild(rushed: Rushed, receipts: list[ReceiptBody] | None = None) -> Rebuild:
    return Rebuild(rushed.stores, rushed.settings.partitions, "trial", receipts or [])


async def state(rushed: Rushed) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """The drop's hash without what each act changes, and its claims."""
    redis: Any = rushed.stores.redis
    drop = await redis.hgetall(DROP_KEY)
    own = (b"epoch", b"revision", b"act")
    return {name: value for name, value in drop.items() if name not in own}, await redis.hgetall(CLAIMS_KEY)


async def lose_the_store(rushed: Rushed, *, unflushed: int = 0) -> list[str]:
    """Empty the store, after claims that the ledger has not seen; their receipts."""
    receipts = [(await rushed.claim(f"late-{number}")).receipt for number in range(unflushed)]
    await rushed.stores.redis.flushall()
    for partition in range(rushed.settings.partitions):
        await rushed.stores.redis.set(keys.home(partition), await rushed.stores.scripts.home())
    return receipts


async def sell_out(rushed: Rushed) -> None:
    """Give out every box, in each partition."""
    refused = 0
    for number in range(300):
        try:
            await rushed.claim(f"other-{number}")
        except SoldOut:
            refused += 1
    await rushed.record()
    assert refused > 100, "each partition has refused somebody"


class TestRefused:
    async def test_an_unknown_drop(self, stores: Stores) -> None:
        with pytest.raises(NoSuchDrop):
            await Rebuild(stores, 1, "nothing").report()

    async def test_one_rebuild_of_a_drop_at_a_time(self, rushed: Rushed) -> None:
        async with held(rushed.stores.ledger, lock_of("trial")):
            with pytest.raises(RebuildBusy):
                await rebuild(rushed).apply(BOSS, "")

    async def test_a_claim_that_only_the_store_has_is_not_forgotten(self, rushed: Rushed) -> None:
        """The ledger lost a row. The old state goes on, for nothing is known to be better."""
        await rushed.record()
        await rushed.sql("delete from claims where serial = 4")
        with pytest.raises(RebuildRefused, match=r"no receipt proves: trial\.0\.4"):
            await rebuild(rushed).apply(BOSS, "")
        assert (await rushed.claim("m-new")).serial == CLAIMS + 1

    async def test_a_receipt_that_contradicts_the_ledger(self, rushed: Rushed) -> None:
        first = receipt.verify(
            rushed.settings.receipt_keyring, json.loads(rushed.log.read_text().splitlines()[3])["receipt"]
        )
        other = first._replace(request=first.request._replace(nonce=b"another!"))
        with pytest.raises(RebuildRefused, match="a receipt says"):
            await rebuild(rushed, [other]).apply(BOSS, "")

    async def test_a_receipt_of_an_item_that_the_drop_has_not(self, rushed: Rushed) -> None:
        request = ClaimRequest(b"unknown!", 2, 1, "m-x", "m-x")
        with pytest.raises(RebuildRefused, match="names item 2"):
            await rebuild(rushed, [ReceiptBody(ClaimId(DropId("trial"), 0, 99), 1, request)]).apply(BOSS, "")


class TestFromTheLedger:
    async def test_the_dry_run_changes_nothing_and_says_that_nothing_differs(self, rushed: Rushed) -> None:
        before = await state(rushed)
        report = await rebuild(rushed).report()
        assert (report.is_applied, report.claims, report.epoch) == (False, CLAIMS, 2)
        assert report.only_in_store == report.only_in_ledger == report.other == report.conflicts == []
        assert await state(rushed) == before
        assert (await rushed.drops.read("trial")).epoch == 1

    async def test_a_rebuilt_store_equals_the_old_one_under_a_new_epoch(self, rushed: Rushed) -> None:
        await rushed.record()
        before = await state(rushed)
        report = await rebuild(rushed).apply(BOSS, "to see")
        assert report.is_applied
        assert await state(rushed) == before
        drop = await rushed.drops.read("trial")
        assert (drop.epoch, drop.revision, drop.status) == (2, 3, Status.LAUNCHED)
        assert await rushed.stores.redis.hmget(DROP_KEY, ["epoch", "revision"]) == [b"2", b"3"]
        await rushed.record()
        assert (await rushed.audit()).details == []

    @pytest.mark.parametrize("partitions", [1, 3])
    async def test_a_lost_store_comes_back_with_limits_repeats_and_releases(
        self, stores: Stores, settings: Settings, tmp_path: Path, partitions: int
    ) -> None:
        split = settings.model_copy(update={"partitions": partitions})
        rushed = Rushed(stores, split, tmp_path / "claims.jsonl")
        await rushed.rush()
        ticket, second_ticket = await rushed.ticket("m-again"), await rushed.ticket("m-0")
        first = await rushed.claim("m-again", ticket)
        await rushed.record()
        await lose_the_store(rushed)
        with pytest.raises(NotReady):
            await rushed.claim("m-new")
        report = await Rebuild(stores, partitions, "trial").apply(BOSS, "the disk was lost")
        assert (report.had_state, report.claims) == (False, CLAIMS + 1)
        again = await rushed.claim("m-again", ticket)
        assert (again.claim_id, again.repeated) == (first.claim_id, True)
        with pytest.raises(LimitReached):
            await rushed.claim("m-0", second_ticket)
        (released,) = [row async for row in _released(rushed)]
        with pytest.raises(ClaimReleased):
            await rushed.claim(released, _ticket_of(rushed, released, await _nonce(rushed, released)))
        await rushed.claim("m-new")
        await rushed.record()
        report_after = await rushed.audit()
        assert report_after.details == []
        assert report_after.items[0]["taken"] == CLAIMS + 1

    async def test_the_old_epoch_is_refused_and_whoever_believed_in_it_learns_the_new_one(self, rushed: Rushed) -> None:
        await rushed.claim("m-before")
        await rebuild(rushed).apply(BOSS, "")
        known = rushed.drops.known("trial")
        assert known is not None
        assert known.epoch == 1
        assert (await rushed.claim("m-after")).serial == CLAIMS + 2

    async def test_a_rebuild_that_was_cut_off_decides_nothing_and_is_run_again(
        self, rushed: Rushed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await rushed.record()
        before = await state(rushed)

        async def cut_off(*_: object) -> None:
            raise ConnectionError("cut off")

        for step in ("_restore", "_make", "_install"):
            with monkeypatch.context() as patch:
                patch.setattr(Rebuild, step, cut_off)
                with pytest.raises(ConnectionError):
                    await rebuild(rushed).apply(BOSS, "")
            with pytest.raises(NotReady):
                await rushed.claim("m-new")
        await rebuild(rushed).apply(BOSS, "")
        assert await state(rushed) == before

    async def test_an_operators_act_does_not_lift_a_fence(self, rushed: Rushed) -> None:
        await rushed.record()
        await rebuild(rushed).fence()
        for act in (rushed.drops.pause, rushed.drops.resume):
            await act("trial", BOSS)
        await rushed.drops.restock("trial", "box", 1, BOSS)
        await rushed.drops.reapply("trial")
        with pytest.raises(NotReady):
            await rushed.claim("m-new")
        await rebuild(rushed).apply(BOSS, "")
        assert (await rushed.claim("m-new")).serial == CLAIMS + 1
        await rushed.record()
        assert (await rushed.audit()).details == []

    async def test_an_act_that_was_applied_and_not_recorded_is_recorded_by_the_worker(
        self, rushed: Rushed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def cut_off(*_: object) -> None:
            raise ConnectionError("cut off")

        with monkeypatch.context() as patch:
            patch.setattr("engine.ledger.rebuild.drops_store.record", cut_off)
            with pytest.raises(ConnectionError):
                await rebuild(rushed).apply(BOSS, "")
        await rushed.record()
        assert (await rushed.drops.read("trial")).epoch == 2
        await rushed.claim("m-new")

    async def test_claims_that_come_in_meanwhile_are_not_lost(self, rushed: Rushed) -> None:
        told = []

        async def press(number: int) -> None:
            ticket = await rushed.ticket(f"busy-{number}")
            while True:
                try:
                    told.append(await rushed.claim(f"busy-{number}", ticket))
                except NotReady:
                    await asyncio.sleep(0.01)
                else:
                    return

        await asyncio.gather(*(press(number) for number in range(20)), rebuild(rushed).apply(BOSS, ""))
        await rushed.record()
        assert len({claim.claim_id for claim in told}) == 20
        assert (await rushed.audit()).details == []


async def readers(rushed: Rushed) -> dict[str, int]:
    """Who reads the outboxes, and how many entries each has pending."""
    found: dict[str, int] = {}
    for partition in range(rushed.settings.partitions):
        for reader in await rushed.stores.redis.xinfo_consumers(keys.outbox(partition), GROUP):
            name = reader["name"].decode()
            found[name] = found.get(name, 0) + reader["pending"]
    return found


class TestItsReader:
    """A rebuild reads the outbox as one more consumer of the workers' group."""

    @pytest.mark.parametrize("partitions", [1, 3])
    async def test_is_gone_afterwards(
        self, stores: Stores, settings: Settings, tmp_path: Path, partitions: int
    ) -> None:
        split = settings.model_copy(update={"partitions": partitions})
        rushed = Rushed(stores, split, tmp_path / "claims.jsonl")
        await rushed.rush()
        await rebuild(rushed).report()
        assert await readers(rushed) == {}
        await rebuild(rushed).apply(BOSS, "")
        assert await readers(rushed) == {}

    async def test_stays_with_what_it_has_not_written_and_the_next_rebuild_writes_it(
        self, rushed: Rushed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another dry run of the drop reads a claim just before this one leaves, and is killed."""
        leave = Outbox.leave

        async def read_then_leave(self: Outbox) -> None:
            await rushed.claim("m-late")
            assert await rushed.stores.redis.xreadgroup(GROUP, "rebuild-trial", {keys.outbox(0): ">"})
            await leave(self)

        with monkeypatch.context() as patch:
            patch.setattr(Outbox, "leave", read_then_leave)
            await rebuild(rushed).report()
        assert await readers(rushed) == {"rebuild-trial": 1}
        assert (await rebuild(rushed).report()).claims == CLAIMS + 1
        assert await readers(rushed) == {}
        assert (await rushed.audit()).details == []

    async def test_may_be_two_at_once(self, rushed: Rushed) -> None:
        async def press() -> None:
            for number in range(20):
                await rushed.claim(f"busy-{number}")

        await asyncio.gather(press(), *(rebuild(rushed).report() for _ in range(3)))
        await rushed.record()
        assert (await rushed.audit()).details == []
        assert (await rushed.audit()).in_ledger == CLAIMS + 20


class TestReceipts:
    async def test_unflushed_claims_come_back_by_their_receipts(self, rushed: Rushed, tmp_path: Path) -> None:
        receipts = await lose_the_store(rushed, unflushed=3)
        brought = tmp_path / "receipts.txt"
        brought.write_text("\n".join([*receipts[:2], "", "forged", json.dumps({"receipt": receipts[2]})]))
        bodies, faults = read_receipts(brought, rushed.settings.receipt_keyring)
        assert faults == ["receipts.txt line 4: this is not a receipt"]
        report = await rebuild(rushed, bodies).apply(BOSS, "the disk was lost")
        assert (report.restored, report.is_paused, report.skipped) == (3, False, [])
        assert (await rushed.claim("m-new")).serial == CLAIMS + 4
        await rushed.record()
        with rushed.log.open("a") as log:
            for body, text_ in zip(bodies, receipts, strict=True):
                line = {"claim_id": str(body.claim_id), "drop_id": "trial", "serial": body.claim_id.serial}
                log.write(json.dumps({**line, "item": "box", "quantity": 1, "receipt": text_}) + "\n")
        assert (await rushed.audit()).details == []

    async def test_serials_that_were_told_are_given_to_nobody_else_and_the_drop_waits_for_their_receipts(
        self, rushed: Rushed
    ) -> None:
        """The API was told three serials that neither store nor ledger knows any more; one receipt is brought."""
        receipts = await lose_the_store(rushed, unflushed=3)
        with pytest.raises(NotReady):
            await rushed.claim("m-new")  # by this the store hears of the highest serial that was told
        middle = receipt.verify(rushed.settings.receipt_keyring, receipts[1])
        report = await rebuild(rushed, [middle]).apply(BOSS, "")
        assert report.is_paused
        assert report.skipped == [(0, CLAIMS + 1, CLAIMS + 1), (0, CLAIMS + 3, CLAIMS + 3)]
        with pytest.raises(Paused):
            await rushed.claim("m-new")
        await rushed.drops.resume("trial", BOSS)
        assert (await rushed.claim("m-new")).serial == CLAIMS + 4
        await rushed.record()
        assert (await rushed.audit()).details == []
        rest = [receipt.verify(rushed.settings.receipt_keyring, receipts[number]) for number in (0, 2)]
        report = await rebuild(rushed, rest).apply(BOSS, "late receipts")
        assert (report.restored, report.skipped, report.claims) == (2, [], CLAIMS + 4)
        await rushed.record()
        assert (await rushed.audit()).details == []

    async def test_a_serial_that_a_process_tells_of_late_is_given_to_nobody_else(
        self, rushed: Rushed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It says so when the new state is worked out already, and not yet in its place."""
        (lost,) = await lose_the_store(rushed, unflushed=1)
        make = Rebuild._make

        async def make_then_hear(self: Rebuild, partition: int, made: Made) -> None:
            assert made.serial == CLAIMS
            await make(self, partition, made)
            with pytest.raises(NotReady):
                await rushed.claim("m-new")
            assert await rushed.stores.redis.hget(keys.told(0), "trial") == b"%d" % (CLAIMS + 1)

        with monkeypatch.context() as patch:
            patch.setattr(Rebuild, "_make", make_then_hear)
            with pytest.raises(Unavailable, match="was changed in the meantime"):
                await rebuild(rushed).apply(BOSS, "")
        with pytest.raises(NotReady):
            await rushed.claim("m-new")
        report = await rebuild(rushed).apply(BOSS, "again")
        assert (report.is_paused, report.skipped) == (True, [(0, CLAIMS + 1, CLAIMS + 1)])
        await rushed.drops.resume("trial", BOSS)
        assert (await rushed.claim("m-new")).serial == CLAIMS + 2
        late = await rebuild(rushed, [receipt.verify(rushed.settings.receipt_keyring, lost)]).apply(BOSS, "late")
        assert (late.restored, late.skipped) == (1, [])
        await rushed.record()
        assert (await rushed.audit()).details == []

    async def test_a_lost_claim_whose_ticket_has_claimed_again_is_superseded(self, rushed: Rushed) -> None:
        """The operator resumed before the receipts were there: the member has a box, by the same ticket."""
        ticket = await rushed.ticket("m-lost")
        lost = await rushed.claim("m-lost", ticket)
        await lose_the_store(rushed)
        with pytest.raises(NotReady):
            await rushed.claim("m-new")
        assert (await rebuild(rushed).apply(BOSS, "")).is_paused
        await rushed.drops.resume("trial", BOSS)
        again = await rushed.claim("m-lost", ticket)
        assert again.serial == lost.serial + 1
        body = receipt.verify(rushed.settings.receipt_keyring, lost.receipt)
        report = await rebuild(rushed, [body]).apply(BOSS, "late receipts")
        assert (report.restored, report.superseded) == (0, [str(lost.claim_id)])
        assert (await rushed.claim("m-lost", ticket)).claim_id == again.claim_id

    @pytest.mark.parametrize("partitions", [1, 3])
    async def test_what_was_told_beyond_stock_and_limit_is_kept_and_said_and_the_drop_waits(
        self, stores: Stores, settings: Settings, tmp_path: Path, partitions: int
    ) -> None:
        """The operator resumed before the receipts were there: all boxes went to others, one to a late member."""
        split = settings.model_copy(update={"partitions": partitions})
        rushed = Rushed(stores, split, tmp_path / "claims.jsonl")
        await rushed.rush()
        receipts = await lose_the_store(rushed, unflushed=3)
        for number in range(3):
            with pytest.raises(NotReady):
                await rushed.claim(f"late-{number}")
        assert (await rebuild(rushed).apply(BOSS, "")).is_paused
        await rushed.drops.resume("trial", BOSS)
        await rushed.claim("late-0")
        await sell_out(rushed)

        late = rebuild(rushed, [receipt.verify(split.receipt_keyring, text_) for text_ in receipts])
        for report in (await late.report(), await late.apply(BOSS, "late receipts")):
            assert (report.restored, report.over_stock, report.over_limit) == (3, {"box": 3}, 1)
            assert report.is_paused
        await rushed.record()
        audit = await rushed.audit()
        assert (audit.lost, audit.oversold > 0, audit.over_limit > 0) == (0, True, True)
        assert [said for said in audit.details if not re.search("oversold|the limit is|are taken, it has", said)] == []

        await rushed.drops.restock("trial", "box", 3 * partitions, BOSS)  # as the command advises
        await rushed.drops.resume("trial", BOSS)
        await rushed.record()
        reconciler = Reconciler(stores, partitions)
        for _ in range(4):
            await reconciler.round()
        assert (await rushed.drops.read("trial")).status is Status.LAUNCHED
        report = await rebuild(rushed).report()
        assert (report.over_stock, report.over_limit, report.is_paused) == ({}, 1, False)

    async def test_an_honest_drop_is_over_nothing(self, rushed: Rushed) -> None:
        """A limit that was lowered takes nothing away."""
        await rushed.drops.amend("trial", {"limit_per_member": 2}, None, BOSS)
        await rushed.claim("m-1")
        await rushed.drops.amend("trial", {"limit_per_member": 1}, None, BOSS)
        await sell_out(rushed)
        report = await rebuild(rushed).apply(BOSS, "")
        assert (report.over_stock, report.over_limit, report.is_paused) == ({}, 0, False)

    async def test_a_closed_drop_stays_closed(self, rushed: Rushed) -> None:
        await lose_the_store(rushed, unflushed=1)
        with pytest.raises(NotReady):
            await rushed.claim("m-new")
        await rushed.sql("update drops set status = 'closed'")
        report = await rebuild(rushed).apply(BOSS, "")
        assert (report.is_paused, len(report.skipped)) == (False, 1)
        assert (await rushed.drops.read("trial")).status is Status.CLOSED

    async def test_receipts_of_other_drops_are_left_aside(self, rushed: Rushed) -> None:
        request = ClaimRequest(b"unknown!", 1, 1, "m-x", "m-x")
        signed = receipt.sign(rushed.settings.receipt_keyring, "other", 0, 5, 1, pack_request(request))
        body = receipt.verify(rushed.settings.receipt_keyring, signed)
        assert (await rebuild(rushed, [body]).report()).restored == 0


OPENS = datetime(2025, 6, 1, tzinfo=UTC)
WAVES = [{"at": OPENS + timedelta(minutes=minute), "stock": {"box": 5}} for minute in (0, 1)]


class TestExcess:
    """Two waves of five boxes, the second a minute later, in two partitions: three and two of each are released."""

    DROP = Drop(drop_spec("trial", OPENS, stock=10, waves=WAVES), Status.LAUNCHED, 2, 1)

    def over(self, first: int, second: int, now_s: int, claimed_s: int = 0) -> dict[str, int]:
        """With so many boxes taken in each partition; times are seconds after the opening."""
        opens_ms = to_ms(OPENS)
        claim = StoredClaim(b"nonce-00", 1, 1, 1, released=False, at_ms=opens_ms + claimed_s * 1000)
        made = {
            partition: Made(taken, {1: taken}, {f"m-{number}": [claim] for number in range(taken)})
            for partition, taken in enumerate((first, second))
        }
        return excess(self.DROP, made, [], opens_ms + now_s * 1000).units

    def test_is_what_was_not_released_by_now(self) -> None:
        assert self.over(3, 2, now_s=1) == {}
        assert self.over(5, 2, now_s=1) == {"box": 2}
        assert self.over(5, 2, now_s=61) == {}
        assert self.over(7, 5, now_s=61) == {"box": 2}

    def test_is_each_partitions_own_for_the_others_give_out_theirs(self) -> None:
        assert self.over(4, 0, now_s=1) == {"box": 1}

    def test_a_clock_that_was_set_back_takes_no_wave_back(self) -> None:
        assert self.over(6, 4, now_s=1, claimed_s=61) == {}


async def _released(rushed: Rushed) -> Any:
    async with rushed.stores.ledger.connect() as connection:
        for row in await connection.execute(text("select member_id from claims where released_at is not null")):
            yield row.member_id


async def _nonce(rushed: Rushed, member: str) -> bytes:
    async with rushed.stores.ledger.connect() as connection:
        found = await connection.scalar(text("select nonce from claims where member_id = :m"), {"m": member})
        return bytes(found)


def _ticket_of(rushed: Rushed, member: str, nonce: bytes) -> str:
    from engine.claims.ticket import seal

    drop = rushed.drops.known("trial")
    assert drop is not None
    request = ClaimRequest(nonce, 0, 0, member, member)
    return seal(rushed.settings.ticket_keyring, drop.id, request, drop.opens_ms, drop.closes_ms)
