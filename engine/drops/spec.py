"""A drop as YAML and as JSON: the same names in files, API and pages.

Unknown names are refused with the nearest known one; every fault is one sentence that names the file and the field,
all of them at once (up to a hundred), and nothing is changed by a file with a fault.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError, model_validator

from engine.bounds import (
    ALLOTMENTS_MAX,
    FAULTS_TOLD_MAX,
    ITEMS_MAX,
    LIMIT_PER_MEMBER_MAX,
    STOCK_MAX,
    WAVES_MAX,
)
from engine.definitions import DefinitionInvalid, Faults, from_yaml, nearest, refuse, told, validated
from engine.drops import draw_rules, instant_rules
from engine.drops.allotments import Allotment, allotment_faults
from engine.drops.draw_rules import DrawRules
from engine.drops.fields import Identifier, Part, Texts, twice
from engine.drops.gates import Gates
from engine.drops.instant_rules import Instant
from engine.drops.membership import Membership
from engine.errors import Misconfigured
from engine.members.predicate import Eligibility, Predicate
from engine.towns import Towns

Stock = Annotated[int, Field(ge=0, le=STOCK_MAX, strict=True)]
AMENDABLE = ("title", "opens_at", "closes_at", "limit_per_member", "eligibility", "gates", "campaign")


class SpecInvalid(DefinitionInvalid):
    """A definition that makes no legal drop; the fact `errors` lists each field with its problem."""

    code: ClassVar[str] = "spec-invalid"


class Item(Part):
    """A kind of stock inside a drop; `weight_jin` is the weight of one unit, for goods that are weighed."""

    id: Identifier
    title: Texts
    stock: Stock
    weight_jin: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = None


class Wave(Part):
    """A part of the stock that is released at its own time."""

    at: AwareDatetime
    stock: dict[str, Annotated[int, Field(ge=0, le=STOCK_MAX, strict=True)]]


class DropSpec(Part):
    """The definition of a drop. `waves` may be left out: then all stock is there at the opening."""

    id: Identifier
    title: Texts
    organisation: Identifier
    allocation: Literal["rush", "draw", "instant", "grant"]
    opens_at: AwareDatetime
    closes_at: AwareDatetime
    limit_per_member: Annotated[int, Field(ge=1, le=LIMIT_PER_MEMBER_MAX, strict=True)] = 1
    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=ITEMS_MAX)]
    waves: Annotated[tuple[Wave, ...], Field(max_length=WAVES_MAX)] = ()
    allotments: Annotated[tuple[Allotment, ...], Field(max_length=ALLOTMENTS_MAX)] = ()
    campaign: Membership | None = None
    draw: DrawRules | None = None
    instant: Instant | None = None
    eligibility: Eligibility = Predicate()
    gates: Gates = Gates()

    _adds_the_blank = model_validator(mode="before")(instant_rules.with_blank)

    @model_validator(mode="before")
    @classmethod
    def _fill_entry(cls, data: Any) -> Any:
        return draw_rules.with_entry(data)

    @model_validator(mode="after")
    def _is_legal(self) -> Self:
        refuse(
            [
                *self._window_faults(),
                *twice([item.id for item in self.items], "items"),
                *self._wave_faults(),
                *allotment_faults(self.allotments, self._at_opening(), self.opens_at, self.closes_at),
                *self._campaign_faults(),
                *self._draw_faults(),
                *instant_rules.faults(self),
            ]
        )
        return self

    def releases(self) -> tuple[Wave, ...]:
        """The waves; where none are given, one wave of all stock at the opening."""
        return self.waves or (Wave(at=self.opens_at, stock={item.id: item.stock for item in self.items}),)

    def _window_faults(self) -> Faults:
        if self.closes_at > self.opens_at:
            return []
        return [(("closes_at",), f"the drop ends ({self.closes_at}) before it starts ({self.opens_at})")]

    def _at_opening(self) -> dict[str, int]:
        """How many units of each item are released with the opening."""
        found = {item.id: 0 for item in self.items}
        for wave in self.releases():
            for item_id, quantity in wave.stock.items() if wave.at <= self.opens_at else ():
                found[item_id] = found.get(item_id, 0) + quantity
        return found

    def _campaign_faults(self) -> Faults:
        if self.campaign is None or self.id in self.campaign.drops:
            return []
        return [(("campaign", "drops"), f"{self.id!r} is not among them")]

    def _draw_faults(self) -> Faults:
        if self.draw is None:
            return [(("draw",), "is missing")] if self.allocation == "draw" else []
        if self.allocation != "draw":
            return [(("draw",), "is only for allocation 'draw'")]
        return draw_rules.faults(self.draw, self.id, self.closes_at, [item.id for item in self.items])

    def _wave_faults(self) -> Faults:
        faults: Faults = []
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

    A draft may change in all but its id. After the launch only title, window, limit, eligibility and gates
    may change: stock comes by restocking. A wave that is at the old opening moves with it. Of an instant win the
    window, too, was committed to.
    """
    fixed = {"id"} if draft else instant_rules.fixed(spec)
    allowed = [name for name in (DropSpec.model_fields if draft else AMENDABLE) if name not in fixed]
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
    changed = parse(merged, "amendment")
    lost = [] if draft else spec.gates.amend_faults(changed.gates)
    if lost:
        raise SpecInvalid.of("amendment", [(".".join(map(str, place)), problem) for place, problem in lost])
    return changed


def check_towns(spec: DropSpec, towns: Towns) -> None:
    """Raise `SpecInvalid` for a town that the city does not have."""
    if faults := town_faults(spec.gates, towns):
        raise SpecInvalid.of("drop", faults)


def town_faults(gates: Gates, towns: Towns) -> list[tuple[str, str]]:
    """The towns that gates ask for and the city does not have: nobody could ever be there."""
    location, known = gates.location, towns.zh()
    asked = () if location is None or location.towns == "any" else location.towns
    return [
        ("gates.location.towns", f"there is no town {town!r}{nearest(town, known)}")
        for town in asked
        if town not in known
    ]


def rescheduled(spec: DropSpec, opens_at: datetime, speed: float) -> DropSpec:
    """The same drop at another time, for rehearsals: it opens at `opens_at`, and all gaps are divided by `speed`."""
    if not 0.001 <= speed <= 1_000_000:
        raise Misconfigured(f"speed {speed} is not from 0.001 to 1,000,000")

    def moved(instant: datetime) -> datetime:
        return opens_at + timedelta(seconds=(instant - spec.opens_at).total_seconds() / speed)

    instant = spec.instant and {
        "rules": spec.instant.rules,
        "curve": [{"at": moved(point.at), "share_ppm": point.share_ppm} for point in spec.instant.curve],
    }
    return DropSpec.model_validate(
        {
            **spec.model_dump(by_alias=True),
            "instant": instant,
            "opens_at": opens_at,
            "closes_at": moved(spec.closes_at),
            "waves": [{**wave.model_dump(), "at": moved(wave.at)} for wave in spec.waves],
            "allotments": [{**part.model_dump(), "until": moved(part.until)} for part in spec.allotments],
            "draw": spec.draw and spec.draw.moved(moved),
        }
    )
