"""The promise: every unit of an instant win goes out if people play on, early luck cannot drain them, and each play
that got another thing than the committed sequence gives is named.
"""

from collections import Counter
from copy import deepcopy
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.draws import instant
from engine.draws.publication import DrawInvalid
from engine.draws.verify import Json, check, play, sequence
from tests.engine.draws import second
from tests.factories.draws import HOUR_MS, OPENS_MS, SECRET, instant_terms, played, revealed_instant

TERMS = instant_terms()
UNITS = 25
INSTANT = revealed_instant()
PLAYS = INSTANT["revealed"]["plays"][0]
WINS = [index for index, (_, item) in enumerate(PLAYS) if item]
BLANKS = [index for index, (_, item) in enumerate(PLAYS) if not item]
CHI_SQUARED_MAX = 43.82  # of 19 degrees of freedom, passed by one in a thousand


def wheres(document: Json) -> list[str]:
    return [difference.where for difference in check(document).differences]


def changed(**revealed: Any) -> Json:
    return {**INSTANT, "revealed": INSTANT["revealed"] | revealed}


def with_play(index: int, at_ms: int, item: int) -> Json:
    plays = deepcopy(INSTANT["revealed"]["plays"])
    plays[0][index] = [at_ms, item]
    return changed(plays=plays)


@st.composite
def curves(draw: st.DrawFn) -> list[list[int]]:
    times = sorted(draw(st.sets(st.integers(OPENS_MS, OPENS_MS + 12 * HOUR_MS - 1), min_size=1, max_size=6)))
    shares = sorted(draw(st.lists(st.integers(0, 1_000_000), min_size=len(times) - 1, max_size=len(times) - 1)))
    return [list(point) for point in zip(times, [*shares, 1_000_000], strict=True)]


STOCKS = st.lists(st.integers(1, 8), min_size=1, max_size=4)
SECRETS = st.binary(min_size=32, max_size=32)


def prizes_of(stocks: list[int]) -> list[Json]:
    return [{"id": f"prize-{number}", "stock": stock} for number, stock in enumerate(stocks)]


def share_at(curve: list[list[int]], at_ms: int) -> Fraction:
    """What share is released at a time, the straight way."""
    if at_ms < curve[0][0]:
        return Fraction(0)
    for (from_ms, low), (until_ms, high) in pairwise(curve):
        if at_ms < until_ms:
            return Fraction(low + Fraction((high - low) * (at_ms - from_ms), until_ms - from_ms)) / 1_000_000
    return Fraction(1)


