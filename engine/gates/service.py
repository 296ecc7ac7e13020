"""What happens at a drop's gates, in order: what is asked, a quiz that is taken, a list that is looked at, the check.

Only the quiz and the list ask the ledger, each on a route of its own that gives a pass; the ticket request asks nobody.
"""

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine import gates
from engine.bounds import LEDGER_LOCK_TIMEOUT
from engine.claims.admission import check_asker
from engine.drops.gates import Quiz
from engine.drops.model import Drop
from engine.errors import Refused
from engine.gates import store
from engine.gates.members_list import ListGate, NotOnList
from engine.gates.model import Case, Given, Passed, issue_pass
from engine.gates.quiz import (
    AttemptAnswered,
    NoAttemptsLeft,
    NoSuchAttempt,
    QuizFailed,
    QuizGate,
    QuizLate,
    Shown,
    drawn,
    mark,
    seed,
)
from engine.gates.store import Attempt, Taker
from engine.ledger import migrations
from engine.members import groups
from engine.members.model import Session
from engine.members.predicate import NOTHING_KNOWN, Known
from engine.runtime.settings import Settings


class NoSuchGate(Refused):
    """The drop does not have the gate whose route was called."""

    code: ClassVar[str] = "no-such-gate"


class OpenAttempt(NamedTuple):
    """An attempt that waits for its answers, its questions, how many must be right, and how many attempts are left."""

    attempt: Attempt
    questions: tuple[Shown, ...]
    pass_mark: int
    left: int


class PassedQuiz(NamedTuple):
    """The attempt by which a quiz was passed, and the member's pass (`issue_pass`)."""

    attempt: Attempt
    sealed: Mapping[str, object]


