"""The promise: a ledger that was restored beside a living store comes together with it, and forgets nothing unasked."""

from pathlib import Path

import pytest

from engine.claims import keys, receipt
from engine.claims.model import NotReady, Paused
from engine.claims.receipt import ReceiptBody
from engine.drops.model import Status
from engine.ledger import actions
from engine.ledger.homecoming import Beside, beside
from engine.ledger.plan import RebuildRefused
from engine.ledger.rebuild import Rebuild
from engine.runtime import backup
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
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

    async def test_given_up_by_a_rebuild_that_was_cut_off_stay_so(
        self, restored: Restored, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def cut_off(*_: object) -> bool:
            raise ConnectionError("cut off")

        with monkeypatch.context() as patched:
            patched.setattr(Rebuild, "fence", cut_off)
            with pytest.raises(ConnectionError):
                await restored.rebuild(receipts=True, forgets_acts=True).apply(BOSS, "")
        await restored.rebuild(receipts=True).apply(BOSS, "")
        assert (await restored.rushed.claim("m-new")).serial == CLAIMS + LATE + 1

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
