"""What a draw drop is drawn by, as the drop's definition says it: prizes, weights, waiting list, beacon. Pure.

The rule itself and the bounds of its parts are those of the verifier (`engine/draws/verify.py`), so that no draw can be
defined that could not be published.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field

from engine.bounds import DROP_ID_CHARS_MAX, EARLIER_DRAWS_MAX, ITEMS_MAX, STOCK_MAX
from engine.definitions import Faults, Place
from engine.draws import verify
from engine.drops.fields import Identifier, Part, Texts

ENTRY = "entry"  # the one item of a draw drop: everybody who claims it is in the draw
PRIZES_SUFFIX = "-prizes"  # of the drop that gives out the prizes
ROUND_PLACE = "{round}"
_ENTRY_ITEM: Mapping[str, Any] = {"id": ENTRY, "title": {"zh": "报名", "en": "Entry"}, "stock": STOCK_MAX}
_WORDS = re.compile(r"\w+", re.ASCII)
_ID_CHARS_MAX = DROP_ID_CHARS_MAX - len(PRIZES_SUFFIX)

RulesText = Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"^[^\x00]*$")]


class DrawnPrize(Part):
    """A level of prizes: the first are drawn first."""

    id: Identifier
    title: Texts
    stock: Annotated[int, Field(ge=1, le=STOCK_MAX, strict=True)]


class Weights(Part):
    """What makes a person's weight: named as in the verifier."""

    base: Annotated[int, Field(strict=True)] = 1
    misses_max: Annotated[int, Field(strict=True)] = 0
    points_each: Annotated[int, Field(strict=True)] = 1
    points_max: Annotated[int, Field(strict=True)] = 0
    weight_max: Annotated[int, Field(strict=True)] = 1


class Confirm(Part):
    within_hours: Annotated[int, Field(strict=True)]


class Round(Part):
    """A round of the beacon: when its value is due, and how long it is waited for."""

    round: Annotated[int, Field(strict=True)]
    due_at: AwareDatetime
    wait_until: AwareDatetime


class Beacon(Part):
    """A public value that nobody here makes; `url` is where it can be read, with `{round}` in it."""

    source: str
    value_bytes: Annotated[int, Field(strict=True)]
    rounds: Annotated[tuple[Round, ...], Field(min_length=2, max_length=16)]
    url: Annotated[str, Field(max_length=300)] | None = None


class DrawRules(Part):
    """How a draw drop's entries are drawn. Without `confirm` the prizes are claimed for the winners at once."""

    prizes: Annotated[tuple[DrawnPrize, ...], Field(min_length=1, max_length=ITEMS_MAX)]
    rules: Annotated[dict[Literal["zh", "en"], RulesText], Field(min_length=1)]
    waiting: Annotated[int, Field(ge=0, le=STOCK_MAX, strict=True)] = 0
    weights: Weights = Weights()
    misses_in: Annotated[tuple[Identifier, ...], Field(max_length=EARLIER_DRAWS_MAX)] = ()
    confirm: Confirm | None = None
    collect_until: AwareDatetime
    beacon: Beacon

    def moved(self, moved: Callable[[datetime], datetime]) -> dict[str, Any]:
        """The same rules at other times, for rehearsals."""
        rounds = [
            {**each.model_dump(), "due_at": moved(each.due_at), "wait_until": moved(each.wait_until)}
            for each in self.beacon.rounds
        ]
        beacon = {**self.beacon.model_dump(), "rounds": rounds}
        return {**self.model_dump(), "beacon": beacon, "collect_until": moved(self.collect_until)}


def with_entry(data: Any) -> Any:
    """A definition whose items are left out because it is a draw's."""
    if isinstance(data, Mapping) and data.get("allocation") == "draw" and "items" not in data:
        return {**data, "items": [_ENTRY_ITEM]}
    return data


def terms(rules: DrawRules, drop_id: str, closes_at: datetime) -> verify.Json:
    """What is committed to, but for the secret's hash and the format: as `engine.draws.publication.commit` takes it."""
    beacon = rules.beacon
    return {
        "draw": drop_id,
        "rules": dict(rules.rules),
        "closes_at": utc(closes_at),
        "prizes": [{"id": prize.id, "stock": prize.stock} for prize in rules.prizes],
        "waiting": rules.waiting,
        "weights": rules.weights.model_dump(),
        "confirm": rules.confirm and rules.confirm.model_dump(),
        "beacon": {
            "source": beacon.source,
            "value_bytes": beacon.value_bytes,
            "rounds": [
                {"round": each.round, "due_at": utc(each.due_at), "wait_until": utc(each.wait_until)}
                for each in beacon.rounds
            ],
        },
    }


def utc(at: datetime) -> str:
    """A time as published documents spell it: to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def faults(rules: DrawRules, drop_id: str, closes_at: datetime, items: Sequence[str]) -> Faults:
    """What makes no legal draw, each with its place in the definition."""
    found = [*_terms_faults(terms(rules, drop_id, closes_at)), *_url_faults(rules.beacon.url)]
    if list(items) != [ENTRY]:
        found.append((("items",), f"a draw takes entries: leave the items out, or name the one item {ENTRY!r}"))
    if len(drop_id) > _ID_CHARS_MAX:
        found.append((("id",), f"a draw's has at most {_ID_CHARS_MAX} characters: its prizes' is longer"))
    if rules.collect_until <= rules.beacon.rounds[-1].wait_until:
        found.append((("draw", "collect_until"), "must be after the last round of the beacon was waited for"))
    if rules.waiting and rules.confirm is None:
        found.append((("draw", "waiting"), "must be 0 without `confirm`: each prize is its winner's at once"))
    for index, earlier in enumerate(rules.misses_in):
        if earlier == drop_id or earlier in rules.misses_in[:index]:
            found.append((("draw", "misses_in", index), f"{earlier!r} is this draw, or stands twice"))
    return found


def _terms_faults(of: verify.Json) -> Faults:
    whole = {"format": verify.DRAW, **of, "secret_sha256": "0" * 64}
    try:
        verify.expect(whole, verify.DRAW_TERMS, "terms")
    except verify.Unreadable as error:
        where, _, problem = str(error).partition(": ")
        return [(_place(where), problem)]
    return [(_place(where), f"{verify.show(value)} {instead}") for where, value, instead in verify.draw_faults(whole)]


def _place(where: str) -> Place:
    """A place in the terms, such as `terms.beacon.rounds[0].due_at`, as one in the definition."""
    parts = [int(part) if part.isdigit() else part for part in _WORDS.findall(where)[1:]]
    return (*([] if parts[:1] == ["closes_at"] else ["draw"]), *parts)


def _url_faults(url: str | None) -> Faults:
    if url is None:
        return []
    try:
        parts = urlsplit(url.replace(ROUND_PLACE, "1"))
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_web = False
    if not is_web or not url.isascii() or not url.isprintable() or parts.username is not None or " " in url:
        return [(("draw", "beacon", "url"), "is not an address such as https://api.example.org/public/{round}")]
    if ROUND_PLACE not in url:
        return [(("draw", "beacon", "url"), f"must hold {ROUND_PLACE}, where the round's number goes")]
    return []
