"""Errors as problem+json (RFC 9457): one table from code to status and title, used by every route."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from api.claim import Told
from engine.bounds import HEAD_BYTES_MAX, REQUEST_S_MAX
from engine.claims.ticket import TicketInvalid
from engine.errors import FlashclaimError, Unavailable
from engine.rates.denied import Denied
from engine.rates.model import SlowDown

MEDIA_TYPE = "application/problem+json"
_TYPE = "https://flashclaim.example/problems/"

# code: status, title. The codes are the API's contract; docs/reference/answers.md shows each with an example.
PROBLEMS: Mapping[str, tuple[int, str]] = {
    "limit-reached": (409, "Limit reached"),
    "campaign-limit-reached": (409, "Limit of the campaign reached"),
    "sold-out": (409, "Sold out"),
    "not-open": (409, "Not open yet"),
    "paused": (409, "Paused"),
    "closed": (409, "Closed"),
    "claim-released": (409, "Claim was given back"),
    "already-released": (409, "Already given back"),
    "duplicate-drop": (409, "Drop exists already"),
    "duplicate-campaign": (409, "Campaign exists already"),
    "wrong-status": (409, "Wrong status for this act"),
    "quiz-failed": (409, "Quiz not passed"),
    "quiz-late": (409, "Answers came too late"),
    "attempt-answered": (409, "Attempt was answered otherwise"),
    "no-attempts-left": (409, "No attempts left"),
    "commitment-broken": (409, "Not what was committed to"),
    "not-committed": (409, "Draw is not committed to"),
    "already-committed": (409, "Draw is committed to"),
    "no-award": (409, "No prize is offered"),
    "wrong-stage": (409, "Wrong stage of the draw"),
    "draw-altered": (409, "Draw was altered"),
    "wrong-state": (409, "Wrong state for this act"),
    "stale-revision": (412, "Changed in the meantime"),
    "revision-required": (428, "Say which revision you saw"),
    "review-required": (428, "Review the amendment first"),
    "list-pass-required": (428, "Fetch your pass first"),
    "location-required": (428, "Send your location"),
    "slogan-required": (428, "Choose a slogan"),
    "quiz-required": (428, "Take the quiz first"),
    "export-required": (428, "Take the export first"),
    "proof-required": (428, "Send a proof"),
    "ticket-invalid": (401, "Ticket is not valid"),
    "ticket-expired": (401, "Ticket has expired"),
    "session-invalid": (401, "Session is not valid"),
    "operators-only": (403, "For operators only"),
    "not-eligible": (403, "Not for this member"),
    "not-on-list": (403, "Not on the list"),
    "outside": (403, "Outside the city"),
    "wrong-town": (403, "Wrong town"),
    "denied": (403, "Shut out"),
    "not-your-organisation": (403, "Not your organisation's"),
    "no-such-drop": (404, "No such drop"),
    "no-such-campaign": (404, "No such campaign"),
    "not-instant": (404, "No instant win"),
    "no-such-draw": (404, "No such draw"),
    "no-such-claim": (404, "No such claim"),
    "no-such-gate": (404, "No such gate"),
    "no-such-attempt": (404, "No such attempt"),
    "no-such-organisation": (404, "No such organisation"),
    "no-such-member": (404, "No such member"),
    "no-such-segment": (404, "No such segment"),
    "no-such-job": (404, "No such job"),
    "no-such-message": (404, "No such message"),
    "not-found": (404, "Nothing here"),
    "method-not-allowed": (405, "Wrong method"),
    "too-slow": (408, "Request took too long"),
    "too-large": (413, "Request is too large"),
    "media-type": (415, "Wrong media type"),
    "invalid": (422, "Request is not valid"),
    "id-invalid": (422, "Not an id"),
    "spec-invalid": (422, "Drop is not valid"),
    "campaign-invalid": (422, "Campaign is not valid"),
    "copy-invalid": (422, "Copy is not valid"),
    "claim-invalid": (422, "Claim is not valid"),
    "idempotency-key-reused": (422, "Idempotency key was used for another request"),
    "organisation-invalid": (422, "Organisation is not valid"),
    "member-invalid": (422, "Member is not valid"),
    "predicate-invalid": (422, "Predicate is not valid"),
    "draw-invalid": (422, "Draw is not valid"),
    "restock-invalid": (422, "Restock is not valid"),
    "location-invalid": (422, "Not a place"),
    "unknown-slogan": (422, "No such slogan"),
    "answers-invalid": (422, "Answers are not valid"),
    "pass-invalid": (422, "Pass is not valid"),
    "proof-invalid": (422, "Proof is not valid"),
    "receipt-invalid": (422, "Receipt is not valid"),
    "slow-down": (429, "Too many requests"),
    "too-many-streams": (429, "Too many streams"),
    "head-too-large": (431, "Request head is too large"),
    "internal": (500, "Something broke"),
    "overloaded": (503, "Overloaded"),
    "too-many-watchers": (503, "Too many watch"),
    "outcome-unknown": (503, "Outcome unknown"),
    "store-unavailable": (503, "Store unavailable"),
    "ledger-unavailable": (503, "Ledger unavailable"),
    "ledger-foreign": (503, "Ledger of another version"),
    "identity-unavailable": (503, "Identity provider unavailable"),
    "not-ready": (503, "Not ready"),
}
_IN_FLOODS = (Denied, SlowDown, TicketInvalid)
_HTTP_CODES = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "media-type"}


def body(code: str, detail: str, facts: Mapping[str, object] | None = None) -> bytes:
    """The problem+json body of a code; times in facts become ISO 8601."""
    status, title = PROBLEMS[code]
    members = {"type": _TYPE + code, "title": title, "status": status, "detail": detail, "code": code}
    text = json.dumps({**(facts or {}), **members}, ensure_ascii=False, default=_plain)
    # A lone surrogate, which JSON can spell and UTF-8 cannot, goes back as it came: as an escape.
    return text.encode(errors="backslashreplace")


def told(error: FlashclaimError) -> Told:
    """The answer that tells an error."""
    facts = {**error.facts, "retry_after_s": error.retry_after_s} if isinstance(error, Unavailable) else error.facts
    if isinstance(error, _IN_FLOODS):
        return _told_in_floods(error.code, error.detail, tuple(facts.items()))
    return _told(error.code, error.detail, facts)


@lru_cache(maxsize=256)
def _told_in_floods(code: str, detail: str, facts: tuple[tuple[str, object], ...]) -> Told:
    """Bots are told the same some ten thousand times a second: it is put together once."""
    return _told(code, detail, dict(facts))


def _told(code: str, detail: str, facts: Mapping[str, object]) -> Told:
    return Told(PROBLEMS[code][0], body(code, detail, facts), MEDIA_TYPE, _headers(code, facts.get("retry_after_s")))


def _headers(code: str, wait_s: object) -> dict[str, str]:
    """The headers that belong to an error: when to come back, how to authenticate."""
    found = {} if wait_s is None else {"Retry-After": str(wait_s)}
    if PROBLEMS[code][0] == HTTPStatus.UNAUTHORIZED:
        found["WWW-Authenticate"] = "Ticket" if code.startswith("ticket") else "Bearer"
    return found


def broken() -> Told:
    """The answer when something broke that no rule foresees."""
    return _plainly("internal", "something broke here; the operators can find it in the log")


def head_too_large() -> Told:
    return _plainly("head-too-large", f"the request's head has more than {HEAD_BYTES_MAX} bytes")


def too_slow() -> Told:
    return _plainly("too-slow", f"the request did not arrive within {REQUEST_S_MAX:.0f} s: send it again")


def _plainly(code: str, detail: str) -> Told:
    return Told(PROBLEMS[code][0], body(code, detail), MEDIA_TYPE)


def response(told: Told) -> Response:
    """An answer as Starlette writes it."""
    return Response(told.body, told.status, told.headers, told.media_type)


def register(app: FastAPI) -> None:
    """Let every error of an app be answered as problem+json."""
    app.add_exception_handler(FlashclaimError, _flashclaim)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(SQLAlchemyError, _ledger_away)
    app.add_exception_handler(OSError, _ledger_away)
    app.add_exception_handler(RedisError, _store_away)


async def _flashclaim(request: Request, error: Exception) -> Response:
    assert isinstance(error, FlashclaimError)
    if isinstance(error, SlowDown):
        await request.app.state.services.control.wait_to_tell()
    return response(told(error))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "invalid")
    detail = str(error.detail)
    if code == "not-found":
        detail = f"there is nothing at {request.url.path}: see /openapi.json for what there is"
    if code == "method-not-allowed":
        detail = f"{request.method} does not work here: use {(error.headers or {}).get('Allow', 'another method')}"
    return Response(body(code, detail), PROBLEMS[code][0], dict(error.headers or {}), MEDIA_TYPE)


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        {"field": ".".join(str(part) for part in fault["loc"] if part != "body"), "problem": fault["msg"]}
        for fault in error.errors()
    ]
    detail = "; ".join(f"{fault['field'] or 'body'}: {fault['problem']}" for fault in faults)
    return Response(body("invalid", detail, {"errors": faults}), 422, media_type=MEDIA_TYPE)


async def _ledger_away(_: Request, __: Exception) -> Response:
    detail = "the ledger cannot be reached: try again"
    return Response(body("ledger-unavailable", detail), 503, {"Retry-After": "2"}, MEDIA_TYPE)


async def _store_away(_: Request, __: Exception) -> Response:
    return Response(
        body("store-unavailable", "the store cannot be reached: try again"), 503, {"Retry-After": "1"}, MEDIA_TYPE
    )


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
