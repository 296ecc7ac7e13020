"""The promise: each promise's function finds the smallest history that breaks it, and nothing in one that keeps it."""

from dataclasses import replace

import pytest

from engine.claims.decide import Allotted
from engine.claims.history import Group
from engine.ids import ClaimId, DropId
from engine.ledger.by_town import from_reserve, tallies_off, town_counters_off
from engine.ledger.facts import Fact, History, SoldOut
from engine.ledger.promises import PROMISES, broken, false_sold_out, over_limit


def claim(
    serial: int, at_ms: int, member: str = "", *, quantity: int = 1, town: int = 0, is_released: bool = False
) -> Fact:
    name = member or f"m-{serial}"
    claim_id = ClaimId(DropId("trial"), 0, serial)
    return Fact(claim_id, name, b"nonce-%02d" % serial, 1, quantity, at_ms, town, 0, is_released)


FACTS = [claim(1, 1_000), claim(2, 1_100, town=7), claim(3, 2_000, is_released=True), claim(4, 2_100)]
KEPT = History(
    limit=2,
    opens_ms=1_000,
    closes_ms=9_000,
    waves=[(1_000, 1, 2), (2_000, 1, 2)],
    allotments=[Allotted(1, 7, 1, 5_000)],
    town_counters={(1, 7): 1},
    tallies={(7, 0): 1, (8, 0): 0},
    told=[fact._replace(is_released=False) for fact in FACTS],
    stored=FACTS,
    recorded=FACTS,
    counters={1: 3},
    serials={0: 4},
    shut=[(1_200, 1_900)],
    sold_out=[SoldOut(1, 1, 1_150, 1_180)],
)
OTHER = FACTS[1]._replace(quantity=2)
MORE = [*FACTS, claim(5, 2_200, "m-4"), claim(6, 2_300, "m-4")]
BREAKS = {
    "oversold": {"stored": [*FACTS, claim(5, 1_150)]},
    "over_limit": {"recorded": MORE},
    "lost": {"recorded": FACTS[:3]},
    "unknown_to_store": {"stored": FACTS[:3]},
    "duplicate_serials": {"stored": [*FACTS, claim(4, 2_100, "m-5")]},
    "serial_gaps": {"serials": {0: 5}},
    "one_ticket_one_claim": {"stored": [*FACTS, FACTS[3]._replace(claim_id=ClaimId(DropId("trial"), 0, 5))]},
    "mismatched": {"recorded": [FACTS[0], OTHER, *FACTS[2:]]},
    "counters_off": {"counters": {1: 2}},
    "outside_window": {"stored": [FACTS[0]._replace(at_ms=999), *FACTS[1:]]},
    "unbalanced": {"counters": {1: 5}},
    "while_shut": {"shut": [(1_050, 1_900)]},
    "false_sold_out": {"sold_out": [SoldOut(1, 1, 2_010, 2_050)]},
    "accepted_when_fenced": {"fenced": [FACTS[3].claim_id]},
    "unread": {"buried": ["1-0: unknown kind"]},
    "altered_actions": {"altered": ["operator action 3 was altered"]},
    "tallies_off": {"tallies": {(7, 0): 2}},
    "from_reserve": {"allotments": [Allotted(1, 7, 2, 5_000)]},
    "over_campaign_limit": {"over_campaign": ["trial.0.4: m-4 holds 2 units a day, the campaign's limit is 1"]},
}


def test_a_history_that_keeps_every_promise_has_no_difference() -> None:
    assert broken(KEPT) == []


@pytest.mark.parametrize("promise", PROMISES)
def test_each_promise_finds_what_breaks_it(promise: object) -> None:
    name = getattr(promise, "__name__", "")
    history = replace(KEPT, **BREAKS[name])  # type: ignore[arg-type]
    assert callable(promise)
    assert promise(KEPT) == []
    assert promise(history) != []


def test_serials_that_a_rebuild_left_out_are_no_gap() -> None:
    assert broken(replace(KEPT, serials={0: 6}, skipped={0: [(5, 6)]})) == []


class TestLimits:
    """Each claim is held against the limit of its moment."""

    TWO = (claim(1, 1_000, "m-1"), claim(2, 1_500, "m-1"))

    @pytest.mark.parametrize(
        "limits",
        [
            [(0, 1_600, 2), (1_600, 2**53, 1)],  # lowered later
            [(0, 1_400, 1), (1_400, 2**53, 2)],  # raised before
            [(0, 1_501, 1), (1_499, 2**53, 2)],  # raised while it was claimed
        ],
    )
    def test_what_was_within_it_stays_right(self, limits: list[tuple[int, int, int]]) -> None:
        assert over_limit(History(1, 0, 9_000, [], stored=self.TWO, limits=limits)) == []

    @pytest.mark.parametrize(
        "limits",
        [
            [(0, 1_400, 2), (1_400, 2**53, 1)],  # lowered before
            [(0, 1_600, 1), (1_600, 2**53, 2)],  # raised later
        ],
    )
    def test_what_was_over_it_stays_wrong(self, limits: list[tuple[int, int, int]]) -> None:
        (found,) = over_limit(History(2, 0, 9_000, [], stored=self.TWO, limits=limits))
        assert found == "store: m-1 holds 2 units, the limit is 1"


