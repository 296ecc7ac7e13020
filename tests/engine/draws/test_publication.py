"""The promise: nothing is published that does not verify, each step is done once, and a result is final."""

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.draws.publication import BeaconValue, DrawInvalid, Entrant, Proofs, close, commit, proof, reveal
from engine.draws.verify import canonical, check
from tests.factories.draws import (
    CLOSED_AT,
    CLOSES,
    SECRET,
    SEEN_AT,
    VALUE,
    closed_draw,
    draw_terms,
    entrants,
    revealed_draw,
)

BEACON = BeaconValue(7, VALUE, SEEN_AT)


def refused(error: "pytest.ExceptionInfo[DrawInvalid]", *texts: str) -> None:
    assert error.value.code == "draw-invalid"
    for text in texts:
        assert text in error.value.detail
    assert SECRET.hex() not in error.value.detail


class TestCommit:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"draw": "Roast goose"}, 'terms.draw: "Roast goose" is not an id'),
            ({"prizes": []}, "terms.prizes: a list is not a list of 1 to 64"),
            ({"prizes": [{"id": "goose"}]}, 'terms.prizes[0]: "stock" is missing'),
            ({"prizes": [{"id": "goose", "stock": 1}] * 2}, 'terms.prizes[1].id: "goose" must not stand twice'),
            ({"waiting": -1}, "terms.waiting: -1 is not a whole number"),
            ({"waiting": None}, "terms.waiting: null is not"),
            ({"closes_at": CLOSES}, "terms.closes_at: a datetime is not a time like"),
            ({"more": 1}, '"more" does not belong there'),
            ({"weights": draw_terms()["weights"] | {"weight_max": 1.5}}, "terms.weights.weight_max: a float"),
            ({"weights": draw_terms()["weights"] | {"base": 9}}, "terms.weights.base: 9 must be at most weight_max, 5"),
            ({"closes_at": "2025-09-20T13:00:00Z"}, "terms.beacon.rounds[0].due_at: "),
        ],
    )
    def test_terms_that_are_wrong_are_named(self, changes: dict[str, Any], says: str) -> None:
        with pytest.raises(DrawInvalid) as error:
            commit(draw_terms(**changes), SECRET)
        refused(error, says)

    @pytest.mark.parametrize("secret", [b"", b"short", bytes(33)])
    def test_a_secret_is_32_bytes(self, secret: bytes) -> None:
        with pytest.raises(DrawInvalid) as error:
            commit(draw_terms(), secret)
        refused(error, f"it has {len(secret)} bytes")

    def test_the_format_and_the_secrets_hash_are_not_the_callers(self) -> None:
        with pytest.raises(DrawInvalid, match=r"terms\.format"):
            commit(draw_terms(format="flashclaim-instant-1"), SECRET)
        committed = commit(draw_terms(secret_sha256="0" * 64), SECRET)
        assert committed == commit(draw_terms(), SECRET)

    def test_the_secret_is_not_in_it(self) -> None:
        assert SECRET.hex() not in canonical(commit(draw_terms(), SECRET)).decode()
        assert SECRET.hex() not in canonical(closed_draw()).decode()


