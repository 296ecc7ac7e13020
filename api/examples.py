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
CHALLENGE = {
    "gate": "proof-of-work",
    "challenge": "AQEBl2wF8xq5xV1mB0aQ3k7Zr2c4YtPq",
    "bits": 18,
    "expires_at": "2025-06-14T02:02:00+00:00",
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
CAMPAIGN = {
    "id": "mid-autumn",
    "theme": {"zh": "中秋暖心", "en": "Mid-Autumn"},
    "organisation": "dongguan",
    "opens_at": "2026-09-18T09:00:00+08:00",
    "closes_at": "2026-09-25T22:00:00+08:00",
    "time_zone": "Asia/Shanghai",
    "limits": {"in_all": 1},
    "drops": [
        {
            "id": "mid-autumn-boxes",
            "title": {"zh": "月饼", "en": "Mooncakes"},
            "allocation": "rush",
            "items": [{"id": "box", "title": {"zh": "礼盒", "en": "Gift box"}, "stock": 2100}],
        }
    ],
}
REVIEW = {
    "review": "5b1d0c5f0a0d4b7f9d7c2f1e3a4b5c6d",
    "fields": [{"field": "limits.in_all", "before": 2, "after": 1}],
    "limits": [
        {
            "limit": "in_all",
            "before": 2,
            "after": 1,
            "counted_since": None,
            "persons_over": 12,
            "claims_of_theirs": 24,
            "units_over": 12,
        }
    ],
    "windows": [],
    "eligibility": [{"drop_id": "mid-autumn-boxes", "members_gaining": 0, "members_losing": 310}],
    "drops_told": [{"drop_id": "mid-autumn-boxes", "act": "amend", "fields": ["campaign", "eligibility"]}],
}
OUTLOOK = {
    "campaign_id": "mid-autumn",
    "theme": {"zh": "中秋暖心", "en": "Mid-Autumn"},
    "member_id": "m-1",
    "drops": [
        {
            "drop_id": "mid-autumn-boxes",
            "title": {"zh": "月饼", "en": "Mooncakes"},
            "ticket": True,
            "claim": False,
            "reasons": [{"code": "sold-out", "stops": "claim", "detail": "sold out", "left": 0}],
            "gates": [{"gate": "proof-of-work", "bits": 18}],
            "limits": [
                {"limit": "in_all", "limit_per_person": 1, "held": 0, "remaining": 1, "counts_anew_at": None},
            ],
            "left": {"box": 0},
        }
    ],
}
# Codes that whole kinds of routes share, for `declared`.
SIGNED_IN = ("session-invalid", "identity-unavailable", "ledger-unavailable")
OPERATORS = (*SIGNED_IN, "operators-only")
BODY = ("invalid", "media-type", "too-large")
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
    "proof-required": ("this drop asks for a proof: work it out from the challenge, and send it", CHALLENGE),
    "proof-invalid": (
        "this proof's hash does not begin with 18 zero bits: work it out anew from this challenge",
        CHALLENGE,
    ),
    "overloaded": ("too many claims are waiting: send the same ticket again in a moment", {"retry_after_s": 2}),
    "outcome-unknown": (
        "the store did not answer: send the same ticket again to learn the outcome",
        {"retry_after_s": 1},
    ),
    "not-eligible": ("this drop is for members with town 大朗; yours is 东坑", {"attribute": "town", "value": "东坑"}),
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
    "stale-revision": ("drop 'lychee-2025' is at revision 3, not 2: read it again", {"revision": 3}),
    "revision-required": ('send the ETag that you saw in the header `If-Match: "…"`', {}),
    "session-invalid": ("this session token is not valid (ExpiredTokenError): sign in again", {}),
    "operators-only": ("this is for operators: use an operator's session token", {}),
    "no-such-claim": (
        "the ledger has no claim lychee-2025.0.17: a claim of the last seconds may still be on its way",
        {},
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
