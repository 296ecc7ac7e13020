"""A drop as YAML and as JSON: the same names in files, API and pages.

Unknown names are refused with the nearest known one; every fault is one sentence that names the file and the field,
all of them at once (up to a hundred), and nothing is changed by a file with a fault.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from engine import ids, towns
from engine.bounds import (
    ALLOTMENTS_MAX,
    FAULTS_TOLD_MAX,
    ITEMS_MAX,
    LIMIT_PER_MEMBER_MAX,
    PROOF_BITS_MAX,
    STOCK_MAX,
    WAVES_MAX,
)
from engine.definitions import DefinitionInvalid, Fault, from_yaml, nearest, refuse, told, validated
from engine.drops.membership import Membership
from engine.errors import Misconfigured
from engine.towns import TOWNS_MAX, Towns

Identifier = Annotated[str, AfterValidator(lambda text: ids.name(text, "id"))]
Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(lambda text: printable(text))]
Texts = Annotated[dict[Literal["zh", "en"], Text], Field(min_length=1)]
Stock = Annotated[int, Field(ge=0, le=STOCK_MAX, strict=True)]
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
AMENDABLE = ("title", "opens_at", "closes_at", "limit_per_member", "eligibility", "proof_of_work", "campaign")


class SpecInvalid(DefinitionInvalid):
    """A definition that makes no legal drop; the fact `errors` lists each field with its problem."""

    code: ClassVar[str] = "spec-invalid"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(_Part):
    """A kind of stock inside a drop; `weight_jin` is the weight of one unit, for goods that are weighed."""

    id: Identifier
    title: Texts
    stock: Stock
    weight_jin: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = None


class Wave(_Part):
    """A part of the stock that is released at its own time."""

    at: AwareDatetime
    stock: dict[str, Annotated[int, Field(ge=0, le=STOCK_MAX, strict=True)]]


class Condition(_Part):
    """What one attribute of a member must be for the drop to be theirs."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    in_: tuple[Text, ...] = Field(alias="in", min_length=1, max_length=10_000)


Eligibility = dict[Literal["town", "sector"], Condition]


class Allotment(_Part):
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
            raise PydanticCustomError(
                "town", "there is no such town{near}", {"near": nearest(data["town"], known.zh())}
            )
        return {**data, "town": found.zh, "number": found.number}


class Work(_Part):
    """What a ticket costs a client's machine: a hash that begins with so many zero bits (engine/gates/)."""

    bits: Annotated[int, Field(ge=1, le=PROOF_BITS_MAX, strict=True)]


class DropSpec(_Part):
    """The definition of a drop. `waves` may be left out: then all stock is there at the opening."""

    id: Identifier
    title: Texts
    organisation: Identifier
    allocation: Literal["rush"]
    opens_at: AwareDatetime
    closes_at: AwareDatetime
    limit_per_member: Annotated[int, Field(ge=1, le=LIMIT_PER_MEMBER_MAX, strict=True)] = 1
    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=ITEMS_MAX)]
    waves: Annotated[tuple[Wave, ...], Field(max_length=WAVES_MAX)] = ()
    allotments: Annotated[tuple[Allotment, ...], Field(max_length=ALLOTMENTS_MAX)] = ()
    campaign: Membership | None = None
    eligibility: Eligibility = {}
    proof_of_work: Work | None = None

    @model_validator(mode="after")
    def _is_legal(self) -> Self:
        refuse(
            [
                *self._window_faults(),
                *self._item_faults(),
                *self._wave_faults(),
                *self._allotment_faults(),
                *self._campaign_faults(),
            ]
        )
        return self

    def releases(self) -> tuple[Wave, ...]:
        """The waves; where none are given, one wave of all stock at the opening."""
        return self.waves or (Wave(at=self.opens_at, stock={item.id: item.stock for item in self.items}),)

    def _window_faults(self) -> list[Fault]:
        if self.closes_at > self.opens_at:
            return []
        return [(("closes_at",), f"the drop ends ({self.closes_at}) before it starts ({self.opens_at})")]

    def _allotment_faults(self) -> list[Fault]:
        """What is reserved is there from the opening on: so no town's reserve ever exceeds what is released."""
        at_opening = {item.id: 0 for item in self.items}
        for wave in self.releases():
            if wave.at <= self.opens_at:
                for item_id, quantity in wave.stock.items():
                    at_opening[item_id] = at_opening.get(item_id, 0) + quantity
        faults: list[Fault] = []
        seen: set[tuple[str, int]] = set()
        for index, part in enumerate(self.allotments):
            if part.item not in at_opening:
                faults.append((("allotments", index, "item"), f"no such item{nearest(part.item, at_opening)}"))
                continue
            if (part.item, part.number) in seen:
                faults.append((("allotments", index), f"{part.town} has an allotment of {part.item!r} already"))
            if not self.opens_at < part.until <= self.closes_at:
                faults.append((("allotments", index, "until"), f"{part.until} is outside the drop's window"))
            seen.add((part.item, part.number))
            at_opening[part.item] -= part.stock
        for item_id, left in at_opening.items():
            if left < 0:
                faults.append((("allotments",), f"{-left} more units of {item_id!r} than are there at the opening"))
        return faults

    def _campaign_faults(self) -> list[Fault]:
        if self.campaign is None or self.id in self.campaign.drops:
            return []
        return [(("campaign", "drops"), f"{self.id!r} is not among them")]

    def _item_faults(self) -> list[Fault]:
        seen: set[str] = set()
        faults: list[Fault] = []
        for index, item in enumerate(self.items):
            if item.id in seen:
                faults.append((("items", index, "id"), f"{item.id!r} stands twice: give each item its own id"))
            seen.add(item.id)
        return faults

    def _wave_faults(self) -> list[Fault]:
        faults: list[Fault] = []
        sums = {item.id: 0 for item in self.items}
        for index, wave in enumerate(self.waves):
            if not self.opens_at <= wave.at < self.closes_at:
                faults.append((("waves", index, "at"), f"{wave.at} is outside the drop's window"))
            for item_id, quantity in wave.stock.items():
                if item_id in sums:
                    sums[item_id] += quantity
                elif len(faults) < FAULTS_TOLD_MAX:
                    known = nearest(item_id, sums)
                    faults.append((("waves", index, "stock", item_id), f"no such item{known}"))
        if self.waves and not faults:
            for item in self.items:
                if sums[item.id] != item.stock:
                    faults.append(
                        (("waves",), f"the waves release {sums[item.id]} of {item.id!r}, its stock is {item.stock}")
                    )
        return faults