class TestSequence:
    @given(secret=SECRETS, curve=curves(), stocks=STOCKS)
    def test_a_second_implementation_agrees(self, secret: bytes, curve: list[list[int]], stocks: list[int]) -> None:
        prizes = prizes_of(stocks)
        assert [list(unit) for unit in sequence(secret, curve, prizes)] == second.sequence(secret, curve, prizes)

    def test_a_second_implementation_agrees_on_a_large_stock(self) -> None:
        prizes = prizes_of([1, 500, 2_500])
        due = sequence(SECRET, TERMS["curve"], prizes)
        assert [list(unit) for unit in due] == second.sequence(SECRET, TERMS["curve"], prizes)

    @given(secret=SECRETS, curve=curves(), stocks=STOCKS, at_ms=st.integers(OPENS_MS, OPENS_MS + 12 * HOUR_MS))
    def test_it_keeps_to_the_curve_by_one_unit_and_has_the_whole_stock(
        self, secret: bytes, curve: list[list[int]], stocks: list[int], at_ms: int
    ) -> None:
        due = sequence(secret, curve, prizes_of(stocks))
        assert Counter(item for _, item in due) == dict(enumerate(stocks, 1))
        assert due == sorted(due, key=lambda unit: unit[0])
        assert due[0][0] >= curve[0][0]
        assert due[-1][0] <= curve[-1][0]
        released = sum(moment <= at_ms for moment, _ in due)
        assert len(due) * share_at(curve, at_ms) - 1 <= released <= len(due) * share_at(curve, at_ms + 1) + 1

    def test_nothing_is_released_where_the_curve_is_flat(self) -> None:
        due = sequence(SECRET, TERMS["curve"], prizes_of([400]))
        assert not [at_ms for at_ms, _ in due if OPENS_MS + 4 * HOUR_MS <= at_ms < OPENS_MS + 6 * HOUR_MS]
        assert sum(at_ms == OPENS_MS for at_ms, _ in due) == 40

    def test_the_one_goose_may_stand_in_any_place_and_at_any_time_of_its_slot(self) -> None:
        random, curve = Random(7), [[OPENS_MS, 0], [OPENS_MS + HOUR_MS, 1_000_000]]
        places, parts = Counter[int](), Counter[int]()
        for _ in range(4_000):
            due = sequence(random.randbytes(32), curve, prizes_of([1, 19]))
            place = [item for _, item in due].index(1)
            places[place] += 1
            into_ms = due[place][0] - OPENS_MS - place * HOUR_MS // 20
            parts[into_ms * 400 // HOUR_MS] += 1
        for found in (places, parts):
            assert sum((found[each] - 200) ** 2 / 200 for each in range(20)) < CHI_SQUARED_MAX
            assert found.keys() <= set(range(20))


class TestPlay:
    @given(secret=SECRETS, stocks=STOCKS, times=st.lists(st.integers(0, 12 * HOUR_MS - 1), max_size=60))
    def test_early_luck_drains_nothing(self, secret: bytes, stocks: list[int], times: list[int]) -> None:
        """However many play by a time, no more has gone out than the curve had released."""
        due = sequence(secret, TERMS["curve"], prizes_of(stocks))
        plays = played(due, sorted(OPENS_MS + after_ms for after_ms in times))
        for count, (at_ms, _) in enumerate(plays, 1):
            won = sum(item > 0 for _, item in plays[:count])
            assert won <= len(due) * share_at(TERMS["curve"], at_ms + 1) + 1

    @given(secret=SECRETS, stocks=STOCKS, times=st.lists(st.integers(0, 11 * HOUR_MS), max_size=30))
    def test_every_unit_goes_out_if_people_play_on(self, secret: bytes, stocks: list[int], times: list[int]) -> None:
        """After the curve's end it takes as many plays as units are left, however few played before."""
        due = sequence(secret, TERMS["curve"], prizes_of(stocks))
        early = sorted(OPENS_MS + after_ms for after_ms in times)
        plays = played(due, [*early, *[OPENS_MS + 11 * HOUR_MS] * len(due)])
        assert Counter(item for _, item in plays if item) == dict(enumerate(stocks, 1))

    def test_a_play_wins_at_the_very_millisecond_and_not_before(self) -> None:
        assert [play([(100, 2)], 0, at_ms) for at_ms in (99, 100, 101)] == [0, 2, 2]
        assert play([(100, 2)], 1, 500) == play([], 0, 500) == 0


class TestCommit:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"curve": []}, "terms.curve: a list is not a list of 1 to 1000"),
            ({"curve": [[OPENS_MS, 0.5]]}, "terms.curve[0].share_ppm: a float is not"),
            ({"curve": [[OPENS_MS, 999_999]]}, "terms.curve[0].share_ppm: 999999 must be 1000000: all is released"),
            ({"curve": [[OPENS_MS, 1_000_001]]}, "terms.curve[0].share_ppm: 1000001 is not"),
            ({"curve": [[OPENS_MS - 1, 1_000_000]]}, "terms.curve[0].at_ms: "),
            ({"curve": [[OPENS_MS + 12 * HOUR_MS, 1_000_000]]}, "before the close"),
            ({"curve": [[OPENS_MS, 5], [OPENS_MS, 1_000_000]]}, "terms.curve[1].at_ms: "),
            ({"curve": [[OPENS_MS, 5], [OPENS_MS + 1, 4], [OPENS_MS + 2, 1_000_000]]}, "terms.curve[1].share_ppm: 4"),
            ({"prizes": [{"id": "goose", "stock": 1_000_000}, {"id": "b", "stock": 1}]}, "1000001 must be at most"),
            ({"partitions": 0}, "terms.partitions: 0"),
            ({"closes_ms": OPENS_MS}, "terms.curve[0].at_ms: "),
            ({"drop": None}, "terms.drop: null"),
        ],
    )
    def test_terms_that_are_wrong_are_named(self, changes: dict[str, Any], says: str) -> None:
        with pytest.raises(DrawInvalid) as refused:
            instant.commit(instant_terms(**changes), SECRET)
        assert says in refused.value.detail

    def test_terms_that_are_wrong_are_named_by_the_verifier_too(self) -> None:
        terms = INSTANT["terms"] | {"curve": [[OPENS_MS, 5]]}
        found = check({**INSTANT, "terms": terms})
        assert [difference.where for difference in found.differences] == ["terms.curve[0].share_ppm", "commitment"]
        assert "nothing more was checked" in found.later[0]

    def test_before_the_close_the_verifier_says_what_comes_later(self) -> None:
        found = check(instant.commit(TERMS, SECRET))
        assert (found.differences, found.later) == ([], ["secret, plays and odds, published after the close"])

    def test_only_the_secret_opens_the_sequence(self) -> None:
        committed = instant.commit(TERMS, SECRET)
        assert SECRET.hex() not in str(committed)
        with pytest.raises(DrawInvalid, match="not the one that was committed to"):
            instant.deal(committed, bytes(32))
        with pytest.raises(DrawInvalid, match="does not verify: commitment"):
            instant.deal({**committed, "terms": committed["terms"] | {"partitions": 2}}, SECRET)

    @pytest.mark.parametrize("partitions", [1, 2, 3, 30])
    def test_the_partitions_share_the_sequence(self, partitions: int) -> None:
        dealt = instant.deal(instant.commit(instant_terms(partitions=partitions), SECRET), SECRET)
        whole = sequence(SECRET, TERMS["curve"], TERMS["prizes"])
        assert len(dealt) == partitions
        assert sorted(unit for due in dealt for unit in due) == sorted(whole)
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


