"""A campaign as YAML and as JSON, with its drops in it: the same names in files, API and pages.

A drop in it says what a drop's own file says. What it leaves out of `INHERITED` is the campaign's, and so is what it
says like the campaign: it then moves with the campaign, as a wave at the opening moves with its drop. Faults are told
as a drop's are (engine/definitions.py).
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from engine import ids
from engine.bounds import CAMPAIGN_DAYS_MAX, DROP_ID_CHARS_MAX, FAMILY_DROPS_MAX, LONG_TEXT_CHARS_MAX
from engine.definitions import DefinitionInvalid, Faults, from_yaml, nearest, refuse, validated
from engine.drops.fields import Identifier, Texts, printable, twice
from engine.drops.gates import Gates
from engine.drops.membership import Limits, Membership, zone_name
from engine.drops.spec import AMENDABLE, DropSpec, SpecInvalid, amended, town_faults
from engine.members.predicate import Eligibility, Predicate
from engine.towns import Towns

INHERITED = ("organisation", "opens_at", "closes_at", "eligibility", "gates")
LongText = Annotated[
    str, Field(min_length=1, max_length=LONG_TEXT_CHARS_MAX), AfterValidator(lambda text: _printable_lines(text))
]
_YEARS = range(2000, 2200)  # what a calendar knows, with a shift to either side
_COUNT_NOT = frozenset({"draw"})  # allocations whose claims are entries: they give nothing out yet


class CampaignInvalid(DefinitionInvalid):
    """A definition that makes no legal campaign."""

    code: ClassVar[str] = "campaign-invalid"


class _Outline(BaseModel):
    """A campaign without its drops."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Identifier
    theme: Texts
    text: dict[Literal["zh", "en"], LongText] = {}
    organisation: Identifier
    opens_at: AwareDatetime
    closes_at: AwareDatetime
    time_zone: Annotated[str, Field(max_length=60), AfterValidator(zone_name)]
    limits: Limits = Limits()
    eligibility: Eligibility = Predicate()
    gates: Gates = Gates()

    @model_validator(mode="after")
    def _has_a_window(self) -> Self:
        faults: Faults = []
        if self.closes_at <= self.opens_at:
            words = f"the campaign ends ({self.closes_at}) before it starts ({self.opens_at})"
            faults.append((("closes_at",), words))
        elif self.closes_at - self.opens_at > timedelta(days=CAMPAIGN_DAYS_MAX):
            faults.append((("closes_at",), f"the campaign lasts more than {CAMPAIGN_DAYS_MAX} days"))
        if self.opens_at.year not in _YEARS:
            faults.append((("opens_at",), f"the year is not from {_YEARS[0]} to {_YEARS[-1]}"))
        refuse(faults)
        return self


class CampaignSpec(_Outline):
    """The definition of a campaign; its drops stand in it whole, each without its place in the campaign."""

    counts: tuple[str, ...] | None = None  # the drops that the limits count; None: all but entries of draws
    drops: Annotated[tuple[DropSpec, ...], Field(min_length=1, max_length=FAMILY_DROPS_MAX)]

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, data: Any) -> Any:
        """Give each drop what it leaves out."""
        if not isinstance(data, Mapping) or not isinstance(data.get("drops"), list | tuple):
            return data
        common = {name: data[name] for name in INHERITED if name in data}
        return {**data, "drops": [{**common, **one} if isinstance(one, Mapping) else one for one in data["drops"]]}

    @model_validator(mode="after")
    def _is_legal(self) -> Self:
        refuse([*self._drop_faults(), *self._count_faults()])
        return self

    @property
    def counting(self) -> tuple[str, ...]:
        """The drops that the limits count."""
        if self.counts is not None:
            return self.counts
        return tuple(drop.id for drop in self.drops if drop.allocation not in _COUNT_NOT)

    @property
    def organisations(self) -> tuple[str, ...]:
        """Whose campaign it is, and whose drops stand in it; each once."""
        return tuple(dict.fromkeys((self.organisation, *(drop.organisation for drop in self.drops))))

    def placed(self) -> tuple[DropSpec, ...]:
        """The drops as the drop service has them: each knows the campaign, and which drops count together with it."""
        return tuple(drop.model_copy(update={"campaign": self._membership(drop.id)}) for drop in self.drops)

    def drop(self, drop_id: str) -> DropSpec | None:
        return next((drop for drop in self.drops if drop.id == drop_id), None)

    def stated(self) -> dict[str, Any]:
        """The definition in JSON, each drop without what it has in common with the campaign."""
        whole = self.model_dump(mode="json", by_alias=True)
        for told, drop in zip(whole["drops"], self.drops, strict=True):
            del told["campaign"]
            for name in INHERITED:
                if getattr(drop, name) == getattr(self, name):
                    del told[name]
        return whole

    def _membership(self, drop_id: str) -> Membership:
        if drop_id not in self.counting:
            return Membership(id=self.id, time_zone=self.time_zone, drops=(drop_id,))
        return Membership(id=self.id, time_zone=self.time_zone, limits=self.limits, drops=self.counting)

    def _drop_faults(self) -> Faults:
        faults = twice([drop.id for drop in self.drops], "drops")
        for index, drop in enumerate(self.drops):
            if drop.campaign is not None:
                faults.append((("drops", index, "campaign"), "leave it out: the drop is of the campaign it stands in"))
            if drop.instant is not None and drop.instant.committed is not None:
                faults.append((("drops", index, "instant", "committed"), "leave it out: it comes by the launch"))
            for name, is_inside in (
                ("opens_at", self.opens_at <= drop.opens_at),
                ("closes_at", drop.closes_at <= self.closes_at),
            ):
                if not is_inside:
                    moment = getattr(drop, name)
                    faults.append((("drops", index, name), f"{moment} is outside the campaign's window"))
        return faults

    def _count_faults(self) -> Faults:
        known, counts = {drop.id for drop in self.drops}, self.counts or ()
        faults: Faults = []
        for index, drop_id in enumerate(counts):
            if drop_id not in known:
                faults.append((("counts", index), f"the campaign has no such drop{nearest(drop_id, sorted(known))}"))
            elif drop_id in counts[:index]:
                faults.append((("counts", index), f"{drop_id!r} stands twice"))
        return faults


