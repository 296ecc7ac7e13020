"""The promise: a member who is erased is nowhere any more, and every total, promise and repair stays as it was."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, text

import lua
from engine import ids, towns
from engine.claims import keys
from engine.claims.model import OutcomeUnknown
from engine.claims.outbox import GROUP
from engine.claims.store import RedisStore
from engine.claims.wire import StoredClaim, pack_stored, unpack_stored
from engine.ids import ClaimId
from engine.ledger import actions, erase
from engine.ledger.client_log import read_receipts
from engine.ledger.erase import Erasures, ExportRequired, Holds
from engine.ledger.locks import held
from engine.ledger.persist import Outbox
from engine.ledger.rebuild import Rebuild, lock_of
from engine.ledger.reconcile import Reconciler
from engine.ledger.schema import (
    awards,
    dead_letters,
    draw_points,
    list_members,
    members,
    metadata,
    operator_actions,
    quiz_attempts,
)
from engine.members.model import Session
from engine.members.service import Members, NoSuchMember
from engine.organisations.service import Organisations
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.engine.notices.test_store import message, tell
from tests.factories.drops import drop_spec
from tests.factories.rushed import BOSS, CLAIMS, Rushed

GONE = "gone-3"  # who is erased; no other name holds it
AT = datetime(2026, 9, 20, 12, tzinfo=UTC)
OF_THE_PERSON = {
    awards: {
        "draw_id": "geese", "place": 1, "entrant": "geese.0.1", "member_id": GONE, "state": "claimed", "changed_at": AT,
    },
    draw_points: {"draw_id": "geese", "points": 3},
    quiz_attempts: {
        "drop_id": "trial", "quiz": "1", "attempt": 1, "seed": b"seed", "started_at": AT, "expires_at": AT,
    },
}  # fmt: skip


@pytest.fixture(params=[1, 3])
async def rushed(request: pytest.FixtureRequest, stores: Stores, settings: Settings, tmp_path: Path) -> Rushed:
    """The drop `trial`, with a claim of the member too, who is known, and on a list by id and by person."""
    made = Rushed(stores, settings.model_copy(update={"partitions": request.param}), tmp_path / "claims.jsonl")
    await made.rush()
    await made.claim(GONE)
    service = Members(stores.ledger, Organisations(stores.ledger), towns.load())
    await service.put(GONE, "person-gone", {"town": "大朗"}, "boss", None)
    async with stores.ledger.begin() as connection:
        for member in (GONE, "person-gone", "m-1"):
            await connection.execute(insert(list_members).values(list="couriers", member=member))
        for table, row in OF_THE_PERSON.items():
            await connection.execute(insert(table).values(row | {"subject": "person-gone"}))
    await tell(stores.ledger, message(GONE), message("m-1"))
    await made.record()
    return made


@pytest.fixture
def erasures(rushed: Rushed) -> Erasures:
    return Erasures(rushed.stores, rushed.settings.partitions)


async def close(rushed: Rushed) -> None:
    await rushed.drops.close("trial", BOSS)
    await rushed.record()


async def erased(erasures: Erasures, member: str = GONE) -> list[Holds]:
    digest = (await erasures.export(member, "boss"))["digest"]
    return await erasures.ask(member, digest, "boss")


async def everything(rushed: Rushed) -> str:
    """All that stands in the ledger and, once the outbox was trimmed, in the store."""
    for partition in range(rushed.settings.partitions):
        await Outbox(rushed.stores.redis, partition, "test").trim()
    found = []
    async with rushed.stores.ledger.connect() as connection:
        for table in metadata.sorted_tables:
            found.append(str((await connection.execute(select(table))).all()))
    redis: Any = rushed.stores.redis
    async for key in redis.scan_iter():
        kind = (await redis.type(key)).decode()
        value = {"hash": redis.hgetall, "string": redis.get, "stream": redis.xrange}[kind](key)
        found.append(f"{key!r} {await value!r}")
    return "\n".join(found)


async def figures(rushed: Rushed) -> object:
    report = await rushed.audit()
    live = await rushed.drops.live("trial")
    return report.accepted, report.told, report.in_ledger, report.released, report.items, live.items, report.details


async def left_as_it_was(rushed: Rushed) -> None:
    """Neither the reconciler nor a rebuild nor the vigil sees anything to do."""
    reconciler = Reconciler(rushed.stores, rushed.settings.partitions)
    before = await rushed.drops.read("trial")
    for _ in range(6):
        await reconciler.round()
    assert await rushed.drops.read("trial") == before
    receipts, faults = read_receipts(rushed.log, rushed.settings.receipt_keyring)
    report = await Rebuild(rushed.stores, rushed.settings.partitions, "trial", receipts).report()
    assert faults == []
    assert (report.conflicts, report.only_in_store, report.only_in_ledger, report.other) == ([], [], [], [])
    assert (report.restored, report.skipped, report.over_stock, report.over_limit) == (0, [], {}, 0)


class TestAsked:
    async def test_of_nobody_is_refused(self, erasures: Erasures) -> None:
        with pytest.raises(NoSuchMember):
            await erasures.export("nobody", "boss")
        with pytest.raises(NoSuchMember):
            await erasures.ask("nobody", "", "boss")

    async def test_without_the_export_of_what_is_known_now_is_refused(self, erasures: Erasures, rushed: Rushed) -> None:
        await close(rushed)
        old = (await erasures.export(GONE, "boss"))["digest"]
        service = Members(rushed.stores.ledger, Organisations(rushed.stores.ledger), towns.load())
        await service.put(GONE, "person-gone", {"town": "东坑"}, "boss", None)
        for digest in ("", "0" * 64, old):
            with pytest.raises(ExportRequired):
                await erasures.ask(GONE, digest, "boss")
        assert GONE in await everything(rushed)

    async def test_the_export_has_all_that_is_kept(self, erasures: Erasures) -> None:
        found = await erasures.export(GONE, "boss")
        assert found["known"] == {"subject": "person-gone", "attributes": {"town": "大朗"}}
        assert found["lists"] == ["couriers"]
        assert [change["after"]["attributes"] for change in found["changes"]] == [{"town": "大朗"}]
        assert [claim["subject"] for claim in found["claims"]] == [GONE]

    async def test_while_a_drop_of_theirs_is_open_waits_until_it_is_closed(
        self, erasures: Erasures, rushed: Rushed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (hold,) = await erased(erasures)
        assert hold.drop_id == "trial"
        assert "until it is closed; it ends at 20" in hold.reason
        assert await erasures.ask(GONE, "", "boss") == [hold], "asked again it is the same"
        await rushed.drops.pause("trial", BOSS)
        await rushed.record()
        assert [hold.drop_id for hold in await erasures.ask(GONE, "", "boss")] == ["trial"]
        await rushed.drops.resume("trial", BOSS)
        await close(rushed)
        monkeypatch.setattr(erase, "ERASE_LOOK_S", 0.05)
        stop = asyncio.Event()
        working = asyncio.create_task(erasures.run(stop))
        async with asyncio.timeout(10):
            while GONE in await everything(rushed):  # noqa: ASYNC110 (no table tells that it shrank)
                await asyncio.sleep(0.05)
        stop.set()
        await working

    async def test_an_open_drop_without_a_claim_of_theirs_is_no_reason_to_wait(
        self, erasures: Erasures, rushed: Rushed
    ) -> None:
        await close(rushed)
        await rushed.drops.create(drop_spec("another"), BOSS)
        await rushed.drops.launch("another", BOSS)
        await rushed.record()
        assert await erased(erasures) == []

    async def test_what_the_ledger_has_not_yet_is_waited_for(
        self, erasures: Erasures, rushed: Rushed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(erase, "_RECORDED_S_MAX", 0.1)
        await rushed.claim("m-late")
        (hold,) = await erased(erasures)
        assert "on their way into the ledger" in hold.reason

    async def test_dead_letters_that_name_them_are_waited_for(self, erasures: Erasures, rushed: Rushed) -> None:
        await close(rushed)
        letter = {"stream": "x", "entry_id": "1-1", "fields": {"claims": GONE.encode().hex()}, "error": "unread"}
        async with rushed.stores.ledger.begin() as connection:
            await connection.execute(insert(dead_letters).values(letter))
        (hold,) = await erased(erasures)
        assert "dead letters" in hold.reason
        assert GONE in await everything(rushed)


class TestErased:
    async def test_they_are_nowhere_and_every_figure_is_as_it_was(self, erasures: Erasures, rushed: Rushed) -> None:
        await close(rushed)
        before = await figures(rushed)
        assert await erased(erasures) == []
        after = await everything(rushed)
        for name in (GONE, "person-gone", GONE.encode().hex()):
            assert name not in after
        assert await figures(rushed) == before
        await left_as_it_was(rushed)

    async def test_whoever_holds_a_receipt_of_theirs_is_no_difference(self, erasures: Erasures, rushed: Rushed) -> None:
        """The clients' log names m-3, whom nobody else knows any more; nor does a rebuild into an empty store."""
        await close(rushed)
        before = await figures(rushed)
        assert await erased(erasures, "m-3") == []
        assert await figures(rushed) == before
        await left_as_it_was(rushed)
        for partition in range(rushed.settings.partitions):
            await rushed.stores.redis.delete(keys.drop(partition, "trial"), keys.claims(partition, "trial"))
        receipts, _ = read_receipts(rushed.log, rushed.settings.receipt_keyring)
        report = await Rebuild(rushed.stores, rushed.settings.partitions, "trial", receipts).apply(BOSS, "lost")
        assert (report.restored, report.conflicts) == (0, [])
        assert await figures(rushed) == before

    async def test_their_claim_can_still_be_given_back(self, erasures: Erasures, rushed: Rushed) -> None:
        await close(rushed)
        claim_id = (await erasures.export(GONE, "boss"))["claims"][0]["claim_id"]
        assert await erased(erasures) == []
        await rushed.claims.release(ClaimId.parse(claim_id), "boss", "ill")
        await rushed.record()
        assert (await rushed.audit()).differences == 0

    async def test_another_account_of_the_person_keeps_what_is_theirs(
        self, stores: Stores, settings: Settings, tmp_path: Path
    ) -> None:
        rushed = Rushed(stores, settings, tmp_path / "claims.jsonl")
        await rushed.drops.create(drop_spec("trial", stock=60, limit=3), BOSS)
        await rushed.drops.launch("trial", BOSS)
        rushed.log.write_text("")
        drop = await rushed.drops.get("trial")
        for member in (GONE, "other", GONE):
            ticket = rushed.claims.issue_ticket(Session(member, "person"), drop, None, None).ticket
            await rushed.claim(member, ticket)
        async with stores.ledger.begin() as connection:
            for member in (GONE, "other"):
                await connection.execute(insert(members).values(id=member, subject="person", attributes={}))
            for name in ("person", GONE, "other"):
                await connection.execute(insert(list_members).values(list="couriers", member=name))
            for table, row in OF_THE_PERSON.items():
                await connection.execute(insert(table).values(row | {"subject": "person"}))
        await close(rushed)
        assert await erased(Erasures(stores, 1)) == []
        held_by: dict[bytes, bytes] = await self.stored(stores)
        assert sorted(len(unpack_stored(value)) for value in held_by.values()) == [1, 2]
        assert [claim.serial for claim in unpack_stored(held_by[b"person"])] == [2]
        async with stores.ledger.connect() as connection:
            assert set(await connection.scalars(select(list_members.c.member))) == {"person", "other"}
            for table in OF_THE_PERSON:
                assert await connection.scalar(select(table.c.subject)) == "person"
        assert GONE not in await everything(rushed)
        assert (await rushed.audit()).differences == 0
        assert await erased(Erasures(stores, 1), "other") == []
        left = await everything(rushed)
        assert not any(word in left for word in ("person", "'other'"))
        assert (await rushed.audit()).differences == 0

    async def stored(self, stores: Stores) -> dict[bytes, bytes]:
        redis: Any = stores.redis
        found: dict[bytes, bytes] = await redis.hgetall(keys.claims(0, "trial"))
        return found

    async def test_whom_they_have_become_since_it_was_asked_for_goes_too(
        self, erasures: Erasures, rushed: Rushed
    ) -> None:
        """While it waits for an open drop they get another subject, and claim under it."""
        assert len(await erased(erasures)) == 1
        service = Members(rushed.stores.ledger, Organisations(rushed.stores.ledger), towns.load())
        await service.put(GONE, "person-later", {}, "boss", None)
        drop = await rushed.drops.get("trial")
        session = Session(GONE, "person-later")
        await rushed.claim(GONE, rushed.claims.issue_ticket(session, drop, None, None).ticket)
        await close(rushed)
        before = await figures(rushed)
        assert await erasures.ask(GONE, "", "boss") == []
        left = await everything(rushed)
        assert not any(word in left for word in (GONE, "person-later"))
        assert await figures(rushed) == before
        await left_as_it_was(rushed)

    async def test_a_claim_that_comes_in_the_middle_is_no_longer_held_back_by_nothing(
        self, erasures: Erasures, rushed: Rushed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is on a drop that is open: its limit counts there, and the rest of the erasure waits for it."""
        await close(rushed)
        await rushed.drops.create(drop_spec("another"), BOSS)
        await rushed.drops.launch("another", BOSS)
        await rushed.record()
        on_drop = Erasures._on_drop

        async def and_a_claim(self: Erasures, asked: erase.Erasure, drop_id: str) -> int:
            drop = await rushed.drops.get("another")
            ticket = rushed.claims.open_ticket(rushed.claims.issue_ticket(Session(GONE, GONE), drop, None, None).ticket)
            await rushed.claims.claim(drop, ticket, None, None)
            await rushed.record()
            return await on_drop(self, asked, drop_id)

        monkeypatch.setattr(Erasures, "_on_drop", and_a_claim)
        assert [hold.drop_id for hold in await erased(erasures)] == ["another"]
        monkeypatch.undo()
        assert [hold.drop_id for hold in await erasures.ask(GONE, "", "boss")] == ["another"]
        await rushed.drops.close("another", BOSS)
        await rushed.record()
        assert await erasures.ask(GONE, "", "boss") == []
        assert GONE not in await everything(rushed)

    async def test_the_record_of_acts_holds_and_names_nobody(self, erasures: Erasures, rushed: Rushed) -> None:
        await close(rushed)
        await erased(erasures)
        async with rushed.stores.ledger.connect() as connection:
            links = await actions.chain(connection)
            assert await connection.scalar(select(operator_actions.c.hash).limit(1))
        assert actions.broken_links(links) == []
        act = links[-1].action
        assert (act.verb, act.actor, act.change) == ("erase", "boss", {"claims": 1, "drops": 1})
        assert ids.is_pseudonym(act.object.removeprefix("member:"))
        assert not any(word in str(links) for word in (GONE, "person-gone", "大朗"))

    async def test_a_pseudonym_is_no_id_of_anybody(self, settings: Settings) -> None:
        with pytest.raises(ids.IdInvalid):
            ids.member_id(ids.pseudonym(b"any"))

    async def test_two_at_once_are_one(self, erasures: Erasures, rushed: Rushed) -> None:
        await close(rushed)
        digest = (await erasures.export(GONE, "boss"))["digest"]
        other = Erasures(rushed.stores, rushed.settings.partitions)
        done = await asyncio.gather(
            erasures.ask(GONE, digest, "boss"), other.ask(GONE, digest, "boss"), return_exceptions=True
        )
        assert [] in done
        assert GONE not in await everything(rushed)
        assert (await rushed.audit()).differences == 0


class TestCutOff:
    async def test_between_ledger_and_store_it_goes_on_by_itself(
        self, erasures: Erasures, rushed: Rushed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Meanwhile the reconciler sees a claim that the store lacks, and puts it there, under the pseudonym."""
        await close(rushed)
        before = await figures(rushed)

        async def cut(self: RedisStore, script: lua.Script, *_: object) -> Any:
            raise OutcomeUnknown("cut off")

        with monkeypatch.context() as patch:
            patch.setattr(RedisStore, "run", cut)
            assert [hold.reason for hold in await erased(erasures)] == ["cut off"]
        reconciler = Reconciler(rushed.stores, rushed.settings.partitions)
        for _ in range(4):
            await reconciler.round()
        assert GONE in await everything(rushed)
        assert await erasures.ask(GONE, "", "boss") == []
        assert GONE not in await everything(rushed)
        assert await figures(rushed) == before
        await left_as_it_was(rushed)

    async def test_while_a_rebuild_holds_the_drop_it_waits(self, erasures: Erasures, rushed: Rushed) -> None:
        await close(rushed)
        async with held(rushed.stores.ledger, lock_of("trial")):
            (hold,) = await erased(erasures)
        assert "is being rebuilt" in hold.reason
        assert await erasures.ask(GONE, "", "boss") == []

    async def test_an_entry_of_the_outbox_that_comes_again_is_no_other_claim(
        self, erasures: Erasures, rushed: Rushed
    ) -> None:
        """A store that failed over may have lost what was acknowledged: the worker reads it a second time."""
        await close(rushed)
        await erased(erasures)
        for partition in range(rushed.settings.partitions):
            await rushed.stores.redis.xgroup_destroy(keys.outbox(partition), GROUP)
        await rushed.record()
        async with rushed.stores.ledger.connect() as connection:
            assert await connection.scalar(text("select count(*) from dead_letters")) == 0
        assert (await rushed.audit()).in_ledger == CLAIMS + 1
        assert GONE not in await everything(rushed)

    async def test_a_claim_that_differs_is_still_buried(self, erasures: Erasures, rushed: Rushed) -> None:
        await close(rushed)
        await erased(erasures)
        await rushed.sql("update claims set quantity = 2 where member_id like '~%'")
        for partition in range(rushed.settings.partitions):
            await rushed.stores.redis.xgroup_destroy(keys.outbox(partition), GROUP)
        await rushed.record()
        async with rushed.stores.ledger.connect() as connection:
            assert await connection.scalar(text("select count(*) from dead_letters")) == 1


def claim_of(serial: int) -> StoredClaim:
    return StoredClaim(b"nonce%03d" % serial, serial, 1, 1, released=False, at_ms=serial)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    own=st.lists(st.integers(1, 12), unique=True), there=st.lists(st.integers(1, 12), unique=True),
    wanted=st.lists(st.integers(1, 12), min_size=1, unique=True),
)  # fmt: skip
async def test_the_script_moves_what_it_is_told_once(
    stores: Stores, redis: Any, own: Sequence[int], there: Sequence[int], wanted: Sequence[int]
) -> None:
    """Whatever was done before: claims are neither lost nor doubled, and those of others stay."""
    place = keys.claims(0, "trial")
    await redis.delete(place)
    for subject, serials in (("gone", own), ("~p", there), ("other", [99])):
        if serials:
            await redis.hset(place, subject, b"".join(pack_stored(claim_of(serial)) for serial in serials))
    for _ in range(2):
        reply = await stores.scripts.run(lua.load("erase"), (place, keys.home(0)), ("gone", "~p", *wanted))
        assert reply == b"erased"
        found = {
            subject.decode(): [claim.serial for claim in unpack_stored(value)]
            for subject, value in (await redis.hgetall(place)).items()
        }
        assert found["other"] == [99]
        assert found.get("gone", []) == [serial for serial in own if serial not in wanted]
        moved = [serial for serial in own if serial in wanted and serial not in there]
        assert found.get("~p", []) == [*there, *moved]
    await redis.set(keys.home(0), "elsewhere")
    assert await stores.scripts.run(lua.load("erase"), (place, keys.home(0)), ("other", "~p", 99)) == b"not-ready"
    await redis.set(keys.home(0), await stores.scripts.home())


def test_every_table_that_names_members_is_known_to_an_erasure() -> None:
    """Whoever adds one adds to engine/ledger/erase.py what becomes of it."""
    columns = {"member_id", "member", "subject", "subjects", "mark"}
    naming = {table.name for table in metadata.sorted_tables if columns & set(table.c.keys())}
    assert naming == erase.NAMING_MEMBERS
