"""Instant wins as drops, open for an hour from a minute ago."""

from datetime import UTC, datetime, timedelta
from typing import Any

from engine.drops.model import Actor, Control, Drop, Verb, after
from engine.drops.spec import DropSpec, parse
from tests.factories.drops import drop_json

PRIZES = {"goose": 3, "mooncake": 9}
RULES = {"en": "Three plays a person.", "zh": "每人限玩三次。"}


def instant_json(
    drop_id: str = "wheel", *, curve: list[tuple[float, int]] | None = None, limit: int = 3, **more: Any
) -> dict[str, Any]:
    """An instant win; `curve` has seconds from now, all is released at the opening unless it is given."""
    now = datetime.now(UTC)
    opens = now - timedelta(minutes=1)
    points = [(now + timedelta(seconds=after_s), share) for after_s, share in curve or []] or [(opens, 1_000_000)]
    return drop_json(
        drop_id,
        opens,
        limit=limit,
        **{
            "allocation": "instant",
            "items": [{"id": name, "title": {"en": name}, "stock": stock} for name, stock in PRIZES.items()],
            "instant": {
                "curve": [{"at": at.isoformat(), "share_ppm": share} for at, share in points],
                "rules": RULES,
            },
            **more,
        },
    )


def instant_spec(drop_id: str = "wheel", **more: Any) -> DropSpec:
    return parse(instant_json(drop_id, **more), "test")


def launched(spec: DropSpec, change: dict[str, Any]) -> Drop:
    """The drop as its launch leaves it, with what was committed to."""
    at = datetime.now(UTC)
    draft = after(None, Control(Verb.CREATE, 1, "boss", at, "a", {"spec": spec.model_dump(mode="json")}))
    return after(draft, Control(Verb.LAUNCH, 2, "boss", at, "b", change))


BOSS = Actor("boss")
