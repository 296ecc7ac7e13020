"""The promise: a store that was lost goes on with the committed sequence where it was, receipts bring wins back, and a
sequence that was not committed to is never dealt.
"""

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from engine.claims import keys, receipt
from engine.claims.keyring import Keyring
from engine.claims.model import Claim, NotReady, Paused
from engine.draws import plays
from engine.draws.dealer import CommitmentBroken, Dealer
from engine.draws.verify import check
from engine.drops.model import Status, WrongStatus
from engine.ledger.rebuild import Rebuild
from engine.ledger.reconcile import Reconciler
from engine.members.model import Session
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.instants import BOSS, PRIZES, instant_spec
from tests.factories.rushed import Rushed

UNITS = sum(PRIZES.values())
SPLIT = pytest.mark.parametrize("partitions", [1, 3])


class Played(Rushed):
    """The instant win `wheel`, the services of one process, and what it told."""

    told: list[Claim]

    async def play(self, member: str) -> Claim:
        drop = await self.drops.get("wheel")
        ticket = self.claims.issue_ticket(Session(member, member), drop, None, None).ticket
        return await self.claims.claim(drop, self.claims.open_ticket(ticket), None, None)

    async def plays(self, count: int = 6, first: int = 0) -> None:
        for number in range(first, first + count):
            self.told.append(await self.play(f"m-{number}"))

    async def lose_the_store(self) -> None:
        await self.stores.redis.flushall()
        for partition in range(self.settings.partitions):
            await self.stores.redis.set(keys.home(partition), await self.stores.scripts.home())

    def rebuild(self, *lost: Claim) -> Rebuild:
        brought = [receipt.verify(self.settings.receipt_keyring, claim.receipt) for claim in lost]
        return Rebuild(self.stores, self.settings.partitions, "wheel", brought)

    @property
    def won(self) -> Counter[str]:
        return Counter(claim.item for claim in self.told if claim.item != "no-prize")

    async def differences(self) -> list[str]:
        """Close, reveal, and check as everybody can; then the audit."""
        await self.drops.close("wheel", BOSS)
        await self.record()
        document = await plays.revealed(self.stores, self.settings.partitions, await self.drops.read("wheel"))
        found = [str(difference) for difference in check(document).differences]
        async with self.stores.ledger.connect() as connection:
            assert await connection.scalar(text("select count(*) from dead_letters")) == 0
        report = await self.audit("wheel")
        return found + report.details


async def launched(stores: Stores, settings: Settings, log: Path, partitions: int = 1) -> Played:
    played = Played(stores, settings.model_copy(update={"partitions": partitions}), log)
    played.told = []
    await played.drops.create(instant_spec(limit=9), BOSS)
    await played.drops.launch("wheel", BOSS)
    return played


@SPLIT
async def test_a_rebuilt_store_deals_on_where_the_lost_one_was(
    stores: Stores, settings: Settings, tmp_path: Path, partitions: int
) -> None:
    played = await launched(stores, settings, tmp_path / "log", partitions)
    await played.plays(6)
    before = [await stores.redis.get(keys.prizes(partition, "wheel")) for partition in range(partitions)]
    await played.record()
    await played.lose_the_store()
    with pytest.raises(NotReady):
        await played.play("m-0")
    report = await played.rebuild().apply(BOSS, "the disk was lost")
    assert (report.claims, report.is_paused, report.over_stock) == (6, False, {})
    assert [await stores.redis.get(keys.prizes(partition, "wheel")) for partition in range(partitions)] == before
    await played.plays(60, first=6)
    assert played.won == PRIZES
    assert await played.differences() == []


async def test_a_store_that_failed_over_to_an_older_state_is_brought_on_by_the_worker(
    stores: Stores, settings: Settings, tmp_path: Path
) -> None:
    played = await launched(stores, settings, tmp_path / "log")
    await played.plays(3)
    places = [keys.drop(0, "wheel"), keys.claims(0, "wheel")]
    older = [await stores.redis.dump(place) for place in places]
    await played.plays(3, first=3)
    await played.record()
    for place, state in zip(places, older, strict=True):
        await stores.redis.restore(place, 0, state or b"", replace=True)
    reconciler = Reconciler(stores, 1)
    for _ in range(4):
        await reconciler.round()
    assert (await played.drops.read("wheel")).epoch == 2
    await played.plays(40, first=6)
    assert played.won == PRIZES
    assert await played.differences() == []


async def test_receipts_bring_back_wins_that_the_ledger_never_saw(
    stores: Stores, settings: Settings, tmp_path: Path
) -> None:
    played = await launched(stores, settings, tmp_path / "log")
    await played.plays(3)
    await played.record()
    await played.plays(3, first=3)
    await played.lose_the_store()
    report = await played.rebuild(*played.told[3:]).apply(BOSS, "the disk was lost")
    assert (report.restored, report.is_paused) == (3, False)
    await played.plays(40, first=6)
    assert played.won == PRIZES
    assert await played.differences() == []