class TestClose:
    @pytest.mark.parametrize(
        ("people", "says"),
        [
            ([Entrant("")], 'entrant ""'),
            ([Entrant("a\nb")], r'entrant "a\nb".entrant: "a\nb" is not a text'),
            ([Entrant("a", -1)], 'entrant "a".misses: -1 is not'),
            ([Entrant("a", 0, 2**60)], 'entrant "a".points: '),
            ([Entrant("a", points=1.5)], 'entrant "a".points: a float is not'),  # type: ignore[arg-type]
            ([Entrant(17)], "entrant 17.entrant: 17 is not a text"),  # type: ignore[arg-type]
            ([Entrant("b"), Entrant("a"), Entrant("b", 1)], 'entrant "b" is there twice'),
        ],
    )
    def test_entrants_that_are_wrong_are_named(self, people: list[Entrant], says: str) -> None:
        with pytest.raises(DrawInvalid) as error:
            close(commit(draw_terms(), SECRET), people, CLOSED_AT)
        refused(error, says)

    @pytest.mark.parametrize(
        "at",
        [CLOSES - timedelta(seconds=1), CLOSES + timedelta(hours=1), datetime(2025, 9, 20, 12, 1)],  # noqa: DTZ001
        ids=["early", "when the beacon is due", "no time zone"],
    )
    def test_not_early_and_not_when_the_beacon_may_be_known(self, at: datetime) -> None:
        with pytest.raises(DrawInvalid, match=r"closed\.closed_at|no time zone"):
            close(commit(draw_terms(), SECRET), entrants(), at)

    def test_a_document_that_was_altered_is_not_gone_on_from(self) -> None:
        committed = commit(draw_terms(), SECRET)
        committed["terms"]["waiting"] = 5
        with pytest.raises(DrawInvalid, match="does not verify: commitment"):
            close(committed, entrants(), CLOSED_AT)
        with pytest.raises(DrawInvalid, match="not a published document"):
            close({}, entrants(), CLOSED_AT)

    def test_the_same_again_changes_nothing_and_others_are_refused(self) -> None:
        closed, revealed = closed_draw(), revealed_draw()
        assert close(closed, reversed(entrants()), CLOSED_AT + timedelta(days=1)) == closed
        assert close(revealed, entrants(), CLOSED_AT) == revealed
        for people in (entrants(19), [*entrants(19), Entrant("goose.0.20", 1, 1)]):
            with pytest.raises(DrawInvalid, match="a draw is closed once"):
                close(closed, people, CLOSED_AT)

    def test_times_are_told_in_utc(self) -> None:
        at = CLOSED_AT.astimezone(timezone(timedelta(hours=8)))
        assert close(commit(draw_terms(), SECRET), [], at)["closed"]["closed_at"] == "2025-09-20T12:01:00Z"

    def test_entries_may_be_closed_in_the_very_second(self) -> None:
        closed = close(commit(draw_terms(), SECRET), [], CLOSES)
        assert check(closed).differences == []

    def test_no_more_is_published_than_counts(self) -> None:
        closed = closed_draw([Entrant("a", 40, 4_711), Entrant("b", 1, 199)])
        assert closed["closed"]["entries"] == [["a", 1, 3, 200, 5], ["b", 1, 1, 100, 3]]


