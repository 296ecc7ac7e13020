"""The promise: a person has so many attempts at a quiz and no more, whoever asks how often at once; an attempt is
marked once, in its time by the ledger's clock; what was answered is answered alike again.
"""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.claims.model import Closed, NotOpen
from engine.drops.model import Drop, Status
from engine.errors import FlashclaimError
from engine.gates.members_list import NotOnList
from engine.gates.model import Given
from engine.gates.quiz import (
    AnswersInvalid,
    AttemptAnswered,
    NoAttemptsLeft,
    NoSuchAttempt,
    QuizFailed,
    QuizLate,
)
from engine.gates.service import Gates, NoSuchGate, OpenAttempt, PassedQuiz
from engine.ledger.migrations import LedgerForeign
from engine.ledger.schema import quiz_attempts
from engine.members.model import NotEligible, Session
from engine.runtime.settings import Settings
from tests.factories.drops import drop_spec
from tests.factories.gates import answers_to, quiz_json
from tests.factories.lists import put_list

ONE = Session("m-1", "person-1")
SAME_PERSON = Session("m-2", "person-1")
OTHER = Session("m-3", "m-3")


def drop_of(drop_id: str = "trial", status: Status = Status.LAUNCHED, **quiz: Any) -> Drop:
    return Drop(drop_spec(drop_id, gates={"quiz": quiz_json(**quiz)}), status, 2, 1)


DROP = drop_of()


@pytest.fixture
def gates(ledger: AsyncEngine, settings: Settings) -> Gates:
    return Gates(ledger, settings)


async def begun(gates: Gates, session: Session = ONE, drop: Drop = DROP) -> OpenAttempt:
    found = await gates.start_quiz(session, drop)
    assert isinstance(found, OpenAttempt)
    return found


def answers(attempt: OpenAttempt, right: int) -> dict[str, int]:
    return answers_to([question.told() for question in attempt.questions], right)


def shown(attempt: OpenAttempt) -> tuple[object, ...]:
    return tuple((one.question.id, one.order) for one in attempt.questions)


async def fail(gates: Gates, session: Session = ONE, drop: Drop = DROP) -> QuizFailed:
    attempt = await begun(gates, session, drop)
    with pytest.raises(QuizFailed) as failed:
        await gates.answer_quiz(session, drop, attempt.attempt.number, answers(attempt, 1))
    return failed.value


async def rows(ledger: AsyncEngine) -> list[Any]:
    async with ledger.connect() as connection:
        return list(await connection.execute(select(quiz_attempts).order_by(quiz_attempts.c.attempt)))


async def let_expire(ledger: AsyncEngine) -> None:
    async with ledger.begin() as connection:
        await connection.execute(text("update quiz_attempts set expires_at = now() - interval '1 ms'"))


class TestRefused:
    """Nobody spends an attempt where they would get no ticket anyway."""

    @pytest.mark.parametrize(
        ("drop", "refusal"),
        [
            (drop_of(status=Status.DRAFT), NotOpen),
            (drop_of(status=Status.CLOSED), Closed),
            (Drop(drop_spec("trial"), Status.LAUNCHED, 2, 1), NoSuchGate),
            (
                Drop(
                    drop_spec("trial", gates={"quiz": quiz_json()}, eligibility={"town": {"in": ["大朗"]}}),
                    Status.LAUNCHED,
                    2,
                    1,
                ),
                NotEligible,
            ),
        ],
    )
    async def test_no_attempt_is_begun(
        self, gates: Gates, ledger: AsyncEngine, drop: Drop, refusal: type[FlashclaimError]
    ) -> None:
        with pytest.raises(refusal):
            await gates.start_quiz(ONE, drop)
        with pytest.raises(refusal):
            await gates.answer_quiz(ONE, drop, 1, {})
        assert await rows(ledger) == []

    async def test_what_cannot_be_marked_leaves_the_attempt_open(self, gates: Gates, ledger: AsyncEngine) -> None:
        attempt = await begun(gates)
        for wrong in ({"nothing": 1}, {attempt.questions[0].question.id: 9}):
            with pytest.raises(AnswersInvalid):
                await gates.answer_quiz(ONE, DROP, 1, wrong)
        assert shown(await begun(gates)) == shown(attempt)
        assert [row.answered_at for row in await rows(ledger)] == [None]

    async def test_there_is_no_attempt_before_it_is_begun_nor_for_others(self, gates: Gates) -> None:
        attempt = await begun(gates)
        for session, drop, number in ((OTHER, DROP, 1), (ONE, drop_of("other"), 1), (ONE, DROP, 2)):
            with pytest.raises(NoSuchAttempt):
                await gates.answer_quiz(session, drop, number, answers(attempt, 3))

    async def test_tables_of_another_version_are_left_alone(self, gates: Gates, ledger: AsyncEngine) -> None:
        async with ledger.begin() as connection:
            known = await connection.scalar(text("select version_num from alembic_version"))
            await connection.execute(text("update alembic_version set version_num = '9999'"))
        try:
            with pytest.raises(LedgerForeign):
                await gates.start_quiz(ONE, DROP)
        finally:
            async with ledger.begin() as connection:
                await connection.execute(text("update alembic_version set version_num = :known"), {"known": known})


