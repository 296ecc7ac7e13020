"""The promise: every process makes the committed sequence again, and no other; what the store deals by it verifies,
whatever batches come and wherever the store's clock jumps.
"""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

import lua
from engine.claims import keys
from engine.claims.decide import Caller, DropState, PartitionState, Window, decide_batch
from engine.claims.keyring import Keyring
from engine.claims.wire import ClaimRequest, Prize, pack_prizes, pack_request, unpack_prizes
from engine.draws import dealer as dealing
from engine.draws.dealer import CommitmentBroken, Dealer
from engine.draws.instant import Play
from engine.draws.verify import LOST, check, sequence
from engine.drops.model import Drop, Status, shares, store_fields, to_ms
from engine.drops.spec import SpecInvalid
from tests.factories.instants import PRIZES, instant_spec, launched
from tests.lua.store_machine import CLOCK, places

UNITS = sum(PRIZES.values())
BLANK = len(PRIZES) + 1
HOME = "home-1"
FIRST, SECOND = b"1" * 32, b"2" * 32
CURVE = [(-30.0, 100_000), (600.0, 400_000), (1_200.0, 400_000), (3_000.0, 1_000_000)]
partition_counts = st.sampled_from([1, 3])


def ring(current: int = 1, **changed: bytes) -> Keyring:
    return Keyring(current, {1: changed.get("first", FIRST), 2: SECOND})


def drop_of(keyring: Keyring, partitions: int = 1, drop_id: str = "wheel", **more: Any) -> Drop:
    spec = instant_spec(drop_id, curve=CURVE, **more)
    return launched(spec, Dealer(keyring).commit(spec, partitions))


def deal(keyring: Keyring | None, drop: Drop, partitions: int = 1) -> list[list[Prize]]:
    return asyncio.run(Dealer(keyring).deal(drop, partitions))


class TestRefused:
    def test_a_key_that_is_not_there_or_another_under_its_id(self) -> None:
        drop = drop_of(ring())
        with pytest.raises(CommitmentBroken, match="instant key 1, which is not here"):
            deal(None, drop)
        with pytest.raises(CommitmentBroken, match="instant key 1, which is not here"):
            deal(Keyring(2, {2: SECOND}), drop)
        with pytest.raises(CommitmentBroken, match="bring back the key"):
            deal(ring(first=SECOND), drop)

    def test_another_number_of_partitions(self) -> None:
        with pytest.raises(CommitmentBroken, match="3 partitions, here are 1"):
            deal(ring(), drop_of(ring(), 3), 1)

    def test_a_definition_that_was_changed_behind_the_launch(self) -> None:
        drop = drop_of(ring())
        moved = drop.spec.model_copy(update={"closes_at": drop.spec.closes_at + timedelta(seconds=1)})
        with pytest.raises(CommitmentBroken, match="not what was committed to"):
            deal(ring(), Drop(moved, Status.LAUNCHED, 3, 1))

    def test_a_drop_that_was_launched_and_never_committed(self) -> None:
        with pytest.raises(CommitmentBroken, match="close it"):
            deal(ring(), Drop(instant_spec(), Status.PAUSED, 3, 1))

    def test_a_commitment_that_is_given_with_the_definition(self) -> None:
        spec = drop_of(ring()).spec
        with pytest.raises(SpecInvalid, match="comes by the launch"):
            launched(spec, {})


