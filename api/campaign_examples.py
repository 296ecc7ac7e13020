"""What the routes of campaigns answer, as examples for the API's document."""

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