def _printable_lines(text: str) -> str:
    printable(text.replace("\n", ""))
    return text.strip()


def parse_yaml(text: str, source: str) -> CampaignSpec:
    """The campaign that a YAML text defines; `source` is the file's name. Raises `CampaignInvalid`."""
    return parse(from_yaml(text, source, CampaignInvalid), source)


def parse(data: object, source: str, known_towns: Towns | None = None) -> CampaignSpec:
    """The campaign that decoded YAML or JSON defines, in a city of some towns; raises `CampaignInvalid`."""
    if not isinstance(data, Mapping):
        raise CampaignInvalid.of(source, [("", "expected names and values, as in examples/mid-autumn.yaml")])
    try:
        found = validated(CampaignSpec, data, source, CampaignInvalid, towns=known_towns)
    except CampaignInvalid as error:
        raise CampaignInvalid.of(source, _once(data, [*_outline_faults(data), *_faults(error)])) from None
    if known_towns is not None and (faults := _town_faults(found, known_towns)):
        raise CampaignInvalid.of(source, faults)
    return found


def _town_faults(spec: CampaignSpec, known_towns: Towns) -> list[tuple[str, str]]:
    own = [(index, drop) for index, drop in enumerate(spec.drops) if drop.gates != spec.gates]
    return town_faults(spec.gates, known_towns) + [
        (f"drops.{index}.{field}", problem)
        for index, drop in own
        for field, problem in town_faults(drop.gates, known_towns)
    ]


def _faults(error: CampaignInvalid) -> list[tuple[str, str]]:
    errors: Any = error.facts["errors"]
    return [(told["field"], told["problem"]) for told in errors]


