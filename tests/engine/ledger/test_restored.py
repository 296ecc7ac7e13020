"""The promise: a ledger that was restored beside a living store comes together with it, and forgets nothing unasked."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.claims import keys, receipt
from engine.claims.model import NotReady, Paused
from engine.claims.receipt import ReceiptBody
from engine.drops.model import Actor, Drop, Status
from engine.drops.service import Drops
from engine.drops.spec import SpecInvalid
from engine.ledger import actions
from engine.ledger.homecoming import Beside, beside, bring_back
from engine.ledger.plan import RebuildRefused
from engine.ledger.rebuild import Rebuild
from engine.runtime import backup
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.drops import drop_spec
from tests.factories.rushed import BOSS, CLAIMS, Rushed

LATE = 3


class Restored:
    """`rushed`, whose ledger is as it was before three claims and what was done since by `acts`."""

    def __init__(self, rushed: Rushed, place: Path) -> None:
        self.rushed = rushed
        self.place = place
        self.receipts: list[ReceiptBody] = []

    async def back_up(self) -> None:
        await self.rushed.record()
        await backup.back_up(self.rushed.settings, self.rushed.stores.ledger, None, self.place)

    async def claim_late(self) -> None:
        for number in range(LATE):
            claim = await self.rushed.claim(f"late-{number}")
            self.receipts.append(receipt.verify(self.rushed.settings.receipt_keyring, claim.receipt))
        await self.rushed.record()

    async def restore(self) -> None:
        await self.rushed.record()
        where = self.rushed.settings, self.rushed.stores.ledger, None, self.place
        await backup.restore(*where, replace=True, take_keys=False, actor="boss")
        self.rushed.claims = self.rushed.api_process()
        self.rushed.drops.forget("trial")

    def rebuild(self, *, receipts: bool = False, forgets_acts: bool = False) -> Rebuild:
        brought = self.receipts if receipts else []
        return Rebuild(self.rushed.stores, 1, "trial", brought, forgets_acts=forgets_acts)

    async def cut_off_at(self, step: str) -> None:
        """A rebuild that gives up acts, and is killed where that step would begin."""

        async def cut_off(*_: object) -> None:
            raise ConnectionError("cut off")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Rebuild, step, cut_off)
            with pytest.raises(ConnectionError):
                await self.rebuild(receipts=True, forgets_acts=True).apply(BOSS, "the ledger was lost")

    async def gives_nothing(self) -> None:
        self.rushed.drops.forget("trial")
        with pytest.raises(Paused):
            await self.rushed.claim("m-new")

    async def stands(self) -> Beside:
        return (await beside(self.rushed.stores, 1))["trial"]


@pytest.fixture
async def restored(stores: Stores, settings: Settings, tmp_path: Path) -> Restored:
    rushed = Rushed(stores, settings, tmp_path / "claims.jsonl")
    await rushed.rush()
    made = Restored(rushed, tmp_path / "backup")
    await made.back_up()
    return made


async def test_a_store_that_knows_no_more_needs_nothing(restored: Restored) -> None:
    await restored.restore()
    assert await restored.stands() == Beside()
    assert (await restored.rushed.claim("m-new")).serial == CLAIMS + 1
    await restored.rushed.record()
    assert (await restored.rushed.audit()).details == []


async def test_an_emptied_store_is_made_from_the_backup(restored: Restored) -> None:
    await restored.claim_late()
    await restored.restore()
    await restored.rushed.stores.redis.flushall()
    await restored.rushed.stores.redis.set(keys.home(0), await restored.rushed.stores.scripts.home())
    assert await restored.stands() == Beside(is_missing=True)
    report = await restored.rebuild().apply(BOSS, "the claims since are to go")
    assert (report.claims, report.is_paused) == (CLAIMS, False)
    assert (await restored.rushed.claim("m-new")).serial == CLAIMS + 1


async def test_claims_since_the_backup_come_back_by_receipts_and_nothing_else(restored: Restored) -> None:
    await restored.claim_late()
    await restored.restore()
    assert await restored.stands() == Beside(serials=LATE)
    with pytest.raises(RebuildRefused, match="no receipt proves"):
        await restored.rebuild(forgets_acts=True).apply(BOSS, "")
    report = await restored.rebuild(receipts=True).apply(BOSS, "the ledger was lost")
    assert (report.restored, report.acts_lost, report.is_paused) == (LATE, 0, False)
    assert (await restored.rushed.claim("m-new")).serial == CLAIMS + LATE + 1
    await restored.rushed.record()
    assert (await restored.rushed.audit()).details == []


class TestActsSinceTheBackup:
    @pytest.fixture(autouse=True)
    async def restocked(self, restored: Restored) -> None:
        await restored.rushed.drops.restock("trial", "box", 5, BOSS)
        await restored.claim_late()
        await restored.restore()

    async def test_are_not_forgotten_unasked_and_the_drop_goes_on(self, restored: Restored) -> None:
        assert await restored.stands() == Beside(serials=LATE, acts=1)
        report = await restored.rebuild(receipts=True).report()
        assert (report.acts_lost, len(report.conflicts)) == (1, 1)
        with pytest.raises(RebuildRefused, match="at revision 3, the ledger at 2, without the acts since"):
            await restored.rebuild(receipts=True).apply(BOSS, "")
        assert not await restored.rushed.stores.redis.hexists(keys.drop(0, "trial"), "fenced")
        assert (await restored.rushed.claim("m-new")).serial == CLAIMS + LATE + 1

    async def test_are_given_up_when_told_so_and_can_be_repeated(self, restored: Restored) -> None:
        rushed = restored.rushed
        assert (await restored.rebuild(receipts=True, forgets_acts=True).report()).is_paused
        report = await restored.rebuild(receipts=True, forgets_acts=True).apply(BOSS, "the ledger was lost")
        assert (report.acts_lost, report.restored, report.is_paused) == (1, LATE, True)
        with pytest.raises((Paused, NotReady)):
            await rushed.claim("m-new")
        await rushed.drops.restock("trial", "box", 5, BOSS)
        drop = await rushed.drops.resume("trial", BOSS)
        assert (drop.revision, drop.epoch, drop.spec.items[0].stock) == (6, 2, 65)
        assert (await rushed.claim("m-new")).serial == CLAIMS + LATE + 1
        await rushed.record()
        assert (await rushed.audit()).details == []
        async with rushed.stores.ledger.connect() as connection:
            acts = [act for act in await actions.on_drop(connection, "trial") if act.revision and act.revision > 2]
        assert [act.verb for act in acts] == ["forget-acts", "rebuild", "restock", "resume"]
        assert acts[0].change == {"reason": "the ledger was lost", "first": 3, "last": 3}
        assert acts[0].actor == "boss"
        assert [act.after["status"] for act in acts] == ["paused", "paused", "paused", "launched"]

    @pytest.mark.parametrize("step", ["fence", "_restore", "_make", "_install"])
    async def test_given_up_by_a_rebuild_that_was_cut_off_leave_the_drop_paused(
        self, restored: Restored, step: str
    ) -> None:
        await restored.cut_off_at(step)
        report = await restored.rebuild(receipts=True).apply(BOSS, "")
        assert (report.acts_lost, report.is_paused) == (0, True)
        await restored.gives_nothing()
        await restored.rushed.drops.resume("trial", BOSS)
        assert (await restored.rushed.claim("m-new")).serial == CLAIMS + LATE + 1

    @pytest.mark.parametrize("step", ["_make", "_install"])
    async def test_given_up_leave_the_drop_paused_when_the_worker_ends_the_rebuild(
        self, restored: Restored, step: str
    ) -> None:
        await restored.cut_off_at(step)
        assert await bring_back(restored.rushed.stores, 1, "trial", "fenced")
        await restored.gives_nothing()
        assert (await restored.rushed.drops.read("trial")).status is Status.PAUSED

    async def test_in_a_state_that_is_fenced_already(self, restored: Restored) -> None:
        assert await restored.rebuild().fence()
        await restored.rebuild(receipts=True, forgets_acts=True).apply(BOSS, "")
        drop = await restored.rushed.drops.resume("trial", BOSS)
        assert (drop.revision, drop.epoch, drop.status) == (5, 2, Status.LAUNCHED)
        assert (await restored.rushed.claim("m-new")).serial == CLAIMS + LATE + 1


async def test_an_epoch_since_the_backup_is_over_too(restored: Restored) -> None:
    await restored.rebuild().apply(BOSS, "before")
    await restored.claim_late()
    await restored.restore()
    assert await restored.stands() == Beside(serials=LATE, acts=1)
    await restored.rebuild(receipts=True, forgets_acts=True).apply(BOSS, "")
    drop = await restored.rushed.drops.resume("trial", BOSS)
    assert (drop.revision, drop.epoch) == (5, 3)
    assert (await restored.rushed.claim("m-new")).serial == CLAIMS + LATE + 1
    await restored.rushed.record()
    assert (await restored.rushed.audit()).details == []


@pytest.mark.parametrize("end", [Drops.pause, Drops.close])
async def test_a_pause_since_the_backup_is_not_undone_by_acts_after_a_rebuild_that_was_cut_off(
    restored: Restored, end: Callable[[Drops, str, Actor], Awaitable[Drop]]
) -> None:
    await end(restored.rushed.drops, "trial", BOSS)
    await restored.restore()
    await restored.cut_off_at("fence")
    await restored.rushed.drops.restock("trial", "box", 5, BOSS)
    await restored.gives_nothing()


class TestALaunchSinceTheBackup:
    @pytest.fixture
    async def launched(self, stores: Stores, settings: Settings, tmp_path: Path) -> Restored:
        rushed = Rushed(stores, settings, tmp_path / "claims.jsonl")
        rushed.log.touch()
        await rushed.drops.create(drop_spec("trial", stock=60), BOSS)
        made = Restored(rushed, tmp_path / "backup")
        await made.back_up()
        await rushed.drops.launch("trial", BOSS)
        return made

    async def test_leaves_a_drop_that_is_paused_and_no_draft(self, launched: Restored) -> None:
        await launched.claim_late()
        await launched.restore()
        assert (await launched.rebuild(receipts=True, forgets_acts=True).report()).is_paused
        report = await launched.rebuild(receipts=True, forgets_acts=True).apply(BOSS, "the ledger was lost")
        assert (report.acts_lost, report.restored, report.is_paused) == (1, LATE, True)
        await self.goes_on(launched)

    async def test_is_known_by_receipts_where_the_store_is_lost_too(self, launched: Restored) -> None:
        await launched.claim_late()
        await launched.restore()
        await launched.rushed.stores.redis.flushall()
        await launched.rushed.stores.redis.set(keys.home(0), await launched.rushed.stores.scripts.home())
        with pytest.raises(RebuildRefused, match="was launched, the ledger has the draft of revision 1"):
            await launched.rebuild(receipts=True).apply(BOSS, "")
        report = await launched.rebuild(receipts=True, forgets_acts=True).apply(BOSS, "all was lost")
        assert (report.acts_lost, report.restored, report.is_paused) == (1, LATE, True)
        await self.goes_on(launched)

    async def test_is_known_by_the_store_where_nobody_has_claimed(self, launched: Restored) -> None:
        await launched.restore()
        report = await launched.rebuild(forgets_acts=True).apply(BOSS, "")
        assert (report.acts_lost, report.is_paused) == (1, True)
        assert (await launched.rushed.drops.read("trial")).status is Status.PAUSED

    async def test_is_kept_where_the_rebuild_was_cut_off(self, launched: Restored) -> None:
        await launched.claim_late()
        await launched.restore()
        await launched.cut_off_at("fence")
        with pytest.raises(SpecInvalid, match="items: cannot be amended"):
            await launched.rushed.drops.amend("trial", {"items": []}, None, BOSS)
        await launched.rebuild(receipts=True).apply(BOSS, "")
        await self.goes_on(launched)

    async def test_is_not_made_up_where_a_draft_was_amended_alone(self, launched: Restored) -> None:
        await launched.rushed.drops.create(drop_spec("later"), BOSS)
        launched.place /= "again"
        await launched.back_up()
        await launched.rushed.drops.amend("later", {"limit_per_member": 2}, None, BOSS)
        await launched.restore()
        report = await Rebuild(launched.rushed.stores, 1, "later", forgets_acts=True).apply(BOSS, "")
        assert (report.acts_lost, report.is_paused) == (1, False)
        assert (await launched.rushed.drops.launch("later", BOSS)).status is Status.LAUNCHED

    async def goes_on(self, launched: Restored) -> None:
        """Members see the drop and its claims, the items stay what they were, and it can be resumed."""
        drops = launched.rushed.drops
        drops.forget("trial")
        assert (await drops.shown("trial", to_operator=False)).status is Status.PAUSED
        await launched.gives_nothing()
        with pytest.raises(SpecInvalid, match="items: cannot be amended"):
            await drops.amend("trial", {"items": []}, None, BOSS)
        assert (await drops.resume("trial", BOSS)).status is Status.LAUNCHED
        assert (await launched.rushed.claim("m-new")).serial == LATE + 1
        await launched.rushed.record()
        assert (await launched.rushed.audit()).details == []
