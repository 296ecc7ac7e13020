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
_DETAILS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "limit-reached": (
        "the limit is 1 for each member on this drop, and you hold 1",
        {"limit": "limit_per_member", "limit_per_member": 1, "held": 1, "remaining": 0},
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
    "slow-down": ("more than 10 claims a second from this member: wait a second", {"retry_after_s": 1}),
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
}


def declared(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with these problem codes, each with an example."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = problems.PROBLEMS[code]
        entry = found.setdefault(status, {"description": title, "content": {problems.MEDIA_TYPE: {"examples": {}}}})
        detail, facts = _DETAILS.get(code, (title, {}))
        examples = entry["content"][problems.MEDIA_TYPE]["examples"]
        examples[code] = {"value": json.loads(problems.body(code, detail, facts))}
        entry["description"] = " · ".join(examples)
    return found


def taken(example: Any) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its JSON body itself."""
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def shown(example: Any, description: str) -> dict[str, Any]:
    """A good answer with its example."""
    return {"description": description, "content": {"application/json": {"example": example}}}
