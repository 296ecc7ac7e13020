"""The promise: the bot farm's table compares each turn with the members alone in its round, and its bots are bots."""

from collections import Counter

import pytest

from engine.claims.keyring import Keyring
from engine.claims.ticket import TicketInvalid, open_
from loadtests.bench.meter import Load
from loadtests.botfarm import TURNS, Turn, forged_ticket, table


def turn(accepted: int, p99_ms: float, bots_per_s: float = 0.0, **codes: int) -> Turn:
    got = Counter({int(name.removeprefix("of_")): count for name, count in codes.items()})
    return Turn(Load(2.0, accepted, 0, 0, 1.0, p99_ms, p99_ms), bots_per_s, got)


def test_a_share_is_of_the_members_alone_in_the_same_round() -> None:
    found = {name: [turn(4_000, 5.0), turn(2_000, 7.0)] for name in TURNS}
    found["forged tickets"] = [
        turn(3_000, 50.0, 300.0, of_429=90, of_401=10),
        turn(2_000, 60.0, 500.0, of_429=100),
    ]
    (row,) = [row for row in table(found) if row.startswith("| forged tickets |")]
    assert row == "| forged tickets | 1,250 | 87.5% | 75.0% | 1.0 / 55.0 | 400 | 429 95.0%, 401 5.0% |"
    assert sum("| 100.0% | 100.0% |" in row for row in table(found)) == len(TURNS) - 1


def test_a_forged_ticket_is_of_the_right_form_and_opens_nothing() -> None:
    with pytest.raises(TicketInvalid, match="altered or forged"):
        open_(Keyring(1, {1: bytes(32)}), forged_ticket("trial", "m-1"))