class Gates:
    """The gates of one process."""

    def __init__(self, ledger: AsyncEngine, settings: Settings) -> None:
        self._ledger = ledger
        self._zone = settings.zone
        self.places = settings.places
        self.use_keys(settings)

    def use_keys(self, settings: Settings) -> None:
        """Seal and check with these settings' keys from now on."""
        self._keys = settings.ticket_keyring

    def challenge(self, session: Session, drop: Drop) -> list[Mapping[str, object]]:
        """All that the drop asks of the session's member before a ticket, in order."""
        return gates.challenge(self._case(session, drop))

    def check(self, session: Session, drop: Drop, given: Given) -> Passed:
        """What the gates have established; raises the refusal of the first one that is not passed."""
        return gates.check(self._case(session, drop), given)

    async def start_quiz(self, session: Session, drop: Drop, known: Known = NOTHING_KNOWN) -> OpenAttempt | PassedQuiz:
        """The open attempt of the session's person, a new one where there is none; or that they have passed already.

        Raises what a ticket request of this member would be refused with before its gates, `NoSuchGate`, and
        `NoAttemptsLeft`.
        """
        case, quiz, taker = self._quiz(session, drop, known)
        async with self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            while True:  # another turn only where somebody has begun one attempt more at the same moment
                held = await store.attempts(connection, taker)
                passed = next((attempt for attempt in held if attempt.passed), None)
                if passed is not None:
                    return PassedQuiz(passed, issue_pass(case, QuizGate.name, quiz.version))
                if held and held[-1].is_open:
                    return _shown(quiz, held[-1])
                if len(held) >= quiz.attempts:
                    told = f"all {quiz.attempts} attempts at this quiz are used up, by you or another account of yours"
                    raise NoAttemptsLeft(told, attempts=quiz.attempts)
                number = len(held) + 1
                attempt_seed = seed(self._keys, drop, taker.subject, number)
                begun = await store.begin(connection, taker, number, attempt_seed, quiz.time_limit_s)
                if begun is not None:
                    return _shown(quiz, begun)

    async def answer_quiz(
        self, session: Session, drop: Drop, number: int, answers: Mapping[str, object], known: Known = NOTHING_KNOWN
    ) -> PassedQuiz:
        """Mark an attempt's answers, once: the same answers again have the same outcome.

        Raises what `start_quiz` does, `QuizFailed`, `QuizLate`, `AttemptAnswered`, `NoSuchAttempt`, `AnswersInvalid`.
        """
        case, quiz, taker = self._quiz(session, drop, known)
        async with self._ledger.begin() as connection:
            await migrations.hold(connection, LEDGER_LOCK_TIMEOUT)
            held = await store.attempts(connection, taker, for_update=True)
            attempt = await _marked(connection, taker, quiz, _numbered(held, number), answers)
        # Past the transaction: what it has written stays written, also where the answer is a refusal.
        facts = {"attempt": number, "attempts_left": max(quiz.attempts - len(held), 0)}
        if attempt.is_late:
            raise QuizLate("the time for this attempt was over: it counts as failed", **facts)
        if attempt.answers != answers:
            raise AttemptAnswered("this attempt was answered otherwise before: its mark stays", **facts)
        if not attempt.passed:
            asked = {"mark": attempt.mark, "pass_mark": quiz.pass_mark, "questions": quiz.questions}
            told = f"{attempt.mark} of {quiz.questions} answers are right, {quiz.pass_mark} are needed"
            raise QuizFailed(told, **facts, **asked)
        return PassedQuiz(attempt, issue_pass(case, QuizGate.name, quiz.version))

    async def list_pass(self, session: Session, drop: Drop, known: Known = NOTHING_KNOWN) -> Mapping[str, object]:
        """The pass of the list gate (`issue_pass`); raises as `start_quiz` does, and `NotOnList`."""
        name = drop.spec.gates.list_
        if name is None:
            raise NoSuchGate(f"drop {drop.id!r} has no list before its tickets", gate=ListGate.name)
        case = self._asked(session, drop, known)
        async with self._ledger.connect() as connection:
            found = await groups.known(connection, session, {name}, {})
        if name not in found.lists:
            raise NotOnList("this drop is for the members on a list, and you are not on it")
        return issue_pass(case, ListGate.name, name)

    def _quiz(self, session: Session, drop: Drop, known: Known) -> tuple[Case, Quiz, Taker]:
        quiz = drop.spec.gates.quiz
        if quiz is None:
            raise NoSuchGate(f"drop {drop.id!r} has no quiz before its tickets", gate=QuizGate.name)
        return self._asked(session, drop, known), quiz, Taker(drop.id, quiz.version, session.subject)

    def _asked(self, session: Session, drop: Drop, known: Known) -> Case:
        """Nobody spends an attempt on a drop that gives them no ticket anyway."""
        case = self._case(session, drop)
        check_asker(drop, session, case.now_ms, self._zone, known)
        return case

    def _case(self, session: Session, drop: Drop) -> Case:
        return Case(self._keys, drop, session, round(time.time() * 1000), self.places)


def _shown(quiz: Quiz, attempt: Attempt) -> OpenAttempt:
    return OpenAttempt(attempt, drawn(quiz, attempt.seed), quiz.pass_mark, max(quiz.attempts - attempt.number, 0))


def _numbered(held: Sequence[Attempt], number: int) -> Attempt:
    found = next((attempt for attempt in held if attempt.number == number), None)
    if found is None:
        raise NoSuchAttempt(f"there is no attempt {number} at this quiz as it is now: start one", attempt=number)
    return found


async def _marked(
    connection: AsyncConnection, taker: Taker, quiz: Quiz, attempt: Attempt, answers: Mapping[str, object]
) -> Attempt:
    """A held attempt with its mark, which it gets now where it has none."""
    if attempt.answered_at is not None:
        return attempt
    right = 0 if attempt.is_over else mark(quiz, attempt.seed, answers)
    kept, passed = (None if attempt.is_over else answers), right >= quiz.pass_mark
    await store.write_mark(connection, taker, attempt.number, kept, right, passed=passed)
    return attempt._replace(answered_at=attempt.now, answers=kept, mark=right, passed=passed)