class TestAttempts:
    async def test_starting_again_shows_the_open_one_to_every_account_of_the_person(
        self, gates: Gates, ledger: AsyncEngine
    ) -> None:
        first = await begun(gates)
        for session in (ONE, SAME_PERSON):
            again = await begun(gates, session)
            assert again.questions == first.questions
            assert again.attempt._replace(now=first.attempt.now) == first.attempt
        assert (first.attempt.number, first.left, first.pass_mark) == (1, 2, 2)
        assert (first.attempt.expires_at - first.attempt.started_at).total_seconds() == 120
        assert len(await rows(ledger)) == 1

    async def test_the_next_one_has_other_questions_and_after_the_last_there_is_none(
        self, gates: Gates, ledger: AsyncEngine
    ) -> None:
        seen = set()
        for number, session in enumerate((ONE, SAME_PERSON, ONE), start=1):
            seen.add(shown(await begun(gates, session)))
            failed = await fail(gates, session)
            facts = {"attempt": number, "attempts_left": 3 - number, "mark": 1, "pass_mark": 2, "questions": 3}
            assert failed.facts == facts
        assert len(seen) == 3
        for session in (ONE, SAME_PERSON):
            with pytest.raises(NoAttemptsLeft):
                await gates.start_quiz(session, DROP)
        assert len(await rows(ledger)) == 3
        await begun(gates, OTHER)

    async def test_more_can_be_allowed_and_fewer(self, gates: Gates) -> None:
        await fail(gates, drop=drop_of(attempts=1))
        with pytest.raises(NoAttemptsLeft):
            await gates.start_quiz(ONE, drop_of(attempts=1))
        assert (await begun(gates, drop=drop_of(attempts=2))).attempt.number == 2
        open_one = await begun(gates, drop=drop_of(attempts=1))
        assert (open_one.attempt.number, open_one.left) == (2, 0)

    async def test_another_quiz_is_begun_anew_and_the_old_one_cannot_be_answered(self, gates: Gates) -> None:
        old = await begun(gates)
        changed = drop_of(pass_mark=1)
        with pytest.raises(NoSuchAttempt, match="as it is now"):
            await gates.answer_quiz(ONE, changed, 1, answers(old, 3))
        assert (await begun(gates, drop=changed)).attempt.number == 1

    async def test_keys_may_rotate_while_one_is_open(self, gates: Gates, settings: Settings) -> None:
        first = await begun(gates)
        keys = {**settings.ticket_keys, 2: settings.receipt_keys[1]}
        gates.use_keys(settings.model_copy(update={"ticket_keys": keys, "ticket_key_id": 2}))
        assert (await begun(gates)).questions == first.questions
        assert isinstance(await gates.answer_quiz(ONE, DROP, 1, answers(first, 3)), PassedQuiz)


