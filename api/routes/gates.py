"""What a drop asks before it gives a ticket: all of it in one answer, the quiz, the list."""

from typing import Any

from fastapi import APIRouter

from api import scope
from api.claim import BodyInvalid
from api.deps import AskedSession, JsonBody, Services, ServicesDep, SessionDep, only
from api.examples import ATTEMPT, CHALLENGE, CLIENT_KEY_HEADER, LIST_PASSED, QUIZ_PASSED
from api.openapi import ASKED, BODY, SIGNED_IN, declared, shown, taken
from engine.bounds import QUIZ_ATTEMPTS_MAX
from engine.drops.model import Drop
from engine.gates.service import OpenAttempt, PassedQuiz
from engine.members.model import Session
from engine.members.predicate import Known

router = APIRouter(prefix="/v1/drops/{drop_id}", tags=["gates"], responses=declared("invalid", "too-large"))
_ASKED = (*SIGNED_IN, *ASKED, "no-such-gate", "ledger-foreign")
_KEYED = {"parameters": [CLIENT_KEY_HEADER]}
_NUMBER = {"type": "integer", "minimum": 1}
_ANSWERS = taken(
    {"attempt": 1, "answers": {"founded": 2}},
    {"attempt": _NUMBER, "answers": {"type": "object", "additionalProperties": _NUMBER}},
)


@router.get(
    "/challenge",
    responses={
        200: shown(CHALLENGE, "What is asked, in the order in which it is checked; an empty list: nothing"),
        **declared("session-invalid", "no-such-drop", "not-ready"),
    },
)
async def challenge(drop_id: str, use: ServicesDep, session: SessionDep) -> dict[str, Any]:
    """All that a drop asks of the session's member before it gives a ticket; nothing is begun by asking."""
    return {"gates": use.claims.gates.challenge(session, await scope.shown(use, drop_id, session))}


@router.post(
    "/quiz",
    responses={
        200: shown(ATTEMPT, "The open attempt; or, once the quiz was passed, a pass as `quiz/answers` gives it"),
        **declared(*_ASKED, "no-attempts-left"),
    },
    openapi_extra=_KEYED,
)
async def start_quiz(drop_id: str, use: ServicesDep, session: AskedSession) -> dict[str, Any]:
    """Start an attempt at a drop's quiz, or see the open one. All accounts of one person share the attempts."""
    found = await use.claims.gates.start_quiz(session, *await _asked(use, drop_id, session))
    return _passed(found) if isinstance(found, PassedQuiz) else _open(found)


@router.post(
    "/quiz/answers",
    responses={
        200: shown(QUIZ_PASSED, "Passed: send `pass` as `quiz` with the ticket request"),
        **declared(
            *_ASKED, *BODY, "answers-invalid", "no-such-attempt", "attempt-answered", "quiz-failed", "quiz-late"
        ),
    },
    openapi_extra={**_ANSWERS, **_KEYED},
)  # fmt: skip
async def answer_quiz(drop_id: str, use: ServicesDep, session: AskedSession, body: JsonBody) -> dict[str, Any]:
    """Answer an attempt: `{"attempt": 1, "answers": {"founded": 2}}`, each with a choice's number as it was shown.

    The same answers sent again get the same mark; others are refused.
    """
    given = only(body, "attempt", "answers")
    number, answers = given.get("attempt"), given.get("answers")
    if type(number) is not int or not 1 <= number <= QUIZ_ATTEMPTS_MAX:
        raise BodyInvalid("attempt: expected the number of an attempt, from 1", field="attempt")
    if not isinstance(answers, dict):
        raise BodyInvalid("answers: expected numbers of choices by the ids of questions", field="answers")
    drop, known = await _asked(use, drop_id, session)
    return _passed(await use.claims.gates.answer_quiz(session, drop, number, answers, known))


@router.post(
    "/list",
    responses={
        200: shown(LIST_PASSED, "On the list: send `pass` as `list` with the ticket request"),
        **declared(*_ASKED, "not-on-list"),
    },
    openapi_extra=_KEYED,
)
async def list_pass(drop_id: str, use: ServicesDep, session: AskedSession) -> dict[str, Any]:
    """The pass of a drop that is for the members on a list."""
    sealed = await use.claims.gates.list_pass(session, *await _asked(use, drop_id, session))
    return {"gate": "list", **sealed}


async def _asked(use: Services, drop_id: str, session: Session) -> tuple[Drop, Known]:
    """The drop, and what the ledger says of the member as far as its eligibility asks."""
    drop = await scope.shown(use, drop_id, session)
    return drop, await use.members.known(session, drop.spec.eligibility)


def _open(found: OpenAttempt) -> dict[str, Any]:
    attempt = found.attempt
    return {
        "gate": "quiz",
        "passed": False,
        "attempt": attempt.number,
        "attempts_left": found.left,
        "pass_mark": found.pass_mark,
        "questions": [question.told() for question in found.questions],
        "started_at": attempt.started_at,
        "expires_at": attempt.expires_at,
    }


def _passed(found: PassedQuiz) -> dict[str, Any]:
    told = {"gate": "quiz", "passed": True, "attempt": found.attempt.number, "mark": found.attempt.mark}
    return {**told, **found.sealed}
