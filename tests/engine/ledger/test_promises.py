"""The promise: each promise's function finds the smallest history that breaks it, and nothing in one that keeps it."""

from dataclasses import replace

import pytest

from engine.ids import ClaimId, DropId
from engine.ledger.promises import PROMISES, Fact, History, SoldOut, broken, over_limit


def claim(serial: int, at_ms: int, member: str = "", *, quantity: int = 1, is_released: bool = False) -> Fact:
    name = member or f"m-{serial}"
    claim_id = ClaimId(DropId("trial"), 0, serial)
    return Fact(claim_id, name, b"nonce-%02d" % serial, 1, quantity, at_ms, is_released=is_released)


FACTS = [claim(1, 1_000), claim(2, 1_100), claim(3, 2_000, is_released=True), claim(4, 2_100)]
KEPT = History(
    limit=2,
    opens_ms=1_000,
    closes_ms=9_000,
    waves=[(1_000, 1, 2), (2_000, 1, 2)],
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