class TestTheSequence:
    def test_outlives_a_rotation_of_keys(self) -> None:
        drop = drop_of(ring(1))
        assert deal(ring(2), drop) == deal(ring(1), drop)
        assert drop_of(ring(2), drop_id="other").spec.instant.committed.key_id == 2  # type: ignore[union-attr]

    def test_is_another_for_each_drop_and_key(self) -> None:
        spec = instant_spec(curve=CURVE)
        hashes = {
            Dealer(keyring).commit(of, 1)["committed"]["secret_sha256"]
            for keyring in (ring(1), ring(2))
            for of in (spec, spec.model_copy(update={"id": "other"}))
        }
        assert len(hashes) == 4

    @given(partitions=partition_counts)
    def test_is_shared_out_unit_by_unit(self, partitions: int) -> None:
        drop = drop_of(ring(), partitions)
        dealt = deal(ring(), drop, partitions)
        whole = [dealt[place % partitions][place // partitions] for place in range(UNITS)]
        terms = dealing.terms(drop.spec, partitions)
        secret = Dealer(ring())._secret("wheel", 1)
        assert [tuple(unit) for unit in whole] == sequence(secret, terms["curve"], terms["prizes"])

    @given(partitions=partition_counts)
    def test_is_what_each_partition_may_give_out(self, partitions: int) -> None:
        """The shares of the stock follow the sequence, or a prize that is due would be sold out in its partition."""
        drop = drop_of(ring(), partitions)
        released: Counter[int] = Counter()
        for partition, prizes in enumerate(deal(ring(), drop, partitions)):
            assert store_fields(drop, partitions, partition, prizes)["prizes"] == str(len(prizes))
            share = {item: units for _, item, units in shares(drop, partitions, partition, prizes)}
            won = Counter(prize.item for prize in prizes)
            assert {item: share[item] for item in range(1, BLANK)} == {item: won[item] for item in range(1, BLANK)}
            released.update(share)
        assert released == {number: item.stock for number, item in enumerate(drop.spec.items, start=1)}

    @given(st.lists(st.builds(Prize, st.integers(0, 2**48 - 1), st.integers(1, 63))))
    def test_is_the_same_once_packed_and_unpacked(self, prizes: list[Prize]) -> None:
        assert list(unpack_prizes(pack_prizes(prizes))) == prizes


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Batches: when, in s from the opening on, and how many plays; the clock goes on, stands, and is set back."""
    times = st.integers(0, 3_599)
    return draw(st.lists(st.tuples(times, st.integers(1, 6)), max_size=30))


def asked(count: int, first: int) -> list[tuple[ClaimRequest, Window]]:
    names = [f"m-{number}" for number in range(first, first + count)]
    requests = [ClaimRequest(name.rjust(8, "-").encode(), BLANK, 1, name, name) for name in names]
    return [(request, Window(0, 2**47)) for request in requests]


def document(drop: Drop, plays: list[list[Play]]) -> list[str]:
    """What the verifier finds different in the revealed document."""
    return [str(difference) for difference in check(Dealer(ring()).reveal(drop, plays)).differences]


class TestWhatIsDealt:
    @given(history=histories(), partitions=partition_counts, number=st.integers(0, 99))
    def test_verifies_as_the_model_deals_it(self, history: list[tuple[int, int]], partitions: int, number: int) -> None:
        drop_id = f"wheel-{number}"  # of another secret
        drop = drop_of(ring(), partitions, drop_id)
        plays: list[list[Play]] = []
        for partition, prizes in enumerate(deal(ring(), drop, partitions)):
            waves = shares(drop, partitions, partition, prizes)
            taken = dict.fromkeys(range(1, BLANK + 1), 0)
            state = DropState("launched", 1, drop.opens_ms, drop.closes_ms, 3, waves, taken, prizes=tuple(prizes))
            store = PartitionState(HOME, {drop_id: state})
            played: list[Play] = []
            for at_s, count in history:
                now_ms = drop.opens_ms + at_s * 1_000
                requests = asked(count, len(played))
                for decision in decide_batch(store, drop_id, Caller(HOME, 1, 0), requests, now_ms):
                    played.append((decision.at_ms, 0 if decision.item == BLANK else decision.item))
            assert state.dealt == sum(item > 0 for _, item in played)
            plays.append(played)
        assert document(drop, plays) == []

    def test_verifies_as_the_script_deals_it_with_a_clock_that_is_set_back(self, empty_redis: "Redis") -> None:
        """Plays of a batch share a moment, their serials are the order; a moment that was reached may come again."""
        drop = drop_of(ring())
        (prizes,) = deal(ring(), drop)
        redis = empty_redis
        redis.set(keys.home(0), HOME)

        def run(name: str, now_ms: int, *arguments: Any) -> Any:
            redis.set("test:now", now_ms)
            script = lua.load(name, now=CLOCK)
            where = places(script, "wheel", ())
            return redis.eval(script.text, len(where), *where, HOME, *arguments)

        draft = Drop(drop.spec, Status.LAUNCHED, 1, 1)
        fields = [part for pair in store_fields(draft, 1, 0, prizes).items() for part in pair]
        reply = run("control", drop.opens_ms, "wheel", 1, "act", "{}", pack_prizes(prizes), *fields)
        assert reply.startswith(b"applied")
        played: list[Play] = []
        for at_s in (0, 0, 50, 40, 1_900, 700, 2_500, 30, 3_599, 10, 3_599, 3_599):
            now_ms = drop.opens_ms + at_s * 1_000
            window = (0).to_bytes(6, "big") + (2**47).to_bytes(6, "big")
            packed = [window + pack_request(request) for request, _ in asked(3, len(played))]
            reply = run("claim", now_ms, "wheel", 1, 0, "", *packed)
            for found in reply[3:]:
                _, _, item = found.decode().split(":")
                played.append((now_ms, 0 if int(item) == BLANK else int(item)))
        assert sum(item > 0 for _, item in played) == UNITS
        assert document(drop, [played]) == []
        assert "dated before" in str(check(Dealer(ring()).reveal(drop, [played])).by_hand)

    def test_with_lost_plays_verifies_and_says_so(self) -> None:
        drop = drop_of(ring())
        (prizes,) = deal(ring(), drop)
        last = to_ms(drop.spec.closes_at) - 1
        played: list[Play] = [(last, prize.item) for prize in prizes]
        lost: list[Play] = [played[0], (LOST[0], LOST[1]), *played[1:]]
        assert document(drop, [lost]) == []
        found = check(Dealer(ring()).reveal(drop, [lost]))
        assert "1 plays of partition 0 lost" in str(found.by_hand)
        assert sum(count for _, count, _ in Dealer(ring()).reveal(drop, [lost])["revealed"]["odds"]) == UNITS
