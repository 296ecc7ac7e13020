"""An example of every answer, for the OpenAPI document: declared beside the route by its code."""

import json
from collections.abc import Mapping
from typing import Any

from api import problems

CLAIM = {
    "claim_id": "lychee-2025.0.17",
    "drop_id": "lychee-2025",
    "item": "box-5jin",
    "quantity": 1,
    "serial": 17,
    "claimed_at": "2025-06-14T02:00:00.213Z",
    "receipt": "AQELbHljaGVlLTIwMjUAAAAAABEBl2w…",
}
TICKET = {
    "ticket": "AQELbHljaGVlLTIwMjUBl2wF…",
    "not_before": "2025-06-14T10:00:00+08:00",
    "expires_at": "2025-06-14T10:30:00+08:00",
}
PROOF_OF_WORK = {
    "gate": "proof-of-work",
    "challenge": "AQEBl2wF8xq5xV1mB0aQ3k7Zr2c4YtPq",
    "bits": 18,
    "expires_at": "2025-06-14T02:02:00+00:00",
}
LIST = {"gate": "list", "route": "POST /v1/drops/lychee-2025/list"}
LOCATION = {"gate": "location", "towns": ["大朗", "东坑"]}
SLOGAN = {
    "gate": "slogan",
    "choices": [
        {"id": "light", "text": {"zh": "点亮大朗", "en": "Light up Dalang"}},
        {"id": "moon", "text": {"zh": "月圆东莞", "en": "A full moon over Dongguan"}},
    ],
}
QUIZ = {
    "gate": "quiz",
    "questions": 1,
    "pass_mark": 1,
    "attempts": 3,
    "time_limit_s": 120,
    "route": "POST /v1/drops/lychee-2025/quiz",
}
CHALLENGE = {"gates": [LIST, LOCATION, SLOGAN, QUIZ, PROOF_OF_WORK]}
PASS = {"pass": "AQEBl2wO4Jq5xV1m…", "pass_expires_at": "2025-06-14T02:10:00+00:00"}
ATTEMPT = {
    "gate": "quiz",
    "passed": False,
    "attempt": 1,
    "attempts_left": 2,
    "pass_mark": 1,
    "questions": [
        {
            "id": "founded",
            "question": {"zh": "东莞市总工会成立于哪一年？", "en": "When was the city's federation founded?"},
            "choices": [
                {"number": 1, "text": {"en": "1926"}},
                {"number": 2, "text": {"en": "1949"}},
                {"number": 3, "text": {"en": "1985"}},
            ],
        }
    ],
    "started_at": "2025-06-14T01:58:00+00:00",
    "expires_at": "2025-06-14T02:00:00+00:00",
}
QUIZ_PASSED = {"gate": "quiz", "passed": True, "attempt": 1, "mark": 1, **PASS}
LIST_PASSED = {"gate": "list", **PASS}
# What a ticket request brings for all gates.
GIVEN = {
    "list": PASS["pass"],
    "location": {"lat": 22.9, "lon": 113.93},
    "slogan": "light",
    "quiz": PASS["pass"],
    "proof": "AQEBl2wF8xq5xV1mB0aQ3k7Zr2c4YtPq.2k9f",
}
CLIENT_KEY_HEADER = {
    "name": "X-Client-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 64},
    "description": "A partner's app names itself; counted when `client_claims_per_second` is set.",
    "example": "town-app-7",
}
DROP = {
    "id": "lychee-2025",
    "title": {"zh": "智送荔枝", "en": "Lychees for members"},
    "organisation": "dongguan",
    "allocation": "rush",
    "opens_at": "2025-06-14T10:00:00+08:00",
    "closes_at": "2025-06-14T22:00:00+08:00",
    "limit_per_member": 1,
    "items": [
        {"id": "box-5jin", "title": {"zh": "五斤装", "en": "5 jin box"}, "stock": 5000, "weight_jin": 5},
        {"id": "box-10jin", "title": {"zh": "十斤装", "en": "10 jin box"}, "stock": 600, "weight_jin": 10},
    ],
    "waves": [
        {"at": "2025-06-14T10:00:00+08:00", "stock": {"box-5jin": 2500, "box-10jin": 300}},
        {"at": "2025-06-14T15:00:00+08:00", "stock": {"box-5jin": 2500, "box-10jin": 300}},
    ],
    "eligibility": {"town": {"in": ["大朗", "东坑"]}},
}
MAP = {
    "drop_id": "map-2025",
    "is_ready": True,
    "units": 1201,
    "lit": 1,
    "elsewhere": 0,
    "slogans": {"1": 700, "2": 501},
    "towns": [
        {
            "number": 19,
            "code": "441900117",
            "zh": "大朗",
            "en": "Dalang",
            "row": 3,
            "col": 4,
            "is_lit": True,
            "units": 1201,
            "slogans": {"1": 700, "2": 501},
        }
    ],
}
INSTANT_COMMITTED = {
    "terms": {
        "format": "flashclaim-instant-1",
        "drop": "wheel-2026",
        "rules": {"zh": "每人限玩三次。", "en": "Three plays a person."},
        "opens_ms": 1758340800000,
        "closes_ms": 1758348000000,
        "prizes": [{"id": "goose", "stock": 1}, {"id": "mooncake", "stock": 3}],
        "curve": [[1758340800000, 0], [1758346200000, 1000000]],
        "partitions": 1,
        "secret_sha256": "ee14a5cb24e1e2d9e33ec9df14a5f43fa58c6f2d6d0e4d4fce2e4a3c1e5d7a92",
    },
    "commitment": "0f1d1b0e4b7c0a9de6f5b0a7d1c9ae43a76e9d0b2f2c7d5ed6a1b4c8e3f70912",
}
INSTANT_REVEALED = {
    **INSTANT_COMMITTED,
    "revealed": {
        "secret": "f41a4304c835d6f3ff6a363f05a2b44782c2f0e476d67ac34e7f35d56e9aa9e6",
        "plays": [[[1758340910461, 0], [1758341894065, 2]]],
        "odds": [[1758340800000, 2, 1], [1758346200000, 0, 0]],
    },
}
DRAW = {
    "draw_id": "goose-2025",
    "stage": "revealed",
    "commitment": "a03a5c77d14607482aa8d2b3809710582d66d51f887dc206c80ab68048e02f6a",
    "root": "20e771968bd92bf6aaa9cbdaf970089e90e798330500c8896891c19e8600791b",
    "entrants": 1000000,
    "committed_at": "2025-09-10T02:00:00Z",
    "closed_at": "2025-09-20T12:01:00Z",
    "revealed_at": "2025-09-20T13:00:09Z",
    "awards": {"offered": 1700, "claimed": 300, "waiting": 2000},
    "results": [{"place": 1, "entrant": "goose-2025.0.812", "prize": "goose", "state": "claimed"}],
    "next": None,
}
AWARD = {
    "draw_id": "goose-2025",
    "drop_id": "goose-2025-prizes",
    "entrant": "goose-2025.0.17",
    "prize": "goose",
    "state": "offered",
    "confirm_by": "2025-09-22T13:00:09Z",
}
PROOF = {
    "format": "flashclaim-draw-proof-1",
    "draw": "goose-2025",
    "commitment": "a03a5c77d14607482aa8d2b3809710582d66d51f887dc206c80ab68048e02f6a",
    "count": 1000000,
    "root": "20e771968bd92bf6aaa9cbdaf970089e90e798330500c8896891c19e8600791b",
    "index": 2,
    "entry": ["goose-2025.0.17", 1, 0, 200, 3],
    "path": ["d70ccde5f346af1e240df5ec66c040a659c45e9433c3d0240e787f0d0dd5ebb2"],
}
MESSAGE = {
    "id": 7,
    "kind": "prize-arrived",
    "text": "您在“端午好礼”中抽中的烧鹅券已到账，请到“我的卡券”查看。",
    "texts": {
        "zh": "您在“端午好礼”中抽中的烧鹅券已到账，请到“我的卡券”查看。",
        "en": "The roast goose voucher that you drew in “Dragon Boat gifts” has arrived: see your coupons.",
    },
    "facts": {
        "draw": {"zh": "端午好礼", "en": "Dragon Boat gifts"},
        "prize": {"zh": "烧鹅券", "en": "roast goose voucher"},
    },
    "created_at": "2025-06-15T00:30:00Z",
    "read_at": None,
}
JOB = {
    "id": 12,
    "kind": "drop-closes",
    "object": "drop:lychee-2025",
    "name": "2025-06-14T14:00:00+00:00",
    "due_at": "2025-06-14T14:00:00Z",
    "next_at": "2025-06-14T14:00:00Z",
    "payload": {},
    "state": "waiting",
    "attempts": 0,
    "done_at": None,
    "error": None,
    "created_at": "2025-06-01T01:00:00Z",
}
# Codes that whole kinds of routes share, for `declared`.
SIGNED_IN = ("session-invalid", "identity-unavailable", "ledger-unavailable")
OPERATORS = (*SIGNED_IN, "operators-only")
BOUNDED = (*OPERATORS, "not-your-organisation")
BODY = ("invalid", "media-type", "too-large")
ASKED = ("not-open", "closed", "not-eligible", "no-such-drop", "not-ready", "denied", "slow-down")
GATES = (
    "list-pass-required", "location-required", "location-invalid", "outside", "wrong-town", "slogan-required",
    "unknown-slogan", "quiz-required", "pass-invalid", "proof-required", "proof-invalid",
)  # fmt: skip
_DETAILS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "limit-reached": (
        "the limit is 1 for each member on this drop, and you hold 1",
        {"limit": "limit_per_member", "limit_per_member": 1, "held": 1, "remaining": 0},
    ),
    "campaign-limit-reached": (
        "the limit of this campaign is 1 for each person a day, and you hold 1; it counts anew from 2025-06-14T16:00Z",
        {
            "limit": "per_day",
            "limit_per_person": 1,
            "held": 1,
            "remaining": 0,
            "counts_anew_at": "2025-06-14T16:00:00+00:00",
        },
    ),
    "sold-out": (
        "sold out; more is released at 2025-06-14T07:00:00+00:00",
        {"left": 0, "next_release_at": "2025-06-14T07:00:00+00:00"},
    ),
    "not-open": (
        "not open yet: it opens at 2025-06-14T02:00:00+00:00; send the same ticket then",
        {"opens_at": "2025-06-14T02:00:00+00:00", "retry_after_s": 12},
    ),
    "paused": ("paused by the operator: keep your ticket and try again soon", {}),
    "closed": ("closed: this drop takes no more claims", {}),
    "claim-released": ("this ticket's claim was given back: it cannot be claimed with the same ticket again", {}),
    "ticket-invalid": ("this ticket was altered or forged: take a new one from the drop's page", {}),
    "ticket-expired": (
        "this ticket expired at 2025-06-14T02:30:00+00:00 and was never used: take a new one",
        {"expired_at": "2025-06-14T02:30:00+00:00"},
    ),
    "claim-invalid": ("item: say which one: box-5jin, box-10jin", {"field": "item"}),
    "no-such-drop": ("there is no drop 'lychee-2024'", {"drop_id": "lychee-2024"}),
    "slow-down": (
        "more than 10 claims a second from this member: wait; a ticket stays good",
        {"whose": "member", "retry_after_s": 1},
    ),
    "denied": ("this address is shut out by the operator: ask them why", {"whose": "address"}),
    "list-pass-required": ("list: fetch your pass by POST /v1/drops/lychee-2025/list, and send it", LIST),
    "not-on-list": ("this drop is for the members on a list, and you are not on it", {}),
    "location-required": (
        'location: this drop asks where you are: send {"location": {"lat": …, "lon": …}} in degrees',
        LOCATION,
    ),
    "location-invalid": (
        "location.lat is not from -90 to 90 degrees: were lat and lon swapped?",
        {"field": "location.lat"},
    ),
    "outside": ("you are outside the city: this drop is for people who are in one of its towns", {}),
    "wrong-town": ("this drop is for people who are in 大朗、东坑; you are in 常平", {"town": "常平"}),
    "slogan-required": ("slogan: choose one, and send its id", SLOGAN),
    "unknown-slogan": ("slogan: there is no 'lihgt'; choose of light, moon", {"field": "slogan"}),
    "quiz-required": ("quiz: take it by POST /v1/drops/lychee-2025/quiz, and send the pass that you get", QUIZ),
    "quiz-failed": (
        "0 of 1 answers are right, 1 are needed",
        {"attempt": 1, "attempts_left": 2, "mark": 0, "pass_mark": 1, "questions": 1},
    ),
    "quiz-late": ("the time for this attempt was over: it counts as failed", {"attempt": 1, "attempts_left": 2}),
    "attempt-answered": (
        "this attempt was answered otherwise before: its mark stays",
        {"attempt": 1, "attempts_left": 2},
    ),
    "no-attempts-left": (
        "all 3 attempts at this quiz are used up, by you or another account of yours",
        {"attempts": 3},
    ),
    "no-such-attempt": ("there is no attempt 4 at this quiz as it is now: start one", {"attempt": 4}),
    "answers-invalid": (
        "answers.founded: send the number of a choice, 1 to 3",
        {"field": "answers.founded"},
    ),
    "no-such-gate": ("drop 'lychee-2025' has no quiz before its tickets", {"gate": "quiz"}),
    "pass-invalid": (
        "this pass has expired: take a new one by POST /v1/drops/lychee-2025/quiz",
        {"gate": "quiz", "route": "POST /v1/drops/lychee-2025/quiz"},
    ),
    "proof-required": ("this drop asks for a proof: work it out from the challenge, and send it", PROOF_OF_WORK),
    "proof-invalid": (
        "this proof's hash does not begin with 18 zero bits: work it out anew from this challenge",
        PROOF_OF_WORK,
    ),
    "overloaded": ("too many claims are waiting: send the same ticket again in a moment", {"retry_after_s": 2}),
    "too-many-watchers": (
        "2000 watch maps at this process already: try again, or read the map at times",
        {"retry_after_s": 10},
    ),
    "outcome-unknown": (
        "the store did not answer: send the same ticket again to learn the outcome",
        {"retry_after_s": 1},
    ),
    "not-eligible": (
        "this drop is for members whose town is 大朗; your town is 东坑",
        {
            "attribute": "town",
            "value": "东坑",
            "explanation": {
                "zh": "此活动面向镇街为大朗的会员；您的镇街为东坑",
                "en": "this drop is for members whose town is 大朗; your town is 东坑",
            },
        },
    ),
    "spec-invalid": (
        "body: limt_per_member: unknown name: did you mean 'limit_per_member'?",
        {"errors": [{"field": "limt_per_member", "problem": "unknown name: did you mean 'limit_per_member'?"}]},
    ),
    "campaign-invalid": (
        "body: drops.0.limt_per_member: unknown name: did you mean 'limit_per_member'?",
        {"errors": [{"field": "drops.0.limt_per_member", "problem": "unknown name: did you mean 'limit_per_member'?"}]},
    ),
    "copy-invalid": ("opens_on: 'soon' is not a day: write it like 2027-09-08", {"field": "opens_on"}),
    "no-such-campaign": ("there is no campaign 'mid-autum'", {"campaign_id": "mid-autum"}),
    "duplicate-campaign": (
        "there is a campaign 'mid-autumn' already: choose another id",
        {"campaign_id": "mid-autumn"},
    ),
    "review-required": (
        "no review was sent: ask with `?dry_run=true`, read it, and send its `review` with the same body",
        {},
    ),
    "already-released": ("claim lychee-2025.0.17 was given back before", {"claim_id": "lychee-2025.0.17"}),
    "duplicate-drop": (
        "there is a drop 'lychee-2025' already: choose another id",
        {"drop_id": "lychee-2025"},
    ),
    "wrong-status": (
        "drop 'lychee-2025' is closed: resume needs it to be paused",
        {"status": "closed", "allowed_from": ["paused"]},
    ),
    "commitment-broken": (
        "drop 'wheel-2026' was committed to under instant key 2, which is not here",
        {},
    ),
    "not-instant": ("drop 'lychee-2025' is no instant win", {"drop_id": "lychee-2025"}),
    "not-committed": (
        "draw 'goose-2025' is not committed to: `flashclaim draw commit goose-2025`, then launch it",
        {},
    ),
    "already-committed": (
        "closes_at: draw 'goose-2025' is committed to, and published: make a new draw",
        {"fields": ["closes_at"]},
    ),
    "wrong-stage": (
        "draw 'goose-2025' is committed: reveal needs it to be closed",
        {"stage": "committed", "needed": "closed"},
    ),
    "draw-altered": ("the draw's document in the ledger has another commitment or root than was published", {}),
    "no-award": ("no prize of this draw is offered to you now: see GET /v1/me/awards", {}),
    "no-such-draw": (
        "there is no draw 'goose-2024', or it is not committed to yet",
        {"draw_id": "goose-2024"},
    ),
    "draw-invalid": (
        "revealed.beacon.round: 22310501 must be one of 22310500, 22318900",
        {"field": "revealed.beacon.round"},
    ),
    "stale-revision": ("drop 'lychee-2025' is at revision 3, not 2: read it again", {"revision": 3}),
    "revision-required": ('send the ETag that you saw in the header `If-Match: "…"`', {}),
    "session-invalid": ("this session token is not valid (ExpiredTokenError): sign in again", {}),
    "operators-only": ("this is for operators: use an operator's session token", {}),
    "not-your-organisation": (
        "organisation 'dalang' has no drop 'lychee-2025', nor has one under it: ask the city's operators",
        {"organisation": "dalang"},
    ),
    "export-required": ("take the export first, and send its digest: nothing may be missed", {}),
    "no-such-organisation": ("there is no organisation 'dalan'", {}),
    "no-such-member": ("the ledger has no member 'm-1': their identity provider may", {}),
    "no-such-segment": ("there is no segment 'local'", {}),
    "organisation-invalid": (
        "body: organisation.parent: no such organisation: did you mean 'dongguan'?",
        {"errors": [{"field": "organisation.parent", "problem": "no such organisation: did you mean 'dongguan'?"}]},
    ),
    "member-invalid": (
        "attributes.birthday: write month and day like 06-14; the year is kept nowhere",
        {
            "errors": [
                {
                    "field": "attributes.birthday",
                    "problem": "write month and day like 06-14; the year is kept nowhere",
                }
            ]
        },
    ),
    "predicate-invalid": (
        "where.twon: unknown name: did you mean 'town'?",
        {"errors": [{"field": "where.twon", "problem": "unknown name: did you mean 'town'?"}]},
    ),
    "no-such-claim": (
        "the ledger has no claim lychee-2025.0.17: a claim of the last seconds may still be on its way",
        {},
    ),
    "no-such-job": ("the schedule has no job 12: one that was planned otherwise since is gone", {}),
    "wrong-state": ("job 12 is done: retry needs it to be failed or cancelled", {"state": "done"}),
    "no-such-message": ("your inbox has no message 7: the newest 200 are kept", {}),
    "too-many-streams": (
        "too many live streams are open, 6 of them yours: ask GET /v1/me/messages, or come later",
        {"retry_after_s": 5},
    ),
    "not-found": ("there is nothing at /v1/drop: see /openapi.json for what there is", {}),
    "method-not-allowed": ("GET does not work here: use POST", {}),
    "too-slow": ("the request did not arrive within 10 s: send it again", {}),
    "too-large": ("the body has more than 1024 bytes", {}),
    "media-type": ("send the body as application/json, not text/xml", {}),
    "invalid": (
        'body: Expected `int`, got `str` - at `$.quantity`; expected {"item": "…", "quantity": 1}',
        {"field": "quantity"},
    ),
    "id-invalid": (
        "'lychee-2025.17' is not a claim id: expected DROP.PARTITION.SERIAL",
        {"field": "claim_id"},
    ),
    "idempotency-key-reused": (
        "this Idempotency-Key was used for another request on drop 'lychee-2025' (pause): make a new one",
        {"field": "Idempotency-Key"},
    ),
    "restock-invalid": ("quantity: '0' is not from 1 to 10000000 units", {"field": "quantity"}),
    "receipt-invalid": ("this receipt was altered or forged", {}),
    "head-too-large": ("the request's head has more than 65536 bytes", {}),
    "internal": ("something broke here; the operators can find it in the log", {}),
    "store-unavailable": ("the store cannot be reached: try again", {"retry_after_s": 1}),
    "ledger-unavailable": ("the ledger cannot be reached: try again", {"retry_after_s": 2}),
    "ledger-foreign": (
        "the ledger is at migration 0002, this version writes 0003: run `flashclaim migrate`",
        {"retry_after_s": 1},
    ),
    "identity-unavailable": ("the identity provider's keys cannot be fetched: try again", {"retry_after_s": 1}),
    "not-ready": ("the drop is being made ready: send the same ticket again", {"retry_after_s": 1}),
}