def parse_yaml(text: str, source: str) -> DropSpec:
    """The drop that a YAML text defines; `source` is the file's name, for the faults. Raises `SpecInvalid`."""
    return parse(from_yaml(text, source, SpecInvalid), source)


def parse(data: object, source: str, known_towns: Towns | None = None) -> DropSpec:
    """The drop that decoded YAML or JSON defines; its towns are looked up among those given, else Dongguan's.

    Raises `SpecInvalid` with every fault.
    """
    if not isinstance(data, Mapping):
        raise SpecInvalid.of(source, [("", "expected names and values, as in examples/lychee-2025.yaml")])
    return validated(DropSpec, data, source, SpecInvalid, towns=known_towns)


def located(change: Mapping[str, Any], known_towns: Towns) -> Mapping[str, Any]:
    """A change with the numbers of the towns that it names; raises `SpecInvalid` for a town that there is not."""
    if not isinstance(change.get("allotments"), list):
        return change
    try:
        found = TypeAdapter(list[Allotment]).validate_python(change["allotments"], context={"towns": known_towns})
    except ValidationError as error:
        details = error.errors()[:FAULTS_TOLD_MAX]
        raise SpecInvalid.of("amendment", told(details, DropSpec, within=("allotments",))) from None
    return {**change, "allotments": [part.model_dump(mode="json") for part in found]}


def amended(spec: DropSpec, change: Mapping[str, Any], *, draft: bool) -> DropSpec:
    """The definition with some fields changed.

    A draft may change in all but its id. After the launch only title, window, limit, eligibility and proof of work
    may change: stock comes by restocking. A wave that is at the old opening moves with it.
    """
    allowed = [name for name in DropSpec.model_fields if name != "id"] if draft else list(AMENDABLE)
    faults = [
        (name[:80], f"cannot be amended{nearest(name, allowed)}; what can: {', '.join(allowed)}")
        for name in [name for name in change if name not in allowed][:FAULTS_TOLD_MAX]
    ]
    if faults:
        raise SpecInvalid.of("amendment", faults)
    merged = {**spec.model_dump(mode="json", by_alias=True), **change}
    if "waves" not in change and "opens_at" in change:
        old = spec.model_dump(mode="json")["opens_at"]
        merged["waves"] = [
            {**wave, "at": change["opens_at"]} if wave["at"] == old else wave for wave in merged["waves"]
        ]
    return parse(merged, "amendment")


def rescheduled(spec: DropSpec, opens_at: datetime, speed: float) -> DropSpec:
    """The same drop at another time, for rehearsals: it opens at `opens_at`, and all gaps are divided by `speed`."""
    if not 0.001 <= speed <= 1_000_000:
        raise Misconfigured(f"speed {speed} is not from 0.001 to 1,000,000")

    def moved(instant: datetime) -> datetime:
        return opens_at + timedelta(seconds=(instant - spec.opens_at).total_seconds() / speed)

    return DropSpec.model_validate(
        {
            **spec.model_dump(by_alias=True),
            "opens_at": opens_at,
            "closes_at": moved(spec.closes_at),
            "waves": [{**wave.model_dump(), "at": moved(wave.at)} for wave in spec.waves],
            "allotments": [{**part.model_dump(), "until": moved(part.until)} for part in spec.allotments],
        }
    )


def printable(text: str) -> str:
    """PostgreSQL keeps no zero byte in a text, and no page shows a control character."""
    if _CONTROLS.search(text):
        raise PydanticCustomError("printable", "has a control character")
    return text