class TestReveal:
    @pytest.mark.parametrize("partitions", [1, 3])
    @pytest.mark.parametrize("apart_ms", [1_000, 600_000, 12 * HOUR_MS - 1])
    def test_what_the_store_did_verifies(self, partitions: int, apart_ms: int) -> None:
        found = check(revealed_instant(partitions, apart_ms))
        assert found.differences == []

    def test_the_odds_are_told_for_each_part_of_the_curve(self) -> None:
        odds = INSTANT["revealed"]["odds"]
        assert [from_ms for from_ms, _, _ in odds] == [at_ms for at_ms, _ in TERMS["curve"]]
        assert [plays for _, plays, _ in odds] == [24, 12, 30, 6]
        assert sum(prizes for _, _, prizes in odds) == len(WINS) == UNITS
        assert f"from {OPENS_MS} on {odds[0][2]} in 24" in "\n".join(check(INSTANT).holds)

    def test_units_that_nobody_played_for_are_counted(self) -> None:
        committed = instant.commit(TERMS, SECRET)
        found = check(instant.reveal(committed, SECRET, [PLAYS[:10]]))
        assert (found.differences, f"of {UNITS} units went out" in "\n".join(found.holds)) == ([], True)
        assert check(instant.reveal(committed, SECRET, [[]])).differences == []

    def test_a_store_that_gave_another_thing_is_not_published_as_right(self) -> None:
        committed = instant.commit(TERMS, SECRET)
        with pytest.raises(DrawInvalid, match=r"revealed\.plays\[0\]\[0\]\.item: published 0, found "):
            instant.reveal(committed, SECRET, [[(OPENS_MS + 11 * HOUR_MS, 0)]])
        with pytest.raises(DrawInvalid, match=r"^revealed\.plays\[0\]\[0\]\.at_ms: -1 is not"):
            instant.reveal(committed, SECRET, [[(-1, 0)]])
        with pytest.raises(DrawInvalid, match=r"^revealed\.plays\[0\]\[1\]\.item: null is not"):
            instant.reveal(committed, SECRET, [[(OPENS_MS, 0), (OPENS_MS, None)]])  # type: ignore[list-item]

    def test_another_secret_is_refused_and_not_told(self) -> None:
        with pytest.raises(DrawInvalid, match="not the one that was committed to") as refused:
            instant.reveal(instant.commit(TERMS, SECRET), bytes(32), [PLAYS])
        assert "00000000" not in refused.value.detail

    def test_it_is_final(self) -> None:
        assert instant.reveal(INSTANT, SECRET, [[(at_ms, item) for at_ms, item in PLAYS]]) == INSTANT
        for secret, plays in ((bytes(32), PLAYS), (SECRET, PLAYS[:-1])):
            with pytest.raises(DrawInvalid, match="final"):
                instant.reveal(INSTANT, secret, [plays])

    def test_a_clock_that_was_set_back_is_asked_about(self) -> None:
        times = [OPENS_MS, OPENS_MS, OPENS_MS + HOUR_MS, OPENS_MS + HOUR_MS - 5, OPENS_MS + 2 * HOUR_MS]
        (due,) = instant.deal(instant.commit(TERMS, SECRET), SECRET)
        found = check(instant.reveal(instant.commit(TERMS, SECRET), SECRET, [played(due, times)]))
        assert found.differences == []
        assert any(question.startswith("why are 1 plays dated before") for question in found.by_hand)