class TestReserve:
    """Two of four units are for town 7 until 5,000 ms."""

    RESERVE = (Allotted(1, 7, 2, 5_000),)

    def history(self, *facts: Fact, **more: object) -> History:
        known = History(9, 0, 9_000, [(0, 1, 4)], stored=facts, recorded=facts, allotments=self.RESERVE)
        return replace(known, **more)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "facts",
        [
            [claim(1, 10), claim(2, 20)],  # what was never in reserve
            [claim(1, 10, town=7), claim(2, 20, town=7), claim(3, 30), claim(4, 40)],  # then the town has its own
            [claim(1, 10, town=7, quantity=4)],  # a town may have more than its reserve
            [claim(1, 10), claim(2, 20), claim(3, 5_000), claim(4, 5_000)],  # flowed back
            [claim(1, 10, is_released=True), claim(2, 20), claim(3, 30)],  # given back before
            [claim(1, 10, town=7, quantity=3, is_released=True), claim(2, 20, town=8, quantity=2)],
        ],
    )
    def test_what_was_left_for_a_claim_is_not_from_it(self, facts: list[Fact]) -> None:
        assert from_reserve(self.history(*facts)) == []

    @pytest.mark.parametrize(
        ("facts", "serial", "units"),
        [
            ([claim(1, 10), claim(2, 20), claim(3, 30)], 3, 1),
            ([claim(1, 10, town=8, quantity=4)], 1, 2),
            ([claim(2, 4_999, town=8, quantity=3), claim(1, 10)], 2, 2),
            ([claim(1, 10, town=7, is_released=True), claim(2, 20, quantity=3)], 2, 1),
        ],
    )
    def test_what_is_from_it_is_found_on_each_side(self, facts: list[Fact], serial: int, units: int) -> None:
        found = from_reserve(self.history(*facts))
        assert [line.partition(":")[0] for line in found] == ["ledger", "store"]
        assert all(f"trial.0.{serial} " in line and f"took {units} units" in line for line in found)

    def test_a_window_is_judged_with_what_came_before_it(self) -> None:
        seen = {Group(1, 0, 0): 1, Group(1, 7, 3): 1}
        assert from_reserve(self.history(claim(5, 10), is_part=True, carried=seen)) == []
        seen[Group(1, 8, 0)] = 1
        (found,) = from_reserve(self.history(claim(5, 10), is_part=True, carried=seen))
        assert found.startswith("ledger: trial.0.5 for town 0 took 1 units")

    def test_a_counter_of_a_town_is_what_its_claims_sum_to(self) -> None:
        facts = (claim(1, 10, town=7), claim(2, 20, town=7, is_released=True), claim(3, 20, town=8))
        assert town_counters_off(self.history(*facts, town_counters={(1, 7): 1})) == []
        (found,) = town_counters_off(self.history(*facts, town_counters={(1, 7): 2}))
        assert "counted as 2 taken for town 7, its claims sum to 1" in found

    @pytest.mark.parametrize(
        ("town", "answered_ms", "is_true"),
        [
            (0, 40, True),  # the rest is for town 7
            (8, 40, True),
            (7, 40, False),
            (0, 5_000, True),  # asked while it was in reserve still
            (7, 5_000, False),
        ],
    )
    def test_sold_out_is_true_for_who_may_not_take_what_is_left(
        self, town: int, answered_ms: int, is_true: bool
    ) -> None:
        said = [SoldOut(1, 1, 30, answered_ms, town)]
        found = false_sold_out(self.history(claim(1, 10), claim(2, 20), sold_out=said))
        assert (found == []) is is_true

    def test_sold_out_is_a_lie_once_the_reserve_has_flowed_back(self) -> None:
        said = [SoldOut(1, 1, 5_000, 5_010)]
        assert false_sold_out(self.history(claim(1, 10), claim(2, 20), sold_out=said)) != []


class TestTallies:
    def test_are_compared_with_the_ledger_only_when_nothing_waits(self) -> None:
        facts = [claim(1, 10, town=7), claim(2, 20, town=7)]
        history = History(9, 0, 9_000, [], stored=facts, recorded=facts[:1], tallies={(7, 0): 2})
        assert tallies_off(replace(history, waiting=facts[1:])) == []
        assert tallies_off(history) == [
            "town 7, slogan 0: the store's tally is 2, the ledger's claims sum to 1",
        ]

    def test_a_tally_that_is_missing_is_found_and_one_of_nothing_is_none(self) -> None:
        facts = [claim(1, 10, town=7), claim(2, 20)]
        assert len(tallies_off(History(9, 0, 9_000, [], stored=facts, recorded=facts, tallies={}))) == 2
        assert tallies_off(History(9, 0, 9_000, [], stored=facts[1:], recorded=facts[1:], tallies={(9, 9): 0})) == []

    def test_a_window_is_compared_with_what_came_before_it(self) -> None:
        seen = {Group(1, 7, 0): 3, Group(2, 7, 0): 1, Group(1, 0, 0): 9}
        history = History(9, 0, 9_000, [], recorded=[claim(5, 10, town=7)], is_part=True, carried=seen)
        assert tallies_off(replace(history, tallies={(7, 0): 5})) == []
        assert len(tallies_off(replace(history, tallies={(7, 0): 4}))) == 1