def _outline_faults(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with the campaign itself: of its drops' faults some only follow from it."""
    own = {name: value for name, value in data.items() if name in _Outline.model_fields}
    try:
        validated(_Outline, own, "", CampaignInvalid)
    except CampaignInvalid as error:
        return _faults(error)
    return []


def _once(data: Mapping[str, Any], faults: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The faults without those that a drop has only because it inherits the campaign's."""
    faulty = {field.partition(".")[0] for field, _ in faults}
    drops = data.get("drops")

    def is_inherited(field: str) -> bool:
        parts = field.split(".")
        if parts[0] != "drops" or len(parts) < 3 or parts[2] not in faulty.intersection(INHERITED):
            return False
        assert isinstance(drops, list | tuple)
        return parts[2] not in drops[int(parts[1])]

    return [(field, problem) for field, problem in dict.fromkeys(faults) if not is_inherited(field)]


def changed(
    spec: CampaignSpec, change: Mapping[str, Any], *, draft: bool, known_towns: Towns | None = None
) -> CampaignSpec:
    """The definition with some names changed; `drops` and `limits` are given whole.

    Drops may join, and none may leave. After the launch a drop may change in what a drop may (engine/drops/spec.py).
    Raises `CampaignInvalid`. What the drops' clocks forbid, the drops themselves say.
    """
    allowed = [name for name in CampaignSpec.model_fields if name != "id"]
    unknown = [name for name in change if name not in allowed]
    if unknown:
        raise CampaignInvalid.of(
            "amendment", [(name[:80], f"cannot be amended{nearest(name, allowed)}") for name in unknown]
        )
    merged = {**spec.stated(), **change}
    if "drops" not in change:
        merged["drops"] = [_with_moved_waves(drop, merged["opens_at"], spec) for drop in merged["drops"]]
    new = parse(merged, "amendment", known_towns)
    missing = [drop.id for drop in spec.drops if new.drop(drop.id) is None]
    faults = [("drops", f"{drop_id!r} is missing: a drop cannot leave its campaign") for drop_id in missing]
    faults += [] if draft else _frozen_faults(spec, new)
    if faults:
        raise CampaignInvalid.of("amendment", faults)
    return new


def _with_moved_waves(drop: dict[str, Any], opens_at: object, spec: CampaignSpec) -> dict[str, Any]:
    """A drop that opens with the campaign takes the waves at its opening along."""
    if "opens_at" in drop:
        return drop
    waves = [
        {**wave, "at": opens_at} if datetime.fromisoformat(wave["at"]) == spec.opens_at else wave
        for wave in drop["waves"]
    ]
    return {**drop, "waves": waves}


def _frozen_faults(old: CampaignSpec, new: CampaignSpec) -> list[tuple[str, str]]:
    """What may not change once drops are launched."""
    faults: list[tuple[str, str]] = []
    for index, drop in enumerate(new.drops):
        before = old.drop(drop.id)
        if before is None:
            continue
        try:
            expected = amended(before, differences(before, drop), draft=False)
        except SpecInvalid as error:
            faults.append((f"drops.{index}", error.detail))
            continue
        faults += [
            (f"drops.{index}.{name}", "cannot be amended after the launch; stock comes by `flashclaim drop restock`")
            for name in DropSpec.model_fields
            if getattr(expected, name) != getattr(drop, name)
        ]
    return faults


def differences(before: DropSpec, after: DropSpec) -> dict[str, Any]:
    """What must be amended, of all that may be after a launch, to make one drop the other; in JSON."""
    names = {name for name in AMENDABLE if getattr(before, name) != getattr(after, name)}
    return after.model_dump(mode="json", by_alias=True, include=names)


def copied(spec: CampaignSpec, new_id: str, opens_on: date) -> CampaignSpec:
    """The campaign under another id, opening on another day: all its moments lie so many whole days later or earlier.

    The days are those of its time zone: what opened at 10:00 opens at 10:00, also across a change of the clocks. Drops
    that are named after the campaign (`autumn-geese` of `autumn`) are named after the new one, others get its id before
    theirs. Raises `CampaignInvalid`.
    """
    ids.name(new_id, "id")
    if opens_on.year not in _YEARS:
        raise CampaignInvalid.of("copy", [("opens_on", f"the year is not from {_YEARS[0]} to {_YEARS[-1]}")])
    drawn = [
        (f"drops.{drop.id}", "is a draw, whose beacon's rounds must be named anew: define it in the new campaign")
        for drop in spec.drops
        if drop.draw is not None
    ]
    if drawn:
        raise CampaignInvalid.of("copy", drawn)
    zone = ZoneInfo(spec.time_zone)
    days = opens_on - spec.opens_at.astimezone(zone).date()
    names = {drop.id: _copied_id(drop.id, spec.id, new_id) for drop in spec.drops}
    too_long = [
        (f"drops.{name}", f"is too long with {new_id!r} before it")
        for name in names.values()
        if len(name) > DROP_ID_CHARS_MAX
    ]
    if too_long:
        raise CampaignInvalid.of("copy", too_long)
    told = _moved(spec.stated(), zone, days)
    drops = [{**drop, "id": names[drop["id"]]} for drop in told["drops"]]
    counts = None if spec.counts is None else [names[drop_id] for drop_id in spec.counts]
    return parse({**told, "id": new_id, "drops": drops, "counts": counts}, "copy")


def _copied_id(drop_id: str, old_id: str, new_id: str) -> str:
    return new_id + drop_id.removeprefix(old_id) if drop_id.startswith(f"{old_id}-") else f"{new_id}-{drop_id}"


# Of drops, waves, allotments, an instant win's curve. An item may be called the same; its stock is no text.
_MOMENTS = frozenset({"opens_at", "closes_at", "at", "until"})


def _moved(told: Any, zone: ZoneInfo, days: timedelta) -> Any:
    """A definition in JSON with every moment in it moved."""
    if isinstance(told, list):
        return [_moved(part, zone, days) for part in told]
    if not isinstance(told, dict):
        return told
    return {
        name: later(datetime.fromisoformat(part), zone, days).isoformat()
        if name in _MOMENTS and isinstance(part, str)
        else _moved(part, zone, days)
        for name, part in told.items()
    }


def later(moment: datetime, zone: ZoneInfo, days: timedelta) -> datetime:
    """The same time of day so many days later in a zone.

    A time that the clocks leave out on that day is meant by the offset from before, as RFC 5545, 3.3.5 has it.
    """
    local = moment.astimezone(zone)
    on = datetime.combine(local.date() + days, local.time(), zone)
    return on.astimezone(ZoneInfo("UTC")).astimezone(zone)