class TestTampered:
    @given(index=st.sampled_from(WINS), item=st.integers(0, 3))
    def test_a_win_that_was_taken_away_or_changed(self, index: int, item: int) -> None:
        at_ms, won = PLAYS[index]
        if item != won:
            assert wheres(with_play(index, at_ms, item))[0] == f"revealed.plays[0][{index}].item"

    @given(index=st.sampled_from(BLANKS), item=st.integers(1, 3))
    def test_a_win_that_was_none(self, index: int, item: int) -> None:
        assert wheres(with_play(index, PLAYS[index][0], item))[0] == f"revealed.plays[0][{index}].item"

    def test_a_play_that_was_left_out_or_put_in(self) -> None:
        """A player's own serial is then another's; a winning one also breaks the sequence or the odds."""
        for index in WINS:
            fewer = PLAYS[:index] + PLAYS[index + 1 :]
            assert wheres(changed(plays=[fewer]))
            assert wheres(changed(plays=[[*PLAYS[:index], PLAYS[index], *PLAYS[index:]]]))

    def test_a_win_passed_on_to_the_next_play(self) -> None:
        for index in WINS[:-1]:
            if index + 1 in BLANKS:
                plays = deepcopy(PLAYS)
                plays[index][1], plays[index + 1][1] = plays[index + 1][1], plays[index][1]
                named = wheres(changed(plays=[plays]))
                assert named[:2] == [f"revealed.plays[0][{index}].item", f"revealed.plays[0][{index + 1}].item"]

    def test_a_play_dated_outside_the_window(self) -> None:
        for at_ms in (OPENS_MS - 1, OPENS_MS + 12 * HOUR_MS):
            assert f"revealed.plays[0][{BLANKS[-1]}].at_ms" in wheres(with_play(BLANKS[-1], at_ms, 0))

    def test_a_win_dated_before_its_moment(self) -> None:
        due = sequence(SECRET, TERMS["curve"], TERMS["prizes"])
        for place, index in enumerate(WINS):
            if due[place][0] > OPENS_MS:
                found = wheres(with_play(index, due[place][0] - 1, PLAYS[index][1]))
                assert found[0] == f"revealed.plays[0][{index}].item"

    @given(part=st.integers(0, 3), column=st.integers(0, 2), by=st.integers(1, 9))
    def test_odds_that_were_not_given(self, part: int, column: int, by: int) -> None:
        odds = deepcopy(INSTANT["revealed"]["odds"])
        odds[part][column] += by
        name = ("from_ms", "plays", "prizes")[column]
        assert wheres(changed(odds=odds)) == [f"revealed.odds[{part}].{name}"]
        assert wheres(changed(odds=odds[:-1]))[-1] == "revealed.odds"

    def test_another_secret(self) -> None:
        assert wheres(changed(secret="00" * 32))[0] == "revealed.secret"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("drop", "other"),
            ("opens_ms", OPENS_MS - 1),
            ("closes_ms", OPENS_MS + 13 * HOUR_MS),
            ("prizes", [{"id": "goose", "stock": 6}, {"id": "mooncake", "stock": 19}]),
            ("curve", [[OPENS_MS, 1_000_000]]),
            ("secret_sha256", "00" * 32),
            ("partitions", 2),
        ],
    )
    def test_terms_that_were_changed(self, name: str, value: Any) -> None:
        assert wheres({**INSTANT, "terms": INSTANT["terms"] | {name: value}})[0] == "commitment"

    def test_partitions_that_are_not_there(self) -> None:
        for plays in ([PLAYS, []], [PLAYS[:5]] * 2):
            assert "revealed.plays" in wheres(changed(plays=plays))
