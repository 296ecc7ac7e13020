"""The promise: the same attempt always shows the same questions, each choice of them is equally likely, and marks are
right whatever the order; what a member is shown does not say which choice is right.
"""

from collections import Counter
from itertools import combinations, permutations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.claims.keyring import Keyring
from engine.drops.gates import Quiz
from engine.drops.model import Drop, Status
from engine.gates.quiz import AnswersInvalid, drawn, mark, seed
from tests.factories.drops import drop_spec
from tests.factories.gates import answers_to, quiz_json

KEYS = Keyring(1, {1: bytes(32), 2: bytes(31) + b"\1"})
SEEDS = st.binary(min_size=16, max_size=16)
TRIALS = 4_000


def quiz_of(**more: object) -> Quiz:
    return Quiz.model_validate(quiz_json(**more))  # type: ignore[arg-type]


def drop_of(drop_id: str = "trial", **more: object) -> Drop:
    return Drop(drop_spec(drop_id, gates={"quiz": quiz_json(**more)}), Status.LAUNCHED, 2, 1)  # type: ignore[arg-type]


QUIZ = quiz_of()


def chi_square(counts: Counter[object], kinds: int) -> float:
    expected = counts.total() / kinds
    return sum((count - expected) ** 2 / expected for count in counts.values()) + expected * (kinds - len(counts))


class TestDrawing:
    @given(SEEDS)
    def test_the_same_seed_shows_the_same(self, attempt_seed: bytes) -> None:
        shown = drawn(QUIZ, attempt_seed)
        assert shown == drawn(QUIZ, attempt_seed)
        assert len({one.question.id for one in shown}) == 3
        assert all(sorted(one.order) == [0, 1, 2, 3] for one in shown)

    @given(SEEDS)
    def test_the_order_of_the_bank_does_not_matter(self, attempt_seed: bytes) -> None:
        turned = QUIZ.model_copy(update={"bank": QUIZ.bank[::-1]})
        assert drawn(turned, attempt_seed) == drawn(QUIZ, attempt_seed)

    def test_every_choice_of_questions_is_equally_likely(self) -> None:
        """Seeds are fixed, so this holds or not once and for all; 19 degrees of freedom, 0.1% is 43.8."""
        counts: Counter[object] = Counter()
        for attempt in range(TRIALS):
            shown = drawn(QUIZ, seed(KEYS, drop_of(), f"m-{attempt}", 1))
            counts[frozenset(one.question.id for one in shown)] += 1
        kinds = {frozenset(kind) for kind in combinations([question.id for question in QUIZ.bank], 3)}
        assert counts.keys() <= kinds
        assert chi_square(counts, comb(6, 3)) < 43.8

    def test_every_order_of_choices_is_equally_likely_and_so_is_the_right_ones_place(self) -> None:
        """23 degrees of freedom: 0.1% is 49.7; 3: 16.3."""
        orders: Counter[object] = Counter()
        places: Counter[object] = Counter()
        drop = drop_of()
        for attempt in range(TRIALS):
            one = drawn(QUIZ, seed(KEYS, drop, "m-1", attempt))[0]
            orders[one.order] += 1
            places[one.order.index(one.question.answer - 1)] += 1
        assert orders.keys() <= set(permutations(range(4)))
        assert chi_square(orders, 24) < 49.7
        assert chi_square(places, 4) < 16.3

    def test_a_seed_is_of_one_drop_quiz_person_and_attempt(self) -> None:
        drop = drop_of()
        found = {
            seed(KEYS, drop, "m-1", 1),
            seed(KEYS, drop, "m-2", 1),
            seed(KEYS, drop, "m-1", 2),
            seed(KEYS, drop_of("other"), "m-1", 1),
            seed(KEYS, drop_of(pass_mark=3), "m-1", 1),
            seed(Keyring(2, KEYS.keys), drop, "m-1", 1),
        }
        assert len(found) == 6
        assert seed(KEYS, drop, "m-1", 1) in found


class TestVersion:
    def test_questions_choices_answers_and_pass_mark_make_another_quiz(self) -> None:
        turned = quiz_json()
        turned["bank"][0]["answer"] = 1
        others = [quiz_of(bank=7), quiz_of(questions=2), quiz_of(pass_mark=3), Quiz.model_validate(turned)]
        assert len({QUIZ.version, *(other.version for other in others)}) == 5

    def test_more_attempts_and_more_time_do_not(self) -> None:
        assert quiz_of(attempts=9, time_limit_s=9).version == QUIZ.version

    def test_the_order_of_names_does_not_as_the_ledger_keeps_none(self) -> None:
        data = quiz_json()
        for question in data["bank"]:
            question["question"] = dict(reversed(question["question"].items()))
        assert Quiz.model_validate(dict(reversed(data.items()))).version == QUIZ.version


class TestMark:
    @given(SEEDS, st.integers(0, 3))
    def test_as_many_as_are_right(self, attempt_seed: bytes, right: int) -> None:
        told = [one.told() for one in drawn(QUIZ, attempt_seed)]
        assert mark(QUIZ, attempt_seed, answers_to(told, right)) == right

    @given(SEEDS, st.integers(0, 3))
    def test_one_that_is_missing_is_wrong(self, attempt_seed: bytes, given_: int) -> None:
        told = [one.told() for one in drawn(QUIZ, attempt_seed)][:given_]
        assert mark(QUIZ, attempt_seed, answers_to(told, 3)) == given_

    @pytest.mark.parametrize("number", [0, 5, -1, True, 1.0, "1", None, [1], {}, 10**30])
    def test_what_is_no_choices_number_is_refused(self, number: object) -> None:
        attempt_seed = bytes(16)
        question_id = drawn(QUIZ, attempt_seed)[0].question.id
        with pytest.raises(AnswersInvalid, match="1 to 4") as refused:
            mark(QUIZ, attempt_seed, {question_id: number})
        assert refused.value.facts["field"] == f"answers.{question_id}"

    def test_a_question_that_is_not_asked_is_refused(self) -> None:
        asked = {one.question.id for one in drawn(QUIZ, bytes(16))}
        other = next(question.id for question in QUIZ.bank if question.id not in asked)
        for wrong in (other, "", "x" * 10_000):
            with pytest.raises(AnswersInvalid, match="is not asked") as refused:
                mark(QUIZ, bytes(16), {wrong: 1})
            assert len(refused.value.detail) < 200


@given(SEEDS)
def test_what_is_shown_has_ids_texts_and_numbers_alone(attempt_seed: bytes) -> None:
    for one in drawn(QUIZ, attempt_seed):
        told = one.told()
        assert set(told) == {"id", "question", "choices"}
        assert [set(choice) for choice in told["choices"]] == [{"number", "text"}] * 4  # type: ignore[attr-defined]
