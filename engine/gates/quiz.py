"""A quiz before the ticket: which questions an attempt shows, what its answers are worth, and the gate. Pure.

An attempt's questions and the order of their choices follow from its seed: each is sorted by its keyed hash. So every
choice of questions is equally likely, the same attempt always shows the same, and no more than the seed is kept. The
seed is a MAC of drop, quiz, person and attempt: whoever breaks off a start cannot draw again by it.

The right answers never leave the server; what a member sends are the numbers of the choices as they were shown.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import ClassVar, NamedTuple

from engine.claims.keyring import Keyring
from engine.drops.gates import Question, Quiz
from engine.drops.model import Drop
from engine.errors import Invalid, Refused
from engine.gates.model import Case, Given, Passed, check_pass

_PURPOSE = b"flashclaim.quiz"


class QuizRequired(Refused):
    """The request brings no pass of the quiz; the facts say where to take it."""

    code: ClassVar[str] = "quiz-required"


class QuizFailed(Refused):
    """Too few answers were right; the facts say how many, and whether another attempt is left."""

    code: ClassVar[str] = "quiz-failed"


class QuizLate(Refused):
    """The answers came after the attempt's time was over: it counts as failed."""

    code: ClassVar[str] = "quiz-late"


class NoAttemptsLeft(Refused):
    code: ClassVar[str] = "no-attempts-left"


class AttemptAnswered(Refused):
    """The attempt was marked with other answers."""

    code: ClassVar[str] = "attempt-answered"


class NoSuchAttempt(Refused):
    code: ClassVar[str] = "no-such-attempt"


class AnswersInvalid(Invalid):
    """Answers that name no question of the attempt, or none of its choices; nothing was marked."""

    code: ClassVar[str] = "answers-invalid"


class QuizGate:
    """The gate of drops with `quiz: …`."""

    name: ClassVar[str] = "quiz"

    def stands(self, drop: Drop) -> bool:
        return drop.spec.gates.quiz is not None

    def asks(self, case: Case) -> Mapping[str, object]:
        quiz = _quiz(case.drop)
        return {
            "gate": self.name,
            "questions": quiz.questions,
            "pass_mark": quiz.pass_mark,
            "attempts": quiz.attempts,
            "time_limit_s": quiz.time_limit_s,
            "route": f"POST /v1/drops/{case.drop.id}/quiz",
        }

    def check(self, case: Case, given: Given, passed: Passed) -> Passed:
        asked = self.asks(case)
        if given.quiz is None:
            raise QuizRequired(f"quiz: take it by {asked['route']}, and send the pass that you get", **asked)
        check_pass(case, given.quiz, self.name, _quiz(case.drop).version)
        return passed


class Shown(NamedTuple):
    """A question as an attempt shows it: `order` holds its choices' places in the bank, in the order of showing."""

    question: Question
    order: tuple[int, ...]

    def told(self) -> dict[str, object]:
        """As the API tells it: choices have numbers from 1 and nothing says which is right."""
        texts = self.question.choices
        choices = [{"number": number, "text": texts[place]} for number, place in enumerate(self.order, start=1)]
        return {"id": self.question.id, "question": self.question.question, "choices": choices}

    def is_right(self, number: int) -> bool:
        return self.order[number - 1] == self.question.answer - 1


def seed(keyring: Keyring, drop: Drop, subject: str, attempt: int) -> bytes:
    """What an attempt's questions follow from; kept with it, so that keys may rotate meanwhile."""
    bound = (drop.id, _quiz(drop).version, subject, str(attempt))  # none can have a zero byte in it
    return keyring.mac(keyring.current, _PURPOSE, "\0".join(bound).encode())


def drawn(quiz: Quiz, attempt_seed: bytes) -> tuple[Shown, ...]:
    """The questions that an attempt shows, in their order, with their choices in theirs."""

    def rank(text: str) -> bytes:
        return blake2b(text.encode(), digest_size=16, key=attempt_seed).digest()

    def order(question: Question) -> tuple[int, ...]:
        return tuple(sorted(range(len(question.choices)), key=lambda place: rank(f"{question.id}\0{place}")))

    chosen = sorted(quiz.bank, key=lambda question: rank(question.id))[: quiz.questions]
    return tuple(Shown(question, order(question)) for question in chosen)


def mark(quiz: Quiz, attempt_seed: bytes, answers: Mapping[str, object]) -> int:
    """How many answers are right; a question without one is wrong. Raises `AnswersInvalid`."""
    shown = {one.question.id: one for one in drawn(quiz, attempt_seed)}
    right = 0
    for question_id, number in answers.items():
        one = shown.get(question_id)
        if one is None:
            known = ", ".join(shown)
            raise AnswersInvalid(f"answers: {question_id[:64]!r} is not asked: answer {known}", field="answers")
        if type(number) is not int or not 1 <= number <= len(one.order):
            raise AnswersInvalid(
                f"answers.{question_id}: send the number of a choice, 1 to {len(one.order)}",
                field=f"answers.{question_id}",
            )
        right += one.is_right(number)
    return right


def _quiz(drop: Drop) -> Quiz:
    assert drop.spec.gates.quiz is not None
    return drop.spec.gates.quiz
