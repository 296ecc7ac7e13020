"""What the definition of an instant win says beside that of any drop: the curve, the rules, the blank. Pure.

The items are the prizes, and the last one, `no-prize`, is what a play without a prize gets. The shuffle itself is made
in engine/draws/, from a secret that no definition holds.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field
from pydantic_core import PydanticCustomError

from engine.bounds import CURVE_POINTS_MAX, PARTITIONS_MAX, PRIZES_MAX, RULES_CHARS_MAX, STOCK_MAX
from engine.definitions import Place
from engine.drops.fields import Part

if TYPE_CHECKING:
    from engine.drops.spec import DropSpec

NO_PRIZE = "no-prize"
SHARE_PPM_MAX = 1_000_000
BLANK: Mapping[str, Any] = {
    "id": NO_PRIZE,
    "title": {"zh": "谢谢参与", "en": "No prize this time"},
    "stock": STOCK_MAX,
}
_UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_Lines = Annotated[str, Field(min_length=1, max_length=RULES_CHARS_MAX), AfterValidator(lambda text: _printable(text))]
_Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class CurvePoint(Part):
    """By `at` this share of all units, in millionths, is released; between two points on a straight line."""

    at: AwareDatetime
    share_ppm: Annotated[int, Field(ge=0, le=SHARE_PPM_MAX, strict=True)]


class Committed(Part):
    """What the launch committed to, for everybody to see; `key_id` names the key that the secret is made with."""

    key_id: Annotated[int, Field(ge=0, le=255, strict=True)]
    partitions: Annotated[int, Field(ge=1, le=PARTITIONS_MAX, strict=True)]
    secret_sha256: _Hash
    commitment: _Hash


class Instant(Part):
    """How an instant win is paced, and its published rules; `committed` is there from the launch on."""

    curve: Annotated[tuple[CurvePoint, ...], Field(min_length=1, max_length=CURVE_POINTS_MAX)]
    rules: Annotated[dict[Literal["zh", "en"], _Lines], Field(min_length=1)]
    committed: Committed | None = None


def with_blank(data: Any) -> Any:
    """The definition of an instant win with the blank as its last item; any other as it is."""
    if not isinstance(data, Mapping) or data.get("allocation") != "instant":
        return data
    items = data.get("items")
    if not isinstance(items, list | tuple) or any(_id(item) == NO_PRIZE for item in items):
        return data
    return {**data, "items": [*items, BLANK]}


def faults(spec: "DropSpec") -> Iterator[tuple[Place, str]]:
    """Where the parts of a definition do not make an instant win, or belong to none."""
    if spec.allocation != "instant":
        if spec.instant is not None:
            yield ("instant",), "belongs to `allocation: instant` alone"
        return
    if spec.instant is None:
        yield ("instant",), "is missing: the curve, and the rules that members read"
    else:
        yield from _curve_faults(spec, spec.instant)
    for name in ("waves", "allotments"):
        if getattr(spec, name):
            yield (name,), "cannot be with an instant win: the curve says what is released when"
    yield from _prize_faults(spec)


def fixed(spec: "DropSpec") -> frozenset[str]:
    """What cannot be amended after the launch, though of other drops it can: the commitment holds it."""
    return frozenset({"opens_at", "closes_at"} if spec.instant else ())


def committed(spec: "DropSpec", change: Mapping[str, Any]) -> "DropSpec":
    """The definition as its launch leaves it: of an instant win with what was committed to."""
    if spec.instant is None:
        return spec
    given = Committed.model_validate(change["committed"])
    return spec.model_copy(update={"instant": spec.instant.model_copy(update={"committed": given})})


def _curve_faults(spec: "DropSpec", instant: Instant) -> Iterator[tuple[Place, str]]:
    before: CurvePoint | None = None
    for index, point in enumerate(instant.curve):
        place = ("instant", "curve", index)
        if not spec.opens_at <= point.at < spec.closes_at:
            yield (*place, "at"), f"{point.at} is outside the drop's window"
        if before is not None and (point.at - before.at).total_seconds() < 0.001:
            yield (*place, "at"), f"{point.at} is not after the point before it, {before.at}"
        if before is not None and point.share_ppm < before.share_ppm:
            yield (*place, "share_ppm"), f"{point.share_ppm} is less than the share before it, {before.share_ppm}"
        before = point
    last = instant.curve[-1].share_ppm
    if last != SHARE_PPM_MAX:
        where = ("instant", "curve", len(instant.curve) - 1, "share_ppm")
        yield where, f"the last share is {SHARE_PPM_MAX}, so that all prizes go out, not {last}"


def _prize_faults(spec: "DropSpec") -> Iterator[tuple[Place, str]]:
    *prizes, blank = spec.items
    if (blank.id, blank.stock) != (NO_PRIZE, STOCK_MAX) or any(prize.id == NO_PRIZE for prize in prizes):
        yield ("items",), f"{NO_PRIZE!r} is the last item, with a stock of {STOCK_MAX}: leave it out, it adds itself"
    if not prizes:
        yield ("items",), "there is no prize"
    for index, prize in enumerate(prizes):
        if prize.stock == 0:
            yield ("items", index, "stock"), "a prize has at least one unit"
    if (units := sum(prize.stock for prize in prizes)) > PRIZES_MAX:
        yield ("items",), f"{units} prizes are more than {PRIZES_MAX}"


def _id(item: Any) -> object:
    return item.get("id") if isinstance(item, Mapping) else getattr(item, "id", None)


def _printable(text: str) -> str:
    """Rules may have lines; but PostgreSQL keeps no zero byte, and no page shows another control character."""
    if _UNPRINTABLE.search(text):
        raise PydanticCustomError("printable", "has a control character")
    return text