class TestMarks:
    async def test_whoever_passes_has_a_pass_and_another_whenever_they_ask(
        self, gates: Gates, ledger: AsyncEngine
    ) -> None:
        attempt = await begun(gates)
        given = answers(attempt, 2)
        for _ in range(2):
            passed = await gates.answer_quiz(ONE, DROP, 1, given)
            assert (passed.attempt.mark, passed.attempt.passed) == (2, True)
            assert gates.check(ONE, DROP, Given(quiz=str(passed.sealed["pass"]))).gates == ("quiz",)
        for session in (ONE, SAME_PERSON):
            again = await gates.start_quiz(session, DROP)
            assert isinstance(again, PassedQuiz)
            gates.check(session, DROP, Given(quiz=str(again.sealed["pass"])))
        (row,) = await rows(ledger)
        assert (row.answers, row.mark, row.passed) == (given, 2, True)

    async def test_the_same_answers_fail_alike_and_others_are_not_taken(self, gates: Gates) -> None:
        attempt = await begun(gates)
        for _ in range(2):
            with pytest.raises(QuizFailed):
                await gates.answer_quiz(ONE, DROP, 1, answers(attempt, 1))
        with pytest.raises(AttemptAnswered):
            await gates.answer_quiz(ONE, DROP, 1, answers(attempt, 3))

    async def test_late_answers_count_as_failed_whatever_they_are(self, gates: Gates, ledger: AsyncEngine) -> None:
        attempt = await begun(gates)
        await let_expire(ledger)
        for given in (answers(attempt, 3), answers(attempt, 3), {}, {"nothing": 1}):
            with pytest.raises(QuizLate) as late:
                await gates.answer_quiz(ONE, DROP, 1, given)
            assert late.value.facts == {"attempt": 1, "attempts_left": 2}
        (row,) = await rows(ledger)
        assert (row.answers, row.mark, row.passed) == (None, 0, False)
        assert (await begun(gates)).attempt.number == 2

    async def test_one_that_is_never_answered_is_used_up(self, gates: Gates, ledger: AsyncEngine) -> None:
        for number in (1, 2, 3):
            assert (await begun(gates)).attempt.number == number
            await let_expire(ledger)
        with pytest.raises(NoAttemptsLeft):
            await gates.start_quiz(ONE, DROP)

    async def test_the_time_is_the_ledgers_not_the_processs(
        self, gates: Gates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempt, real = await begun(gates), time.time
        for off_s in (600, -600):
            monkeypatch.setattr(time, "time", lambda off_s=off_s: real() + off_s)
            assert (await begun(gates)).attempt.number == 1
        assert isinstance(await gates.answer_quiz(ONE, DROP, 1, answers(attempt, 3)), PassedQuiz)


class TestRaces:
    async def test_many_starts_at_once_are_one_attempt(self, gates: Gates, ledger: AsyncEngine) -> None:
        found = await asyncio.gather(*(begun(gates, session) for session in (ONE, SAME_PERSON) * 15))
        assert len({shown(attempt) for attempt in found}) == 1
        assert len(await rows(ledger)) == 1

    async def test_nobody_gets_more_attempts_by_asking_in_parallel(self, gates: Gates, ledger: AsyncEngine) -> None:
        """Eight clients of one person start and answer as fast as they can, each attempt otherwise."""
        ends: Counter[str] = Counter()

        async def greedy(session: Session, right: int) -> None:
            for _ in range(12):
                try:
                    found = await begun(gates, session)
                    await gates.answer_quiz(session, DROP, found.attempt.number, answers(found, right))
                except FlashclaimError as error:
                    ends[error.code] += 1

        await asyncio.gather(*(greedy(session, right) for session in (ONE, SAME_PERSON) for right in (0, 1) * 2))
        assert [row.attempt for row in await rows(ledger)] == [1, 2, 3]
        assert ends["quiz-failed"] >= 3
        assert ends["no-attempts-left"] > 0
        assert ends.keys() <= {"quiz-failed", "no-attempts-left", "attempt-answered"}

    async def test_of_different_answers_at_once_one_is_marked(self, gates: Gates, ledger: AsyncEngine) -> None:
        attempt = await begun(gates)
        outcomes = await asyncio.gather(
            *(gates.answer_quiz(ONE, DROP, 1, answers(attempt, right)) for right in (3, 1, 3, 1, 0, 0)),
            return_exceptions=True,
        )
        (row,) = await rows(ledger)
        marked = [outcome for outcome in outcomes if not isinstance(outcome, AttemptAnswered)]
        assert len(marked) == 2, "those who sent what was marked"
        for outcome in marked:
            assert isinstance(outcome, PassedQuiz if row.passed else QuizFailed)

    async def test_who_waits_for_a_lock_is_not_late_for_it(self, gates: Gates, ledger: AsyncEngine) -> None:
        """The time of an answer is when its transaction began."""
        drop = drop_of(time_limit_s=1)
        attempt = await begun(gates, drop=drop)
        async with ledger.begin() as connection:
            await hold_all(connection)
            answering = asyncio.create_task(gates.answer_quiz(ONE, drop, 1, answers(attempt, 3)))
            await asyncio.sleep(1.2)
        assert isinstance(await answering, PassedQuiz)


async def hold_all(connection: AsyncConnection) -> None:
    assert await connection.scalar(select(func.count()).select_from(quiz_attempts)) == 1
    await connection.execute(text("select * from quiz_attempts for update"))


class TestList:
    LISTED = Drop(drop_spec("trial", gates={"list": "veterans"}), Status.LAUNCHED, 2, 1)

    async def test_whoever_is_on_it_has_a_pass(self, ledger: AsyncEngine, settings: Settings) -> None:
        gates = Gates(ledger, settings)
        await put_list(ledger, "veterans", "m-1")
        sealed = await gates.list_pass(ONE, self.LISTED)
        assert gates.check(ONE, self.LISTED, Given(list=str(sealed["pass"]))).gates == ("list",)
        with pytest.raises(NotOnList):
            await gates.list_pass(SAME_PERSON, self.LISTED)

    async def test_where_there_is_none_nobody_is_on_it(self, gates: Gates) -> None:
        with pytest.raises(NotOnList):
            await gates.list_pass(ONE, self.LISTED)
        with pytest.raises(NoSuchGate):
            await gates.list_pass(ONE, DROP)
