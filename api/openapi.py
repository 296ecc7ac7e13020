"""Declares routes for the OpenAPI document: what they take, and each answer with an example."""

import json
from collections.abc import Mapping
from typing import Any

from api import problems
from api.problem_examples import DETAILS

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


def example(code: str) -> dict[str, Any]:
    """A problem+json body as this code is told."""
    found: dict[str, Any] = json.loads(problems.body(code, *DETAILS[code]))
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
