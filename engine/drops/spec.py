"""A drop as YAML and as JSON: the same names in files, API and pages.

Unknown names are refused with the nearest known one; every fault is one sentence that names the file and the field,
all of them at once (up to a hundred), and nothing is changed by a file with a fault.
"""

import re
from collections.abc import Hashable, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
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
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from engine import ids, towns
from engine.bounds import (
    ALLOTMENTS_MAX,
    FAULTS_TOLD_MAX,
    ITEMS_MAX,
    LIMIT_PER_MEMBER_MAX,
    PROOF_BITS_MAX,
    REQUEST_BODY_BYTES_MAX,
    STOCK_MAX,
    WAVES_MAX,
)
from engine.drops import draw_rules
from engine.drops.draw_rules import DrawRules
from engine.drops.membership import Membership
from engine.errors import Invalid, Misconfigured
from engine.towns import TOWNS_MAX, Towns

Identifier = Annotated[str, AfterValidator(lambda text: ids.name(text, "id"))]
Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(lambda text: _printable(text))]
Texts = Annotated[dict[Literal["zh", "en"], Text], Field(min_length=1)]
Stock = Annotated[int, Field(ge=0, le=STOCK_MAX, strict=True)]
Eligibility = dict[Literal["town", "sector"], "Condition"]
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_AMENDABLE = ("title", "opens_at", "closes_at", "limit_per_member", "eligibility", "proof_of_work", "campaign")


class SpecInvalid(Invalid):
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
                "town", "there is no such town{near}", {"near": _nearest(data["town"], known.zh())}
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
    allocation: Literal["rush", "draw", "grant"]
    opens_at: AwareDatetime
    closes_at: AwareDatetime
    limit_per_member: Annotated[int, Field(ge=1, le=LIMIT_PER_MEMBER_MAX, strict=True)] = 1
    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=ITEMS_MAX)]
    waves: Annotated[tuple[Wave, ...], Field(max_length=WAVES_MAX)] = ()
    allotments: Annotated[tuple[Allotment, ...], Field(max_length=ALLOTMENTS_MAX)] = ()
    campaign: Membership | None = None
    draw: DrawRules | None = None
    eligibility: Eligibility = {}
    proof_of_work: Work | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_entry(cls, data: Any) -> Any:
        return draw_rules.with_entry(data)

    @model_validator(mode="after")
    def _is_legal(self) -> Self:
        faults = [
            *self._window_faults(),
            *self._item_faults(),
            *self._wave_faults(),
            *self._allotment_faults(),
            *self._campaign_faults(),
            *self._draw_faults(),
        ]
        if faults:
            raise ValidationError.from_exception_data(
                "drop",
                [
                    InitErrorDetails(type=PydanticCustomError("drop", "{text}", {"text": text}), loc=place, input=None)
                    for place, text in faults
                ],
            )
        return self

    def releases(self) -> tuple[Wave, ...]:
        """The waves; where none are given, one wave of all stock at the opening."""
        return self.waves or (Wave(at=self.opens_at, stock={item.id: item.stock for item in self.items}),)

    def _window_faults(self) -> list[tuple[tuple[str | int, ...], str]]:
        if self.closes_at > self.opens_at:
            return []
        return [(("closes_at",), f"the drop ends ({self.closes_at}) before it starts ({self.opens_at})")]

    def _allotment_faults(self) -> list[tuple[tuple[str | int, ...], str]]:
        """What is reserved is there from the opening on: so no town's reserve ever exceeds what is released."""
        at_opening = {item.id: 0 for item in self.items}
        for wave in self.releases():
            if wave.at <= self.opens_at:
                for item_id, quantity in wave.stock.items():
                    at_opening[item_id] = at_opening.get(item_id, 0) + quantity
        faults: list[tuple[tuple[str | int, ...], str]] = []
        seen: set[tuple[str, int]] = set()
        for index, part in enumerate(self.allotments):
            if part.item not in at_opening:
                faults.append((("allotments", index, "item"), f"no such item{_nearest(part.item, at_opening)}"))
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

    def _campaign_faults(self) -> list[tuple[tuple[str | int, ...], str]]:
        if self.campaign is None or self.id in self.campaign.drops:
            return []
        return [(("campaign", "drops"), f"{self.id!r} is not among them")]

    def _draw_faults(self) -> list[tuple[tuple[str | int, ...], str]]:
        if self.draw is None:
            return [(("draw",), "is missing")] if self.allocation == "draw" else []
        if self.allocation != "draw":
            return [(("draw",), "is only for allocation 'draw'")]
        return draw_rules.faults(self.draw, self.id, self.closes_at, [item.id for item in self.items])

    def _item_faults(self) -> list[tuple[tuple[str | int, ...], str]]:
        seen: set[str] = set()
        faults: list[tuple[tuple[str | int, ...], str]] = []
        for index, item in enumerate(self.items):
            if item.id in seen:
                faults.append((("items", index, "id"), f"{item.id!r} stands twice: give each item its own id"))
            seen.add(item.id)
        return faults

    def _wave_faults(self) -> list[tuple[tuple[str | int, ...], str]]:
        faults: list[tuple[tuple[str | int, ...], str]] = []
        sums = {item.id: 0 for item in self.items}
        for index, wave in enumerate(self.waves):
            if not self.opens_at <= wave.at < self.closes_at:
                faults.append((("waves", index, "at"), f"{wave.at} is outside the drop's window"))
            for item_id, quantity in wave.stock.items():
                if item_id in sums:
                    sums[item_id] += quantity
                elif len(faults) < FAULTS_TOLD_MAX:
                    known = _nearest(item_id, sums)
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
    if len(text.encode()) > REQUEST_BODY_BYTES_MAX:
        raise _invalid(source, [("", f"larger than {REQUEST_BODY_BYTES_MAX} bytes")])
    try:
        data = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a subclass of SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise _invalid(source, [("", f"not YAML: {place}{problem}")]) from None
    except (ValueError, RecursionError) as error:
        raise _invalid(source, [("", f"not YAML: {error}")]) from None
    return parse(data, source)


