"""Draws and instant wins, small enough to read."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from engine.draws import instant
from engine.draws.publication import BeaconValue, Entrant, close, commit, reveal
from engine.draws.verify import Json, play

SECRET = bytes(range(32))
VALUE = "5a" * 32
CLOSES = datetime(2025, 9, 20, 12, tzinfo=UTC)
CLOSED_AT, SEEN_AT = CLOSES + timedelta(minutes=1), CLOSES + timedelta(hours=1, seconds=4)
OPENS_MS, HOUR_MS = 1_758_340_800_000, 3_600_000


def draw_terms(**changes: Any) -> Json:
    terms: Json = {
        "draw": "goose",
        "rules": {"en": "One prize a person.", "zh": "每人限中一次。"},
        "closes_at": "2025-09-20T12:00:00Z",
        "prizes": [{"id": "goose", "stock": 3}, {"id": "mooncake", "stock": 2}],
        "waiting": 4,
        "weights": {"base": 1, "misses_max": 3, "points_each": 100, "points_max": 2, "weight_max": 5},
        "confirm": {"within_hours": 48},
        "beacon": {
            "source": "an example",
            "value_bytes": 32,
            "rounds": [
                {"round": 7, "due_at": "2025-09-20T13:00:00Z", "wait_until": "2025-09-20T19:00:00Z"},
                {"round": 9, "due_at": "2025-09-20T20:00:00Z", "wait_until": "2025-09-21T20:00:00Z"},
            ],
        },
    }
    return terms | changes


def entrants(count: int = 20) -> list[Entrant]:
    return [Entrant(f"goose.0.{serial}", serial % 5, serial * 40 % 350) for serial in range(1, count + 1)]


def closed_draw(of: Iterable[Entrant] = entrants(), **changes: Any) -> Json:
    return close(commit(draw_terms(**changes), SECRET), of, CLOSED_AT)


def revealed_draw(of: Iterable[Entrant] = entrants(), **changes: Any) -> Json:
    return reveal(closed_draw(of, **changes), SECRET, BeaconValue(7, VALUE, SEEN_AT))


def instant_terms(**changes: Any) -> Json:
    terms: Json = {
        "drop": "wheel",
        "rules": {"en": "Three plays a person.", "zh": "每人限玩三次。"},
        "opens_ms": OPENS_MS,
        "closes_ms": OPENS_MS + 12 * HOUR_MS,
        "prizes": [{"id": "goose", "stock": 5}, {"id": "mooncake", "stock": 20}],
        "curve": [
            [OPENS_MS, 100_000],
            [OPENS_MS + 4 * HOUR_MS, 300_000],
            [OPENS_MS + 6 * HOUR_MS, 300_000],
            [OPENS_MS + 11 * HOUR_MS, 1_000_000],
        ],
        "partitions": 1,
    }
    return terms | changes


@cache
def _plays(partitions: int, apart_ms: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    dealt = instant.deal(instant.commit(instant_terms(partitions=partitions), SECRET), SECRET)
    return tuple(tuple(played(due, range(OPENS_MS, OPENS_MS + 12 * HOUR_MS, apart_ms))) for due in dealt)


def played(due: list[tuple[int, int]], times_ms: Iterable[int]) -> list[tuple[int, int]]:
    """What the store does: each play takes the next unit if its moment has come."""
    plays, taken = [], 0
    for at_ms in times_ms:
        item = play(due, taken, at_ms)
        taken += item > 0
        plays.append((at_ms, item))
    return plays


def revealed_instant(partitions: int = 1, apart_ms: int = 600_000) -> Json:
    committed = instant.commit(instant_terms(partitions=partitions), SECRET)
    return instant.reveal(committed, SECRET, _plays(partitions, apart_ms))