def example(code: str) -> dict[str, Any]:
    """A problem+json body as this code is told."""
    found: dict[str, Any] = json.loads(problems.body(code, *_DETAILS[code]))
    return found


def section(code: str) -> str:
    """A code's part of docs/reference/answers.md; a test compares the page with it."""
    status, title = problems.PROBLEMS[code]
    shown_body = json.dumps(example(code), ensure_ascii=False, indent=2)
    return f"## {status} `{code}`\n\n{title}.\n\n```json\n{shown_body}\n```\n"


def declared(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with these problem codes, each with an example."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = problems.PROBLEMS[code]
        entry = found.setdefault(status, {"description": title, "content": {problems.MEDIA_TYPE: {"examples": {}}}})
        examples = entry["content"][problems.MEDIA_TYPE]["examples"]
        examples[code] = {"value": example(code)}
        entry["description"] = " · ".join(examples)
    return found


def taken(example: Any, properties: Mapping[str, Any] | None = None, *, required: bool = True) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its JSON body itself; with `properties` it takes no other names."""
    schema: dict[str, Any] = {"type": "object"}
    if properties is not None:
        schema |= {"properties": properties, "additionalProperties": False}
    return {
        "requestBody": {
            "required": required,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    }


def shown(example: Any, description: str) -> dict[str, Any]:
    """A good answer with its example."""
    return {"description": description, "content": {"application/json": {"example": example}}}
