"""What good answers look like, for the OpenAPI document: a body of each kind, declared beside its route."""

from hashlib import sha256


def _hash(of: str) -> str:
    """What stands for a hash or a secret: it looks like one, and is none of anything real."""
    return sha256(of.encode()).hexdigest()


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
        "secret_sha256": _hash("sha256 of the secret"),
    },
    "commitment": _hash("commitment of the wheel"),
}
INSTANT_REVEALED = {
    **INSTANT_COMMITTED,
    "revealed": {
        "secret": _hash("secret"),
        "plays": [[[1758340910461, 0], [1758341894065, 2]]],
        "odds": [[1758340800000, 2, 1], [1758346200000, 0, 0]],
    },
}
DRAW = {
    "draw_id": "goose-2025",
    "stage": "revealed",
    "commitment": _hash("commitment"),
    "root": _hash("root"),
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
    "commitment": _hash("commitment"),
    "count": 1000000,
    "root": _hash("root"),
    "index": 2,
    "entry": ["goose-2025.0.17", 1, 0, 200, 3],
    "path": [_hash("a branch")],
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
    "review": _hash("review")[:32],
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
