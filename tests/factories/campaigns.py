"""Campaigns for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from engine.campaigns.spec import CampaignSpec, parse


def part(drop_id: str, *, stock: int = 10, limit: int = 5, **more: Any) -> dict[str, Any]:
    """A drop of one item `box` as it stands in a campaign; its window and organisation are the campaign's."""
    return {
        "id": drop_id,
        "title": {"zh": "试", "en": "Trial"},
        "allocation": "rush",
        "limit_per_member": limit,
        "items": [{"id": "box", "title": {"en": "Box"}, "stock": stock}],
        **more,
    }


def campaign_json(*drop_ids: str, opens_at: datetime | None = None, **more: Any) -> dict[str, Any]:
    """The campaign `autumn` over some drops, open for an hour, from a minute ago unless another opening is given."""
    opens = opens_at or datetime.now(UTC) - timedelta(minutes=1)
    return {
        "id": "autumn",
        "theme": {"zh": "中秋", "en": "Mid-Autumn"},
        "organisation": "dongguan",
        "opens_at": opens.isoformat(),
        "closes_at": (opens + timedelta(hours=1)).isoformat(),
        "time_zone": "Asia/Shanghai",
        "limits": {"in_all": 1},
        "drops": [part(drop_id) for drop_id in drop_ids or ("goose", "mooncake")],
        **more,
    }


def campaign_spec(*drop_ids: str, **more: Any) -> CampaignSpec:
    return parse(campaign_json(*drop_ids, **more), "test")