async def test_plays_that_nobody_proves_are_lost_by_name_and_their_prizes_go_to_others(
    stores: Stores, settings: Settings, tmp_path: Path
) -> None:
    played = await launched(stores, settings, tmp_path / "log")
    await played.plays(3)
    await played.record()
    await played.plays(2, first=3)
    await played.lose_the_store()
    with pytest.raises(NotReady):
        await played.play("m-9")  # says what this process was told
    report = await played.rebuild().apply(BOSS, "the disk was lost")
    assert (report.skipped, report.is_paused) == ([(0, 4, 5)], True)
    with pytest.raises(Paused):
        await played.play("m-9")
    await played.drops.resume("wheel", BOSS)
    del played.told[3:]
    await played.plays(40, first=6)
    assert played.won == PRIZES
    assert await played.differences() == []
    document = await plays.revealed(stores, 1, await played.drops.read("wheel"))
    assert document["revealed"]["plays"][0][3:5] == [[0, 0], [0, 0]]


async def test_a_given_back_prize_is_counted_as_dealt(stores: Stores, settings: Settings, tmp_path: Path) -> None:
    played = await launched(stores, settings, tmp_path / "log")
    await played.plays(6)
    await played.record()
    await played.claims.release(played.told[0].claim_id, "boss", "ill")
    await played.record()
    await played.lose_the_store()
    await played.rebuild().apply(BOSS, "the disk was lost")
    assert await stores.redis.hget(keys.drop(0, "wheel"), "dealt") == b"6"
    await played.plays(40, first=6)
    assert played.won == PRIZES
    assert await played.differences() == []


async def test_the_reconciler_sets_right_how_many_were_dealt(
    stores: Stores, settings: Settings, tmp_path: Path
) -> None:
    played = await launched(stores, settings, tmp_path / "log")
    await played.plays(6)
    await played.record()
    await stores.redis.hset(keys.drop(0, "wheel"), "dealt", "2")
    reconciler = Reconciler(stores, 1)
    for _ in range(4):
        await reconciler.round()
    assert await stores.redis.hget(keys.drop(0, "wheel"), "dealt") == b"6"
    await played.plays(40, first=6)
    assert played.won == PRIZES
    assert await played.differences() == []


class TestWithAnotherKey:
    @pytest.fixture
    async def played(self, stores: Stores, settings: Settings, tmp_path: Path) -> Played:
        made = await launched(stores, settings, tmp_path / "log")
        await made.plays(3)
        await made.record()
        return made

    async def test_nothing_is_rebuilt_and_the_drop_goes_on(self, played: Played) -> None:
        played.stores.dealer.use_keys(Keyring(1, {1: b"another key of 32 bytes, or more"}))
        with pytest.raises(CommitmentBroken, match="bring back the key"):
            await played.rebuild().apply(BOSS, "to see")
        assert (await played.drops.read("wheel")).epoch == 1
        await played.plays(1, first=3)

    async def test_it_can_be_paused_and_closed_and_not_resumed_or_revealed(
        self, played: Played, settings: Settings
    ) -> None:
        played.stores.dealer.use_keys(None)
        await played.drops.pause("wheel", BOSS)
        with pytest.raises(CommitmentBroken):
            await played.drops.resume("wheel", BOSS)
        played.stores.dealer.use_keys(settings.instant_keyring)
        await played.drops.resume("wheel", BOSS)
        await played.plays(40, first=3)
        assert played.won == PRIZES
        played.stores.dealer.use_keys(None)
        assert (await played.drops.close("wheel", BOSS)).status is Status.CLOSED
        await played.record()
        with pytest.raises(CommitmentBroken):
            await plays.revealed(played.stores, 1, await played.drops.read("wheel"))

    async def test_after_a_rotation_all_goes_on(self, played: Played, settings: Settings) -> None:
        assert settings.instant_keyring is not None
        more = {**settings.instant_keyring.keys, 2: b"a newer key, of 32 bytes or more"}
        played.stores.dealer.use_keys(Keyring(2, more))
        await played.lose_the_store()
        await played.rebuild().apply(BOSS, "the disk was lost")
        await played.plays(40, first=3)
        assert played.won == PRIZES
        assert await played.differences() == []


async def test_the_secret_is_not_told_before_the_close(stores: Stores, settings: Settings, tmp_path: Path) -> None:
    """Also where the close is on its way to a partition, or was decided by nobody but the window."""
    played = await launched(stores, settings, tmp_path / "log", partitions=3)
    with pytest.raises(WrongStatus):
        await plays.revealed(stores, 3, await played.drops.read("wheel"))
    await played.drops.close("wheel", BOSS)
    await stores.redis.hset(keys.drop(2, "wheel"), "status", "launched")
    with pytest.raises(NotReady, match="partition 2"):
        await plays.revealed(stores, 3, await played.drops.read("wheel"))


async def test_the_secret_stands_in_no_row_and_no_key(stores: Stores, settings: Settings, tmp_path: Path) -> None:
    """The store has the moments, which it must; but by them nobody makes the secret, or another drop's."""
    played = await launched(stores, settings, tmp_path / "log")
    await played.record()
    secret = Dealer(settings.instant_keyring)._secret("wheel", 1)
    async with stores.ledger.connect() as connection:
        rows = await connection.execute(text("select row_to_json(a)::text from operator_actions a"))
        spec = await connection.scalar(text("select spec::text from drops"))
    assert secret.hex() not in f"{rows.all()}{spec}"
    held = [await stores.redis.dump(name) for name in await stores.redis.keys("*")]
    assert not any(secret in (value or b"") or secret.hex().encode() in (value or b"") for value in held)
