"""Drops for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from engine.drops.spec import DropSpec, parse


def drop_json(
    drop_id: str, opens_at: datetime | None = None, *, stock: int = 10, limit: int = 1, **more: Any
) -> dict[str, Any]:
    """A drop of one item `box` that is open for an hour, from a minute ago unless another opening is given."""
    opens = opens_at or datetime.now(UTC) - timedelta(minutes=1)
    return {
        "id": drop_id,
        "title": {"zh": "试", "en": "Trial"},
        "organisation": "dongguan",
        "allocation": "rush",
        "opens_at": opens.isoformat(),
        "closes_at": (opens + timedelta(hours=1)).isoformat(),
        "limit_per_member": limit,
        "items": [{"id": "box", "title": {"en": "Box"}, "stock": stock}],
        **more,
    }


def drop_spec(drop_id: str, opens_at: datetime | None = None, **more: Any) -> DropSpec:
    return parse(drop_json(drop_id, opens_at, **more), "test")
