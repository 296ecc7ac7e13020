"""Several drops of one campaign in a store beside the same drops in the pure model: limits over all of them.

One drop has stock reserved for towns, one is instant: what a play gets is dealt from a sequence. Days pass, claims are
given back, callers know the campaign as it was before a drop was added, and now and then a drop is missing.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis import Redis

import lua
from engine.claims import acts, keys
from engine.claims.acts import Act
from engine.claims.decide import Caller, DropState, PartitionState, Window, decide_batch, release
from engine.claims.model import Verdict
from engine.claims.outbox import ClaimsEntry, decode
from engine.claims.store import unpack_batch
from engine.claims.wire import ClaimRequest, Prize, StoredClaim, pack_prizes, pack_request, unpack_stored
from engine.drops.model import Drop, Status, store_fields, to_ms
from engine.drops.spec import DropSpec
from tests.lua.store_machine import CLOCK, members, places, subjects

HOME, ZONE = "home-1", "Europe/Berlin"
OPENS = datetime(2025, 10, 25, 20, 0, tzinfo=UTC)  # the clocks change at 01:00 UTC of the next day
LIMITS = {"in_all": 5, "per_day": 2, "per_month": 4}
DROPS = ("goose", "lucky", "mooncake")
INSTANT = "lucky"
PRIZES = [Prize(to_ms(OPENS) + at_ms, item) for at_ms, item in ((0, 1), (60_000, 2), (60_001, 1), (7_200_000, 1))]
HOUR_MS = 3_600_000


def spec_of(drop_id: str, family: tuple[str, ...]) -> DropSpec:
    items = [("prize-1", 3), ("prize-2", 1), ("blank", 1_000)] if drop_id == INSTANT else [("box", 6), ("bag", 3)]
    allotments = [
        {"item": "box", "town": "莞城", "number": 1, "stock": 2, "until": OPENS + timedelta(hours=30)},
        {"item": "box", "town": "东城", "number": 2, "stock": 3, "until": OPENS + timedelta(hours=3)},
    ]
    return DropSpec.model_validate(
        {
            "id": drop_id,
            "title": {"zh": "礼", "en": "Gift"},
            "organisation": "dongguan",
            "allocation": "rush",
            "opens_at": OPENS,
            "closes_at": OPENS + timedelta(days=20),
            "limit_per_member": 4,
            "items": [{"id": name, "title": {"en": name}, "stock": stock} for name, stock in items],
            "allotments": allotments if drop_id == "goose" else [],
            "campaign": {"id": "autumn", "time_zone": ZONE, "limits": LIMITS, "drops": family},
        }
    )


@st.composite
def requests(draw: st.DrawFn) -> tuple[ClaimRequest, Window]:
    member = draw(members)
    request = ClaimRequest(
        nonce=draw(st.integers(1, 40)).to_bytes(8, "big"),
        item=draw(st.sampled_from([1, 1, 2])),
        quantity=draw(st.sampled_from([1, 1, 1, 2])),
        member=member,
        subject=subjects[member],
        town=draw(st.sampled_from([0, 1, 2, 3])),
        slogan=draw(st.integers(0, 2)),
    )
    return request, Window(to_ms(OPENS), to_ms(OPENS) + 100 * 24 * HOUR_MS)


class CampaignMachine(RuleBasedStateMachine):
    """Random histories of a campaign, on a store and on the model."""

    redis: "Redis"

    def __init__(self) -> None:
        super().__init__()
        self.redis.flushall()
        self.redis.set(keys.home(0), HOME)
        self.partition = PartitionState(HOME)
        self.now_ms = to_ms(OPENS)
        self.drops: dict[str, Drop] = {}
        self.accepted: list[tuple[str, str, int]] = []
        self.lost: dict[str, tuple[DropState, dict[str, Any]]] = {}
        self.set_clock()

    def set_clock(self) -> None:
        self.redis.set("test:now", self.now_ms)

    def text_of(self, script: lua.Script) -> str:
        return script.text

    def run(self, name: str, drop_id: str, arguments: list[Any], family: tuple[str, ...] = ()) -> Any:
        script = lua.load(name, now=CLOCK)
        where = places(script, drop_id, family)
        return self.redis.eval(self.text_of(script), len(where), *where, HOME, *arguments)

    def act(self, drop_id: str, family: tuple[str, ...], status: Status) -> None:
        before = self.drops.get(drop_id)
        drop = Drop(spec_of(drop_id, family), status, before.revision + 1 if before else 1, epoch=1)
        prizes = pack_prizes(PRIZES) if drop_id == INSTANT else b""
        fields = store_fields(drop, 1, 0) | {"prizes": str(len(PRIZES) if prizes else 0)}
        flat = [part for pair in fields.items() for part in pair]
        reply = self.run("control", drop_id, [drop_id, drop.revision, "act", "{}", prizes, *flat])
        assert reply.startswith(b"applied")
        assert acts.control(self.partition, drop_id, HOME, Act(drop.revision, "act", fields, prizes)) == "applied"
        self.drops[drop_id] = drop

    @initialize(alone=st.booleans())
    def begin(self, *, alone: bool) -> None:
        """All drops from the beginning, or the last one added later."""
        family = DROPS[:2] if alone else DROPS
        for drop_id in family:
            self.act(drop_id, family, Status.DRAFT)
        for drop_id in family:
            self.act(drop_id, family, Status.LAUNCHED)

    @precondition(lambda self: DROPS[2] not in self.drops and not self.lost)
    @rule()
    def add_a_drop(self) -> None:
        """The others are told before the new one is launched."""
        for drop_id in (DROPS[2], *DROPS[:2]):
            self.act(drop_id, DROPS, Status.DRAFT if drop_id == DROPS[2] else Status.LAUNCHED)
        self.act(DROPS[2], DROPS, Status.LAUNCHED)

    @rule(step_ms=st.sampled_from([1, 60_000, HOUR_MS, 6 * HOUR_MS, 25 * HOUR_MS, 24 * 7 * HOUR_MS, -HOUR_MS]))
    def jump(self, step_ms: int) -> None:
        self.now_ms += step_ms
        self.set_clock()

    @rule(
        drop_id=st.sampled_from(DROPS),
        batch=st.lists(requests(), min_size=1, max_size=6),
        forgets=st.sampled_from([False] * 5 + [True]),  # the caller knows of one drop less
    )
    def claim(self, drop_id: str, batch: list[tuple[ClaimRequest, Window]], *, forgets: bool) -> None:
        drop = self.drops.get(drop_id)
        if drop is None or drop_id in self.lost:
            return
        family = drop.relatives[1:] if forgets else drop.relatives
        told = self.partition.drops[drop_id].serial
        arguments = [
            window.not_before_ms.to_bytes(6, "big") + window.expires_at_ms.to_bytes(6, "big") + pack_request(request)
            for request, window in batch
        ]
        reply = unpack_batch(self.run("claim", drop_id, [drop_id, 1, told, ",".join(family), *arguments], family))
        decided = decide_batch(self.partition, drop_id, Caller(HOME, 1, told, family), batch, self.now_ms)
        for (request, _), expected, found in zip(batch, decided, reply.decisions, strict=True):
            if expected.verdict is not Verdict.ACCEPTED:
                assert found == expected
                continue
            assert not forgets
            if drop_id == INSTANT:
                assert not isinstance(found, int)
                assert (found.verdict, found.serial, found.item) == (Verdict.ACCEPTED, expected.serial, expected.item)
            else:
                assert found == expected.serial
            self.accepted.append((drop_id, request.subject, expected.serial))

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        drop_id, subject, serial = data.draw(st.sampled_from(self.accepted))
        reply = self.run("release", drop_id, [drop_id, 1, subject, serial, '{"actor": "a", "reason": "b"}'])
        state = self.partition.at_home(drop_id, HOME)
        assert reply.decode().partition(":")[0] == release(state, subject, serial, 1)

    @precondition(lambda self: self.drops and not self.lost)
    @rule(data=st.data(), is_told=st.booleans())
    def lose_a_drop(self, data: st.DataObject, *, is_told: bool) -> None:
        """A drop is gone, or somebody was told more of it than it knows: the others may not decide either."""
        drop_id = data.draw(st.sampled_from(sorted(self.drops)))
        state = self.partition.drops[drop_id]
        if is_told:
            self.redis.hset(keys.told(0), drop_id, state.serial + 1)
            self.partition.told[drop_id] = state.serial + 1
        else:
            del self.partition.drops[drop_id]
            self.redis.rename(keys.drop(0, drop_id), "kept")
        self.lost[drop_id] = (state, {})

    @precondition(lambda self: self.lost)
    @rule()
    def find_it_again(self) -> None:
        ((drop_id, (state, _)),) = self.lost.items()
        if self.partition.told.pop(drop_id, None):
            self.redis.hdel(keys.told(0), drop_id)
        else:
            self.partition.drops[drop_id] = state
            self.redis.rename("kept", keys.drop(0, drop_id))
        self.lost.clear()

    def held(self) -> dict[str, list[tuple[str, StoredClaim]]]:
        """What the store itself has: drop → subject and claim, the given-back ones left out."""
        found: dict[str, list[tuple[str, StoredClaim]]] = {}
        for drop_id in self.drops:
            claims = cast(dict[bytes, bytes], self.redis.hgetall(keys.claims(0, drop_id)))
            found[drop_id] = [
                (subject.decode(), claim)
                for subject, value in claims.items()
                for claim in unpack_stored(value)
                if not claim.released
            ]
        return found

    @invariant()
    def store_and_model_are_the_same(self) -> None:
        for drop_id, state in self.partition.drops.items():
            fields = cast(dict[bytes, bytes], self.redis.hgetall(keys.drop(0, drop_id)))
            assert {name.decode(): value.decode() for name, value in fields.items()} == acts.fields_of(state)

    @invariant()
    def nobody_passes_a_limit(self) -> None:
        """Counted here from the claims alone, by the calendar of the campaign's time zone."""
        counts: Counter[tuple[str, object]] = Counter()
        for claims in self.held().values():
            for subject, claim in claims:
                local = datetime.fromtimestamp(claim.at_ms / 1000, ZoneInfo(ZONE))
                for period in ("in_all", local.date(), (local.year, local.month)):
                    counts[subject, period] += claim.quantity
        for (_, counted), units in counts.items():
            limit = LIMITS[
                "in_all" if counted == "in_all" else "per_month" if isinstance(counted, tuple) else "per_day"
            ]
            assert units <= limit

    @invariant()
    def stock_is_conserved(self) -> None:
        for drop_id, claims in self.held().items():
            for number, item in enumerate(self.drops[drop_id].spec.items, start=1):
                assert sum(claim.quantity for _, claim in claims if claim.item == number) <= item.stock

    def teardown(self) -> None:
        """The outbox tells of plays what they got; each prize is dealt once, in order, and not before its moment."""
        entries = cast(list[tuple[bytes, dict[bytes, bytes]]], self.redis.xrange(keys.outbox(0)))
        dealt = [
            (batch.at_ms, request.item)
            for batch in (decode(fields) for _, fields in entries if fields[b"kind"] == b"claim")
            if isinstance(batch, ClaimsEntry) and batch.drop_id == INSTANT
            for request in batch.claims()
            if request.item != 3
        ]
        assert [item for _, item in dealt] == [prize.item for prize in PRIZES[: len(dealt)]]
        assert all(at_ms >= prize.at_ms for (at_ms, _), prize in zip(dealt, PRIZES, strict=False))
