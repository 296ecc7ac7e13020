"""Stock that is reserved for a town's members until a moment, and then is everybody's: how a drop states it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from engine import towns
from engine.bounds import STOCK_MAX
from engine.definitions import Faults, nearest
from engine.drops.fields import Part, Text
from engine.towns import TOWNS_MAX, Towns


class Allotment(Part):
    """Units of an item that are reserved for a town's members until a moment, and then are everybody's.

    `number` is the town's place in the towns' file; it is looked up when the drop is defined.
    """

    item: str
    town: Text
    number: Annotated[int, Field(ge=1, le=TOWNS_MAX, strict=True)]
    stock: Annotated[int, Field(ge=1, le=STOCK_MAX, strict=True)]
    until: AwareDatetime

    @model_validator(mode="before")
    @classmethod
    def _find_town(cls, data: Any, info: ValidationInfo) -> Any:
        given: Towns | None = (info.context or {}).get("towns")
        if not isinstance(data, Mapping) or not isinstance(data.get("town"), str) or ("number" in data and not given):
            return data
        known = given or towns.load()
        found = known.named(data["town"])
        if found is None:
            hint = nearest(data["town"], known.zh())
            raise PydanticCustomError("town", "there is no such town{hint}", {"hint": hint})
        return {**data, "town": found.zh, "number": found.number}


def allotment_faults(
    allotments: tuple[Allotment, ...], at_opening: Mapping[str, int], opens_at: datetime, closes_at: datetime
) -> Faults:
    """What is reserved is there from the opening on: so no town's reserve ever exceeds what is released.

    `at_opening` is how many units of each item are released with the opening.
    """
    faults: Faults = []
    left, seen = dict(at_opening), set[tuple[str, int]]()
    for index, part in enumerate(allotments):
        if part.item not in left:
            faults.append((("allotments", index, "item"), f"no such item{nearest(part.item, left)}"))
            continue
        if (part.item, part.number) in seen:
            faults.append((("allotments", index), f"{part.town} has an allotment of {part.item!r} already"))
        if not opens_at < part.until <= closes_at:
            faults.append((("allotments", index, "until"), f"{part.until} is outside the drop's window"))
        seen.add((part.item, part.number))
        left[part.item] -= part.stock
    return faults + [
        (("allotments",), f"{-units} more units of {item!r} than are there at the opening")
        for item, units in left.items()
        if units < 0
    ]
