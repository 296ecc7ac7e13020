"""The promise: a drop counts as shut only while the acts on it say so beyond doubt."""

from engine.drops.model import from_ms
from engine.ledger import evidence
from engine.ledger.actions import FORGET_ACTS, Action

FOR_EVER_MS = 2**53


def acts(*done: tuple[str, str, int]) -> list[Action]:
    """Acts on one drop: verb, status after it, when it was applied."""
    return [
        Action(
            object="drop:trial",
            verb=verb,
            actor="boss",
            at=from_ms(at_ms),
            applied_at=from_ms(at_ms),
            change={},
            before=None,
            after={"status": status},
            drop_id="trial",
            revision=revision,
        )
        for revision, (verb, status, at_ms) in enumerate(done, start=1)
    ]


def test_a_drop_is_shut_until_it_is_launched_while_it_is_paused_and_from_its_close() -> None:
    done = acts(
        ("create", "draft", 10),
        ("launch", "launched", 20),
        ("pause", "paused", 30),
        ("resume", "launched", 40),
        ("close", "closed", 50),
    )
    assert evidence.shut(done) == [(10, 20), (30, 40), (50, FOR_EVER_MS)]


def test_a_pause_while_the_clock_is_set_back_is_not_judged() -> None:
    """By their dates the claims from before the clock went back would lie in it."""
    done = acts(("create", "draft", 7_000), ("launch", "launched", 8_000), ("pause", "paused", 1_000))
    assert evidence.shut([*done, *acts(("resume", "launched", 9_000))]) == [(7_000, 8_000)]


def test_around_acts_that_were_given_up_nothing_is_known() -> None:
    done = acts(("create", "draft", 10), ("amend", "draft", 20), (FORGET_ACTS, "paused", 50), ("rebuild", "paused", 60))
    assert evidence.shut([*done, *acts(("resume", "launched", 70))]) == [(10, 20), (60, 70)]