def parse(data: object, source: str, known_towns: Towns | None = None) -> DropSpec:
    """The drop that decoded YAML or JSON defines; its towns are looked up among those given, else Dongguan's.

    Raises `SpecInvalid` with every fault.
    """
    if not isinstance(data, Mapping):
        raise _invalid(source, [("", "expected names and values, as in examples/lychee-2025.yaml")])
    try:
        return DropSpec.model_validate(data, context={"towns": known_towns})
    except ValidationError as error:
        raise _invalid(source, [_fault(detail) for detail in error.errors()[:FAULTS_TOLD_MAX]]) from None
    except ids.IdInvalid as error:
        raise _invalid(source, [("id", error.detail)]) from None


def located(change: Mapping[str, Any], known_towns: Towns) -> Mapping[str, Any]:
    """A change with the numbers of the towns that it names; raises `SpecInvalid` for a town that there is not."""
    if not isinstance(change.get("allotments"), list):
        return change
    try:
        found = TypeAdapter(list[Allotment]).validate_python(change["allotments"], context={"towns": known_towns})
    except ValidationError as error:
        details = error.errors()[:FAULTS_TOLD_MAX]
        raise _invalid(
            "amendment", [_fault({**fault, "loc": ("allotments", *fault["loc"])}) for fault in details]
        ) from None
    return {**change, "allotments": [part.model_dump(mode="json") for part in found]}


def amended(spec: DropSpec, change: Mapping[str, Any], *, draft: bool) -> DropSpec:
    """The definition with some fields changed.

    A draft may change in all but its id. After the launch only title, window, limit, eligibility and proof of work
    may change: stock comes by restocking. A wave that is at the old opening moves with it.
    """
    allowed = [name for name in DropSpec.model_fields if name != "id"] if draft else list(_AMENDABLE)
    faults = [
        (name[:80], f"cannot be amended{_nearest(name, allowed)}; what can: {', '.join(allowed)}")
        for name in [name for name in change if name not in allowed][:FAULTS_TOLD_MAX]
    ]
    if faults:
        raise _invalid("amendment", faults)
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
            "draw": spec.draw and spec.draw.moved(moved),
        }
    )


class _StrictLoader(yaml.SafeLoader):
    """YAML without the silent traps: a name that stands twice is a fault, not the last one wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the name {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _printable(text: str) -> str:
    """PostgreSQL keeps no zero byte in a text, and no page shows a control character."""
    if _CONTROLS.search(text):
        raise PydanticCustomError("printable", "has a control character")
    return text


def _fault(detail: ErrorDetails) -> tuple[str, str]:
    place = ".".join(str(part)[:80] for part in detail["loc"] if part != "[key]")
    match detail["type"]:
        case "extra_forbidden":
            known = _fields_at(detail["loc"])
            return place, f"unknown name{_nearest(str(detail['loc'][-1]), known)}"
        case "missing":
            return place, "is missing"
        case "timezone_aware":
            return place, "has no time zone: write it like 2025-06-14T10:00:00+08:00"
        case "literal_error" if detail["loc"] == ("allocation",):
            return place, f"{detail['input']!r} is not built yet: 'rush', 'draw' and 'grant' are"
        case _:
            return place, f"{detail['msg'][0].lower()}{detail['msg'][1:]}{_shown(detail['input'])}"


def _shown(value: object) -> str:
    return f", not {str(value)[:60]!r}" if isinstance(value, str | int | float | bool) else ""


def _fields_at(place: tuple[str | int, ...]) -> list[str]:
    parts: dict[str, type[BaseModel]] = {"items": Item, "waves": Wave, "eligibility": Condition, "proof_of_work": Work}
    parts |= {"allotments": Allotment, "campaign": Membership, "draw": DrawRules}
    part = parts.get(str(place[0]), DropSpec)
    return [field.alias or name for name, field in (part if len(place) > 1 else DropSpec).model_fields.items()]


def _nearest(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known)}"


def _invalid(source: str, faults: list[tuple[str, str]]) -> SpecInvalid:
    lines = [f"{source}: {field}: {problem}" if field else f"{source}: {problem}" for field, problem in faults]
    return SpecInvalid("\n".join(lines), errors=[{"field": field, "problem": problem} for field, problem in faults])
