"""What an organisation is, and what makes a tree of them: pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.bounds import FAULTS_TOLD_MAX, ORGANISATION_DEPTH_MAX, TEXT_CHARS_MAX
from engine.errors import Invalid, Refused
from engine.members.attributes import nearest
from engine.members.conditions import Name, Text
from engine.towns import Towns

Kind = Literal["city", "town", "enterprise"]
Fault = tuple[str, str]  # a place and a problem


class NoSuchOrganisation(Refused):
    code: ClassVar[str] = "no-such-organisation"


class NotYourOrganisation(Refused):
    """An operator of one organisation asks for what is not of it, nor of one under it; or for what does not exist."""

    code: ClassVar[str] = "not-your-organisation"


class OrganisationInvalid(Invalid):
    """What makes no organisation, or no tree; the fact `errors` lists each place with its problem."""

    code: ClassVar[str] = "organisation-invalid"


class Organisation(BaseModel):
    """A union body. `parent` is the one above it, which only a city has not; `town` is where it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Name
    kind: Kind
    title: Annotated[dict[Literal["zh", "en"], Text], Field(min_length=1)]
    parent: Name | None = None
    town: Annotated[str, Field(max_length=TEXT_CHARS_MAX)] | None = None

    def shown(self) -> dict[str, Any]:
        """As a body of the API and a record of acts have it."""
        return self.model_dump(exclude_none=True)


def parsed(data: object, place: str, towns: Towns) -> tuple[Organisation | None, list[Fault]]:
    """The organisation that decoded data describes, its town by its Chinese name, and every fault in it."""
    if not isinstance(data, Mapping):
        return None, [(place, "expected an id, a kind, a title and a parent")]
    try:
        found = Organisation.model_validate(data)
    except ValidationError as error:
        return None, [_fault(place, detail) for detail in error.errors()[:FAULTS_TOLD_MAX]]
    if found.town is None:
        return found, []
    town = towns.named(found.town)
    if town is None:
        return None, [(f"{place}.town", f"no such town{nearest(found.town, towns.zh())}")]
    return found.model_copy(update={"town": town.zh}), []


def tree_faults(given: Sequence[tuple[str, Organisation]], known: Mapping[str, str | None]) -> list[Fault]:
    """What keeps organisations, each with its place, from making a tree with those that are `known` (id to parent)."""
    faults: list[Fault] = []
    parents: dict[str, str | None] = {**known, **{found.id: found.parent for _, found in given}}
    seen: set[str] = set()
    for place, found in given:
        if found.id in seen:
            faults.append((f"{place}.id", f"{found.id!r} stands twice"))
        seen.add(found.id)
        if (found.kind == "city") != (found.parent is None):
            faults.append((f"{place}.parent", "a city has none, a town and an enterprise have one"))
        elif found.parent is not None and found.parent not in parents:
            faults.append((f"{place}.parent", f"no such organisation{nearest(found.parent, list(parents))}"))
        elif len(path(found.id, parents)) > ORGANISATION_DEPTH_MAX:
            faults.append((f"{place}.parent", f"it would be under itself, or more than {ORGANISATION_DEPTH_MAX} deep"))
        if len(faults) >= FAULTS_TOLD_MAX:
            break
    # What is there already may get too deep by what is put above it.
    if not faults and (deep := _too_deep(parents)):
        faults.append((deep, f"would be under itself, or more than {ORGANISATION_DEPTH_MAX} deep"))
    return faults


def path(organisation: str, parents: Mapping[str, str | None]) -> list[str]:
    """An organisation and those above it, up to the root; cut off where it is longer than a tree may be."""
    found = [organisation]
    while (above := parents.get(found[-1])) is not None and len(found) <= ORGANISATION_DEPTH_MAX:
        found.append(above)
    return found


def invalid(source: str, faults: Iterable[Fault]) -> OrganisationInvalid:
    """The error that tells faults."""
    told = list(faults)[:FAULTS_TOLD_MAX]
    lines = [f"{source}: {place}: {problem}" for place, problem in told]
    return OrganisationInvalid(
        "\n".join(lines), errors=[{"field": place, "problem": problem} for place, problem in told]
    )


def _too_deep(parents: Mapping[str, str | None]) -> str | None:
    return next((found for found in parents if len(path(found, parents)) > ORGANISATION_DEPTH_MAX), None)


def _fault(place: str, detail: Any) -> Fault:
    where = ".".join([place, *(str(part)[:80] for part in detail["loc"] if part != "[key]")])
    if detail["type"] == "extra_forbidden":
        return where, f"unknown name{nearest(str(detail['loc'][-1]), list(Organisation.model_fields))}"
    if detail["type"] == "missing":
        return where, "is missing"
    return where, f"{detail['msg'][0].lower()}{detail['msg'][1:]}"
