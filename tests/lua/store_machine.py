"""A drop in a store beside the same drop in the pure model: every step is done to both, then both must agree."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis import Redis

import lua
from engine.claims import acts, keys
from engine.claims.acts import Act, Change
from engine.claims.decide import Caller, DropState, PartitionState, Window, decide_batch, release
from engine.claims.model import Verdict
from engine.claims.outbox import ClaimsEntry, ControlEntry, ReleaseEntry, control_text, decode
from engine.claims.store import unpack_batch
from engine.claims.wire import ENTRY_BYTES, ClaimRequest, StoredClaim, pack_request, pack_stored, unpack_stored
from engine.drops.model import Control, Drop, Status, Verb, after, from_ms, store_fields, to_ms
from engine.drops.spec import DropSpec

CLOCK = (Path(__file__).parent / "stubs" / "now.lua").read_text()
OPENS = datetime(2025, 6, 14, 2, 0, tzinfo=UTC)
DROP_ID, HOME = "lychee", "home-1"
DAY_MS = 86_400_000

SPEC = DropSpec.model_validate(
    {
        "id": DROP_ID,
        "title": {"zh": "荔枝", "en": "Lychees"},
        "organisation": "dongguan",
        "allocation": "rush",
        "opens_at": OPENS,
        "closes_at": OPENS + timedelta(hours=12),
        "limit_per_member": 2,
        "items": [
            {"id": "box-5jin", "title": {"en": "5 jin"}, "stock": 6, "weight_jin": 5},
            {"id": "box-10jin", "title": {"en": "10 jin"}, "stock": 2, "weight_jin": 10},
        ],
        "allotments": [
            {"item": "box-5jin", "town": "东城", "number": 2, "stock": 1, "until": OPENS + timedelta(hours=3)},
            {"item": "box-5jin", "town": "莞城", "number": 1, "stock": 1, "until": OPENS + timedelta(hours=6)},
            {"item": "box-10jin", "town": "莞城", "number": 1, "stock": 1, "until": OPENS + timedelta(hours=6)},
        ],
        "waves": [
            {"at": OPENS, "stock": {"box-5jin": 3, "box-10jin": 1}},
            {"at": OPENS + timedelta(hours=5), "stock": {"box-5jin": 3, "box-10jin": 1}},
        ],
    }
)

members = st.sampled_from(["m-1", "m-2", "m-3", "m-4"])
# Two accounts of one person share a subject; everybody else is their own.
subjects = {"m-1": "m-1", "m-2": "person-2", "m-3": "person-2", "m-4": "m-4"}


@st.composite
def requests(draw: st.DrawFn) -> tuple[ClaimRequest, Window]:
    member = draw(members)
    request = ClaimRequest(
        nonce=draw(st.integers(1, 30)).to_bytes(8, "big"),
        item=draw(st.sampled_from([1, 1, 1, 2, 2, 3])),  # 3: an item that the drop has not
        quantity=draw(st.integers(1, 3)),
        member=member,
        subject=subjects[member],
        town=draw(st.sampled_from([0, 1, 2, 255])),
        slogan=draw(st.integers(0, 3)),
    )
    opens_ms = to_ms(OPENS)
    window = Window(
        draw(st.sampled_from([opens_ms, opens_ms, opens_ms + 3_600_000])),
        draw(st.sampled_from([opens_ms + DAY_MS, opens_ms + DAY_MS, opens_ms + 7_200_000])),
    )
    return request, window


def said(reply: bytes) -> str:
    """A reply without the time that it tells."""
    word, _, fact = reply.decode().partition(":")
    return f"stale:{fact}" if word == "stale" else word


def places(script: lua.Script, drop_id: str, family: Sequence[str] = (), target: str = "") -> list[str]:
    """The keys that a script asks for, of a drop in partition 0."""
    known = {
        "drop_key": keys.drop(0, drop_id),
        "claims_key": keys.claims(0, drop_id),
        "outbox_key": keys.outbox(0),
        "home_key": keys.home(0),
        "told_key": keys.told(0),
        "made_key": keys.made(0, drop_id),
        "tally_key": keys.tally(0, drop_id),
        "prizes_key": keys.prizes(0, drop_id),
        "target_key": target,
    }
    relatives = [place(0, other) for other in family for place in (keys.drop, keys.claims)]
    return [known[key] for key in script.keys if key != "family…"] + relatives


class StoreMachine(RuleBasedStateMachine):
    """Random histories on a store and on the model: claims, retries, releases, acts, rebuilds, new stores, jumps."""

    redis: "Redis"

    def __init__(self) -> None:
        super().__init__()
        self.redis.flushall()
        self.now_ms = to_ms(OPENS) - 60_000
        self.partition = PartitionState(HOME)
        self.redis.set(keys.home(0), HOME)
        self.home = HOME  # of the store that is there; another one after each restart
        self.drop: Drop | None = None
        self.kept: DropState | None = None  # of a drop that the store has lost
        self.skipped: set[int] = set()  # serials that a rebuild left out
        self.accepted: list[tuple[str, int]] = []
        self.is_sound = True  # after a failed step only that step's own failure shall be told
        self.set_clock()

    @property
    def state(self) -> DropState | None:
        return self.partition.drops.get(DROP_ID)

    def set_clock(self) -> None:
        self.redis.set("test:now", self.now_ms)

    def text_of(self, script: lua.Script) -> str:
        """What is run for a script; a mutant changes it (tests/simulation/mutants.py)."""
        return script.text

    def run(self, name: str, arguments: list[Any], home: str | None = None, target: str = "") -> Any:
        script = lua.load(name, now=CLOCK)
        named = [self.home if home is None else home] if script.arguments[:1] == ("home",) else []
        where = places(script, DROP_ID, target=target)
        return self.redis.eval(self.text_of(script), len(where), *where, *named, *arguments)

    def control(self, verb: Verb, change: dict[str, Any] | None = None) -> None:
        revision = self.drop.revision + 1 if self.drop else 1
        control = Control(verb, revision, "operator", from_ms(self.now_ms), f"act-{revision}", change or {})
        changed = after(self.drop, control)
        fields = store_fields(changed, 1, 0)
        flat = [part for pair in fields.items() for part in pair]
        self.come_home()
        for home, act in (("elsewhere", control.act), *[(self.home, act) for act in (control.act, control.act, "b")]):
            reply = said(self.run("control", [DROP_ID, revision, act, control_text(control), "", *flat], home))
            assert reply == acts.control(self.partition, DROP_ID, home, Act(revision, act, fields))
            if reply == "applied":
                self.drop = changed

    def come_home(self) -> None:
        assert self.run("settle", [self.home]) == b"settled"
        assert acts.settle(self.partition, self.home, self.home) == "settled"

    @property
    def epoch(self) -> int:
        """The epoch that everybody believes in: the ledger's."""
        return self.drop.epoch if self.drop else 1

    @property
    def status(self) -> Status | None:
        return self.drop.status if self.drop else None

    @initialize(passed_ms=st.sampled_from([None, 0, 0, 3 * 3_600_000, 13 * 3_600_000]))
    def begin(self, passed_ms: int | None) -> None:
        """Most histories begin in the middle of the rush, or when tickets have expired, or after the close."""
        if passed_ms is not None:
            self.control(Verb.CREATE, {"spec": SPEC.model_dump(mode="json")})
            self.control(Verb.LAUNCH)
            self.jump(60_000 + passed_ms)

    @precondition(lambda self: self.drop is None)
    @rule()
    def create(self) -> None:
        self.control(Verb.CREATE, {"spec": SPEC.model_dump(mode="json")})

    @precondition(lambda self: self.status is Status.DRAFT)
    @rule()
    def launch(self) -> None:
        self.control(Verb.LAUNCH)

    @precondition(lambda self: self.status is Status.LAUNCHED)
    @rule()
    def pause(self) -> None:
        self.control(Verb.PAUSE)

    @precondition(lambda self: self.status is Status.PAUSED)
    @rule()
    def resume(self) -> None:
        self.control(Verb.RESUME)

    @precondition(lambda self: self.status in (Status.LAUNCHED, Status.PAUSED))
    @rule(item=st.sampled_from(["box-5jin", "box-10jin"]), quantity=st.integers(1, 3))
    def restock(self, item: str, quantity: int) -> None:
        if self.drop is not None and from_ms(self.now_ms) < self.drop.spec.closes_at:
            self.control(Verb.RESTOCK, {"item": item, "quantity": quantity})

    @precondition(lambda self: self.status in (Status.LAUNCHED, Status.PAUSED))
    @rule(limit=st.integers(1, 4))
    def amend(self, limit: int) -> None:
        self.control(Verb.AMEND, {"spec": {"limit_per_member": limit}})

    @precondition(lambda self: self.status in (Status.LAUNCHED, Status.PAUSED) and len(self.accepted) > 3)
    @rule()
    def close(self) -> None:
        self.control(Verb.CLOSE)

    @rule(step_ms=st.sampled_from([1, 1_000, 60_000, 3_600_000, 12 * 3_600_000, -1_000, -3_600_000]))
    def jump(self, step_ms: int) -> None:
        self.now_ms += step_ms
        self.set_clock()

    @rule(
        batch=st.lists(requests(), max_size=6),
        epochs_off=st.sampled_from([0] * 3 + [1]),
        is_elsewhere=st.sampled_from([False] * 3 + [True]),
        told_beyond=st.sampled_from([0] * 3 + [1]),  # 1: a serial that the state does not know, it has lost a claim
    )
    def claim(
        self, batch: list[tuple[ClaimRequest, Window]], epochs_off: int, is_elsewhere: bool, told_beyond: int
    ) -> None:
        arguments = [
            window.not_before_ms.to_bytes(6, "big") + window.expires_at_ms.to_bytes(6, "big") + pack_request(request)
            for request, window in batch
        ]
        self.is_sound = False
        home, epoch = "elsewhere" if is_elsewhere else self.home, self.epoch + epochs_off
        told = (self.state.serial if self.state else 0) + told_beyond
        reply = unpack_batch(self.run("claim", [DROP_ID, epoch, told, "", *arguments], home))
        assert reply.now_ms == self.now_ms
        decided = decide_batch(self.partition, DROP_ID, Caller(home, epoch, told), batch, self.now_ms)
        for index, ((request, _), expected) in enumerate(zip(batch, decided, strict=True)):
            if expected.verdict is not Verdict.ACCEPTED:
                assert reply.decisions[index] == expected
            else:
                assert reply.decisions[index] == expected.serial
                self.accepted.append((request.subject, expected.serial))
        self.is_sound = True

    @rule(batch=st.lists(requests(), min_size=1, max_size=6))
    def press(self, batch: list[tuple[ClaimRequest, Window]]) -> None:
        """A claim as it mostly comes."""
        self.claim(batch=batch, epochs_off=0, is_elsewhere=False, told_beyond=0)

    @rule(batch=st.lists(requests(), min_size=4, max_size=6))
    def rush(self, batch: list[tuple[ClaimRequest, Window]]) -> None:
        self.press(batch=batch)

    @precondition(lambda self: self.accepted)
    @rule(data=st.data(), epochs_off=st.sampled_from([0] * 5 + [1]), is_other=st.sampled_from([False] * 4 + [True]))
    def give_back(self, data: st.DataObject, epochs_off: int, *, is_other: bool) -> None:
        subject, serial = data.draw(st.sampled_from(self.accepted))
        if is_other:
            serial += 1_000
        epoch = self.epoch + epochs_off
        why = '{"actor": "operator", "reason": "test"}'
        assert self.run("release", [DROP_ID, epoch, subject, serial, why], home="elsewhere") == b"not-ready"
        for _ in range(2):
            reply = self.run("release", [DROP_ID, epoch, subject, serial, why])
            state = self.partition.at_home(DROP_ID, self.home)
            assert said(reply) == release(state, subject, serial, epoch)

    @rule(is_other=st.booleans())
    def settle(self, *, is_other: bool) -> None:
        compared = "another" if is_other else self.home
        assert said(self.run("settle", [compared])) == acts.settle(self.partition, self.home, compared)

    @precondition(lambda self: self.drop is not None)
    @rule(is_lost=st.sampled_from([False] * 5 + [True]), is_settled=st.sampled_from([True, True, False]))
    def another_store(self, *, is_lost: bool, is_settled: bool) -> None:
        """A restart, after which nothing is decided before `settle`; or a store that has lost the drop."""
        self.home += "+"
        if is_settled:
            self.come_home()
        if is_lost:
            self.redis.delete(keys.drop(0, DROP_ID), keys.claims(0, DROP_ID), keys.tally(0, DROP_ID))
            if self.state is not None:
                self.kept = self.state
                del self.partition.drops[DROP_ID]

    @rule(epochs_off=st.sampled_from([0, 0, -1, -1, 1]))
    def end_epoch(self, epochs_off: int) -> None:
        self.fence(epochs_off)

    def fence(self, epochs_off: int) -> None:
        epoch = self.epoch + epochs_off
        assert said(self.run("fence", [epoch])) == acts.fence(self.partition, DROP_ID, epoch)

    @precondition(lambda self: self.drop is not None and (self.state is not None or self.kept is not None))
    @rule(
        skipped=st.integers(0, 2),
        is_paused=st.booleans(),
        is_fenced=st.sampled_from([True] * 3 + [False]),
        is_behind=st.sampled_from([False] * 5 + [True]),
        lost=st.sampled_from([0] * 5 + [1]),  # of the subjects whose claims were made
    )
    def rebuild(self, *, skipped: int, is_paused: bool, is_fenced: bool, is_behind: bool, lost: int) -> None:
        """Made from the claims that are there, or that were there before they were lost."""
        if is_fenced:
            self.fence(1)
        old = self.state or self.kept
        assert old is not None and self.drop is not None  # noqa: PT018
        control = Control(
            Verb.REBUILD,
            self.drop.revision + 1,
            "op",
            from_ms(self.now_ms),
            f"re-{self.drop.revision}",
            {"pause": is_paused},
        )
        changed = after(self.drop, control)
        is_behind = is_behind and self.state is not None
        revision = self.drop.revision if is_behind else control.revision
        fields = store_fields(changed, 1, 0) | {"serial": str(old.serial + skipped)}
        fields |= {f"taken:{item}": str(units) for item, units in old.taken.items()} | {"dealt": "0"}
        fields |= {f"taken:{item}:{town}": str(units) for (item, town), units in old.town_taken.items()}
        made: dict[str, list[StoredClaim]] = {subject: list(held) for subject, held in old.claims.items()}
        for act in ("other", control.act, control.act) if is_behind else (control.act, control.act, "other"):
            self.redis.delete(keys.made(0, DROP_ID))
            for subject, held in made.items():
                self.redis.hset(keys.made(0, DROP_ID), subject, b"".join(map(pack_stored, held)))
            self.partition.made[DROP_ID] = dict(made)
            tallies = {f"{town}:{slogan}": str(units) for (town, slogan), units in old.tallies.items()}
            flat = [part for pair in [*tallies.items(), *fields.items()] for part in pair]
            subjects = len(made) + lost
            told = [DROP_ID, revision, act, control_text(control), subjects, "", len(tallies), *flat]
            done = Act(revision, act, fields, tallies=tallies)
            reply = said(self.run("rebuild", told))
            assert reply == acts.rebuild(self.partition, DROP_ID, done, subjects)
            if reply == "applied":
                self.skipped |= set(range(old.serial + 1, old.serial + skipped + 1))
                self.drop = changed
                self.kept = None

    @precondition(lambda self: self.state is not None)
    @rule(item=st.sampled_from([1, 2]), is_moved=st.booleans(), is_elsewhere=st.booleans())
    def repair_counter(self, item: int, *, is_moved: bool, is_elsewhere: bool) -> None:
        """Set to something wrong, and back again."""
        assert self.state is not None
        home, taken = "elsewhere" if is_elsewhere else self.home, self.state.taken[item]
        for seen, wanted in ((taken + is_moved, taken + 5), (taken + 5, taken)):
            changes = [
                Change("serial", b"%d" % self.state.serial, b"%d" % self.state.serial),
                Change(f"taken:{item}", b"%d" % seen, b"%d" % wanted),
            ]
            flat = [part for change in changes for part in change]
            reply = said(self.run("repair", flat, home, target=keys.drop(0, DROP_ID)))
            assert reply == acts.repair_drop(self.partition, DROP_ID, home, changes)

    @precondition(lambda self: self.state is not None)
    @rule(subject=st.sampled_from(sorted(set(subjects.values()))), is_moved=st.booleans())
    def repair_claim(self, subject: str, *, is_moved: bool) -> None:
        """Take a claim away by hand, and have it put back."""
        assert self.state is not None
        value = acts.packed(self.state.claims, subject)
        if not value:
            return
        self.redis.hset(keys.claims(0, DROP_ID), subject, value[:-ENTRY_BYTES])
        self.state.claims[subject].pop()
        for seen in (value, value[:-ENTRY_BYTES]) if is_moved else (value[:-ENTRY_BYTES],):
            change = Change(subject, seen, value)
            reply = said(self.run("repair", list(change), target=keys.claims(0, DROP_ID)))
            assert reply == acts.repair_claims(self.partition, DROP_ID, self.home, [change])
        if self.partition.home != self.home:
            self.redis.hset(keys.claims(0, DROP_ID), subject, value)
            self.state.claims[subject] = unpack_stored(value)

    @invariant()
    def store_and_model_are_the_same(self) -> None:
        found = cast(dict[bytes, bytes], self.redis.hgetall(keys.told(0)))
        told = {drop.decode(): int(serial) for drop, serial in found.items()}
        assert told == {drop: serial for drop, serial in self.partition.told.items() if serial}
        home = cast(bytes, self.redis.get(keys.home(0)))
        assert home == (self.partition.home or "").encode()
        fields = cast(dict[bytes, bytes], self.redis.hgetall(keys.drop(0, DROP_ID)))
        if self.state is None:
            assert not fields
            return
        assert {name.decode(): value.decode() for name, value in fields.items()} == acts.fields_of(self.state)
        tallies = cast(dict[bytes, bytes], self.redis.hgetall(keys.tally(0, DROP_ID)))
        assert {name.decode(): int(units) for name, units in tallies.items()} == {
            f"{town}:{slogan}": units for (town, slogan), units in self.state.tallies.items()
        }
        claims = cast(dict[bytes, bytes], self.redis.hgetall(keys.claims(0, DROP_ID)))
        assert {subject.decode(): unpack_stored(value) for subject, value in claims.items()} == self.state.claims

    @invariant()
    def stock_is_conserved(self) -> None:
        if self.state is None or self.drop is None:
            return
        for index, item in enumerate(self.drop.spec.items, start=1):
            held = sum(
                claim.quantity
                for claims in self.state.claims.values()
                for claim in claims
                if claim.item == index and not claim.released
            )
            assert held == self.state.taken[index] <= item.stock

    @invariant()
    def towns_are_counted(self) -> None:
        """Allotments and tallies count exactly the claims that were not given back."""
        if self.state is None:
            return
        claims = [claim for held in self.state.claims.values() for claim in held if not claim.released]
        for (item, town), units in self.state.town_taken.items():
            assert units == sum(claim.quantity for claim in claims if (claim.item, claim.town) == (item, town))
        for (town, slogan), units in self.state.tallies.items():
            assert units == sum(claim.quantity for claim in claims if (claim.town, claim.slogan) == (town, slogan))

    def teardown(self) -> None:
        """The outbox alone tells the whole history: replayed, it gives the same claims and the same drop."""
        if not self.is_sound:
            return
        claims: dict[int, ClaimRequest] = {}
        released: set[int] = set()
        drop: Drop | None = None
        entries = cast(list[tuple[bytes, dict[bytes, bytes]]], self.redis.xrange(keys.outbox(0)))
        for _, fields in entries:
            match decode(fields):
                case ClaimsEntry() as batch:
                    claims |= dict(enumerate(batch.claims(), start=batch.first_serial))
                case ReleaseEntry(serial=serial):
                    released.add(serial)
                case ControlEntry(control=control):
                    drop = after(drop, control)
        assert drop == self.drop
        assert list(claims) == [n for n in range(1, max(claims, default=0) + 1) if n not in self.skipped]
        state = self.state or self.kept
        stored = {} if state is None else state.claims
        kept = {claim.serial: (subject, claim) for subject, held in stored.items() for claim in held}
        assert kept.keys() == claims.keys()
        assert released == {serial for serial, (_, claim) in kept.items() if claim.released}
        for serial, request in claims.items():
            subject, claim = kept[serial]
            told = (request.subject, request.nonce, request.item, request.quantity)
            assert told == (subject, claim.nonce, claim.item, claim.quantity)
