"""A drop in a store beside the same drop in the pure model: every step is done to both, then both must agree."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis import Redis

import lua
from engine.claims import keys
from engine.claims.model import Caller, DropState, PartitionState, Verdict, Window, decide_batch, release
from engine.claims.outbox import ClaimsEntry, ControlEntry, ReleaseEntry, control_text, decode
from engine.claims.store import unpack_batch
from engine.claims.wire import ClaimRequest, pack_request, unpack_stored
from engine.drops.model import Control, Drop, Status, Verb, after, from_ms, store_fields, to_ms
from engine.drops.spec import DropSpec

CLOCK = (Path(__file__).parent / "stubs" / "now.lua").read_text()
OPENS = datetime(2025, 6, 14, 2, 0, tzinfo=UTC)
DROP_ID, EPOCH, HOME = "lychee", 1, "home-1"
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
    )
    opens_ms = to_ms(OPENS)
    window = Window(
        draw(st.sampled_from([opens_ms, opens_ms, opens_ms + 3_600_000])),
        draw(st.sampled_from([opens_ms + DAY_MS, opens_ms + DAY_MS, opens_ms + 7_200_000])),
    )
    return request, window


class StoreMachine(RuleBasedStateMachine):
    """Random claims, retries, releases, restocks, pauses, amendments and clock jumps, on a store and on the model."""

    redis: "Redis"

    def __init__(self) -> None:
        super().__init__()
        self.redis.flushall()
        self.now_ms = to_ms(OPENS) - 60_000
        self.partition = PartitionState(HOME)
        self.redis.set(keys.home(0), HOME)
        self.drop: Drop | None = None
        self.accepted: list[tuple[str, int]] = []
        self.is_sound = True  # after a failed step only that step's own failure shall be told
        self.set_clock()

    @property
    def state(self) -> DropState | None:
        return self.partition.drops.get(DROP_ID)

    def set_clock(self) -> None:
        self.redis.set("test:now", self.now_ms)

    def run(self, name: str, arguments: list[Any], home: str = HOME) -> Any:
        places = {
            "drop_key": keys.drop(0, DROP_ID),
            "claims_key": keys.claims(0, DROP_ID),
            "outbox_key": keys.outbox(0),
            "home_key": keys.home(0),
            "told_key": keys.told(0),
        }
        script = lua.load(name, now=CLOCK)
        return self.redis.eval(script.text, len(script.keys), *(places[key] for key in script.keys), home, *arguments)

    def control(self, verb: Verb, change: dict[str, Any] | None = None) -> None:
        revision = self.drop.revision + 1 if self.drop else 1
        control = Control(verb, revision, "operator", from_ms(self.now_ms), f"act-{revision}", change or {})
        changed = after(self.drop, control)
        fields = store_fields(changed, 1, 0)
        flat = [part for pair in fields.items() for part in pair]
        arguments = [DROP_ID, revision, control.act, control_text(control), *flat]
        assert self.run("control", arguments, home="elsewhere") == b"not-ready"
        assert self.run("control", arguments) == b"applied:%d" % self.now_ms
        assert self.run("control", arguments) == b"already"
        assert self.run("control", [DROP_ID, revision, "another", "{}", *flat]) == b"stale:%d" % revision
        self.drop = changed
        waves = [tuple(int(n) for n in wave.split(":")) for wave in fields["waves"].split(",")]
        state = self.partition.drops.setdefault(DROP_ID, DropState("", 0, 0, 0, 0, [], {1: 0, 2: 0}))
        state.status, state.epoch = fields["status"], int(fields["epoch"])
        state.opens_ms, state.closes_ms = int(fields["opens_ms"]), int(fields["closes_ms"])
        state.limit = int(fields["limit"])
        state.waves = [(at, item, quantity) for at, item, quantity in waves]

    @property
    def status(self) -> Status | None:
        return self.drop.status if self.drop else None

    @initialize(is_late=st.booleans())
    def begin(self, *, is_late: bool) -> None:
        """Half of the histories begin in the middle of the rush: nothing interesting can happen before the launch."""
        if is_late:
            self.control(Verb.CREATE, {"spec": SPEC.model_dump(mode="json")})
            self.control(Verb.LAUNCH)
            self.jump(60_000)

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

    @rule(step_ms=st.sampled_from([1, 1_000, 60_000, 3_600_000, 5 * 3_600_000, -1_000, -3_600_000]))
    def jump(self, step_ms: int) -> None:
        self.now_ms += step_ms
        self.set_clock()

    @rule(
        batch=st.lists(requests(), min_size=1, max_size=6),
        epoch=st.sampled_from([EPOCH] * 9 + [2]),
        home=st.sampled_from([HOME] * 9 + ["elsewhere"]),
        told_beyond=st.sampled_from([0] * 9 + [1]),  # 1: a serial that the state does not know, it has lost a claim
    )
    def claim(self, batch: list[tuple[ClaimRequest, Window]], epoch: int, home: str, told_beyond: int) -> None:
        arguments = [
            window.not_before_ms.to_bytes(6, "big") + window.expires_at_ms.to_bytes(6, "big") + pack_request(request)
            for request, window in batch
        ]
        self.is_sound = False
        told = (self.state.serial if self.state else 0) + told_beyond
        reply = unpack_batch(self.run("claim", [DROP_ID, epoch, told, *arguments], home))
        assert reply.now_ms == self.now_ms
        decided = decide_batch(self.partition, DROP_ID, Caller(home, epoch, told), batch, self.now_ms)
        for index, ((request, _), expected) in enumerate(zip(batch, decided, strict=True)):
            if expected.verdict is not Verdict.ACCEPTED:
                assert reply.decisions[index] == expected
            else:
                assert reply.decisions[index] == expected.serial
                self.accepted.append((request.subject, expected.serial))
        self.is_sound = True

    @precondition(lambda self: self.accepted)
    @rule(data=st.data(), epoch=st.sampled_from([EPOCH] * 5 + [2]), is_other=st.booleans())
    def give_back(self, data: st.DataObject, epoch: int, *, is_other: bool) -> None:
        subject, serial = data.draw(st.sampled_from(self.accepted))
        if is_other:
            serial += 1_000
        why = '{"actor": "operator", "reason": "test"}'
        assert self.run("release", [DROP_ID, epoch, subject, serial, why], home="elsewhere") == b"not-ready"
        reply = self.run("release", [DROP_ID, epoch, subject, serial, why])
        assert reply.decode().partition(":")[0] == release(self.state, subject, serial, epoch)

    @invariant()
    def store_and_model_are_the_same(self) -> None:
        found = cast(dict[bytes, bytes], self.redis.hgetall(keys.told(0)))
        told = {drop.decode(): int(serial) for drop, serial in found.items()}
        assert told == {drop: serial for drop, serial in self.partition.told.items() if serial}
        fields = self.redis.hgetall(keys.drop(0, DROP_ID))
        if self.state is None:
            assert not fields
            return
        assert int(fields[b"serial"]) == self.state.serial
        assert {item: int(fields[b"taken:%d" % item]) for item in (1, 2)} == self.state.taken
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
        assert list(claims) == list(range(1, len(claims) + 1))
        stored = {} if self.state is None else self.state.claims
        kept = {claim.serial: (subject, claim) for subject, held in stored.items() for claim in held}
        assert kept.keys() == claims.keys()
        assert released == {serial for serial, (_, claim) in kept.items() if claim.released}
        for serial, request in claims.items():
            subject, claim = kept[serial]
            told = (request.subject, request.nonce, request.item, request.quantity)
            assert told == (subject, claim.nonce, claim.item, claim.quantity)