class TestReveal:
    def test_not_before_entries_are_closed(self) -> None:
        with pytest.raises(DrawInvalid, match="close the draw first"):
            reveal(commit(draw_terms(), SECRET), SECRET, BEACON)

    @pytest.mark.parametrize(
        ("beacon", "says"),
        [
            (BEACON._replace(round=8), "revealed.beacon.round: 8 must be one of 7, 9"),
            (BEACON._replace(round=-1), "revealed.beacon.round: -1 is not"),
            (BEACON._replace(value=""), 'revealed.beacon.value: "" is not'),
            (BEACON._replace(value="0x" + VALUE[2:]), "revealed.beacon.value: "),
            (BEACON._replace(value=VALUE.upper()), "revealed.beacon.value: "),
            (BEACON._replace(value=VALUE[2:]), "must be 32 bytes"),
            (BEACON._replace(value=VALUE + "00"), "must be 32 bytes"),
            (BEACON._replace(seen_at=CLOSES + timedelta(minutes=59)), "revealed.beacon.seen_at: "),
            (BEACON._replace(seen_at=CLOSES + timedelta(hours=7, seconds=1)), "for round 7"),
            (BEACON._replace(round=9), "must be within 2025-09-20T20:00:00Z to 2025-09-21T20:00:00Z for round 9"),
            (BEACON._replace(seen_at=datetime(2025, 9, 20, 14)), "no time zone"),  # noqa: DTZ001
        ],
    )
    def test_a_beacon_value_that_is_malformed_early_late_or_unnamed(self, beacon: BeaconValue, says: str) -> None:
        with pytest.raises(DrawInvalid) as error:
            reveal(closed_draw(), SECRET, beacon)
        refused(error, says)

    def test_a_late_value_is_waited_for_and_past_that_the_next_round_counts(self) -> None:
        late = BEACON._replace(seen_at=CLOSES + timedelta(hours=7))
        assert check(reveal(closed_draw(), SECRET, late)).differences == []
        missing = BeaconValue(9, VALUE, datetime(2025, 9, 20, 20, tzinfo=UTC))
        assert check(reveal(closed_draw(), SECRET, missing)).differences == []

    @pytest.mark.parametrize("secret", [bytes(32), b"", SECRET + b"\0"])
    def test_another_secret_is_refused(self, secret: bytes) -> None:
        with pytest.raises(DrawInvalid, match="not the one that was committed to"):
            reveal(closed_draw(), secret, BEACON)

    def test_a_closed_document_that_was_altered_is_refused(self) -> None:
        closed = deepcopy(closed_draw())
        closed["closed"]["entries"][3][4] += 1
        with pytest.raises(DrawInvalid, match=r"does not verify: closed\.entries\[3\]\.weight"):
            reveal(closed, SECRET, BEACON)

    def test_there_is_no_second_result(self) -> None:
        revealed = revealed_draw()
        before = canonical(revealed)
        assert reveal(revealed, SECRET, BEACON._replace(seen_at=SEEN_AT + timedelta(hours=1))) == revealed
        for secret, beacon in (
            (SECRET, BEACON._replace(value="ab" * 32)),
            (SECRET, BeaconValue(9, VALUE, datetime(2025, 9, 20, 21, tzinfo=UTC))),
            (bytes(32), BEACON),
        ):
            with pytest.raises(DrawInvalid, match="its result is final"):
                reveal(revealed, secret, beacon)
        assert canonical(revealed) == before

    def test_a_revealed_document_that_was_altered_is_not_passed_off_as_final(self) -> None:
        revealed = deepcopy(revealed_draw())
        revealed["revealed"]["winners"][0][0] = "goose.0.1"
        with pytest.raises(DrawInvalid, match="does not verify"):
            reveal(revealed, SECRET, BEACON)

    @given(
        people=st.dictionaries(
            st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=9),
            st.tuples(st.integers(0, 60), st.integers(0, 2**53 - 1)),
            max_size=12,
        ),
        stock=st.lists(st.integers(1, 4), min_size=1, max_size=4),
        waiting=st.integers(0, 5),
        secret=st.binary(min_size=32, max_size=32),
        value=st.binary(min_size=32, max_size=32),
    )
    def test_whatever_is_made_verifies_and_nobody_gets_two(
        self, people: dict[str, tuple[int, int]], stock: list[int], waiting: int, secret: bytes, value: bytes
    ) -> None:
        prizes = [{"id": f"level-{level}", "stock": units} for level, units in enumerate(stock)]
        committed = commit(draw_terms(prizes=prizes, waiting=waiting), secret)
        closed = close(committed, [Entrant(name, *counts) for name, counts in people.items()], CLOSED_AT)
        document = reveal(closed, secret, BEACON._replace(value=value.hex()))
        assert check(json.loads(canonical(document))).differences == []
        drawn = [winner[0] for winner in document["revealed"]["winners"]] + document["revealed"]["waiting"]
        assert len(drawn) == len(set(drawn)) == min(len(people), sum(stock) + waiting)
        assert set(drawn) <= people.keys()

    def test_each_step_leaves_the_document_before_as_it_was(self) -> None:
        committed = commit(draw_terms(), SECRET)
        before = canonical(committed)
        closed = close(committed, entrants(), CLOSED_AT)
        after = canonical(closed)
        reveal(closed, SECRET, BEACON)
        assert (canonical(committed), canonical(closed)) == (before, after)


class TestProof:
    def test_not_before_entries_are_closed(self) -> None:
        with pytest.raises(DrawInvalid, match="no root"):
            Proofs(commit(draw_terms(), SECRET))

    def test_a_document_that_was_altered_proves_nothing(self) -> None:
        closed = deepcopy(closed_draw())
        closed["closed"]["entries"][3][0] = "goose.0.1000"
        with pytest.raises(DrawInvalid, match="does not verify"):
            Proofs(closed)

    def test_nobody_who_did_not_enter_gets_one(self) -> None:
        with pytest.raises(DrawInvalid, match=r'"goose\.0\.21" is not among the entrants'):
            proof(closed_draw(), "goose.0.21")

    def test_it_is_the_same_after_the_reveal(self) -> None:
        assert proof(closed_draw(), "goose.0.7") == proof(revealed_draw(), "goose.0.7")
