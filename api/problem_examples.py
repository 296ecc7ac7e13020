"""What each refusal tells, for the OpenAPI document and docs/reference/answers.md: its detail and its facts."""

from collections.abc import Mapping
from typing import Any

from api.examples import LIST, LOCATION, PROOF_OF_WORK, QUIZ, SLOGAN

DETAILS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
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
