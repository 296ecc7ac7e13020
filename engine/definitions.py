"""What every definition in YAML and JSON shares: the strict loader, and how its faults are told.

Unknown names are refused with the nearest known one; every fault is one sentence that names the file and the field,
all of them at once (up to a hundred).
"""

from collections.abc import Hashable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from engine import ids
from engine.bounds import FAULTS_TOLD_MAX, REQUEST_BODY_BYTES_MAX
from engine.errors import Invalid

Place = tuple[str | int, ...]
Faults = list[tuple[Place, str]]
_Spec = TypeVar("_Spec", bound=BaseModel)
_TAGS = ("[key]", "[any]", "[some]")  # in a fault's place: what pydantic puts there beside names and numbers


class DefinitionInvalid(Invalid):
    """A definition with faults; the fact `errors` lists each field with its problem."""

    @classmethod
    def of(cls, source: str, faults: Iterable[tuple[str, str]]) -> Self:
        """The error for faults by field; `source` is the file, or whatever the definition came in."""
        told = list(faults)[:FAULTS_TOLD_MAX]
        lines = [f"{source}: {field}: {problem}" if field else f"{source}: {problem}" for field, problem in told]
        return cls("\n".join(lines), errors=[{"field": field, "problem": problem} for field, problem in told])


class StrictLoader(yaml.SafeLoader):
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


def from_yaml(text: str, source: str, invalid: type[DefinitionInvalid]) -> object:
    """What a YAML text holds; `source` is the file's name. Raises `invalid` for one that is none, or too large."""
    if len(text.encode()) > REQUEST_BODY_BYTES_MAX:
        raise invalid.of(source, [("", f"larger than {REQUEST_BODY_BYTES_MAX} bytes")])
    try:
        return yaml.load(text, Loader=StrictLoader)  # noqa: S506 (a subclass of SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise invalid.of(source, [("", f"not YAML: {place}{problem}")]) from None
    except (ValueError, RecursionError) as error:
        raise invalid.of(source, [("", f"not YAML: {error}")]) from None


def validated(
    model: type[_Spec], data: Mapping[str, Any], source: str, invalid: type[DefinitionInvalid], **context: object
) -> _Spec:
    """The definition that decoded YAML or JSON makes; raises `invalid` with every fault."""
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        raise invalid.of(source, told(error.errors()[:FAULTS_TOLD_MAX], model)) from None
    except ids.IdInvalid as error:
        raise invalid.of(source, [("id", error.detail)]) from None


def refuse(faults: Faults) -> None:
    """Raise a `ValidationError` with every fault at its place; nothing where there is none."""
    if faults:
        raise ValidationError.from_exception_data(
            "definition",
            [
                InitErrorDetails(type=PydanticCustomError("rule", "{text}", {"text": text}), loc=place, input=None)
                for place, text in faults
            ],
        )


def told(details: Iterable[ErrorDetails], model: type[BaseModel], within: Place = ()) -> list[tuple[str, str]]:
    """Field and sentence of each fault that pydantic found in a part of a definition, `within` the whole."""
    found = []
    for detail in details:
        if _is_echo(detail):
            continue
        place = (*within, *detail["loc"])
        field = ".".join(str(part)[:80] for part in place if part not in _TAGS)
        found.append((field, _sentence(detail, place, model)))
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else f": known are {', '.join(names)}"


def _sentence(detail: ErrorDetails, place: Place, model: type[BaseModel]) -> str:
    value = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            return f"unknown name{nearest(str(place[-1]), _names_beside(place, model))}"
        case "missing":
            return "is missing"
        case "timezone_aware":
            return "has no time zone: write it like 2025-06-14T10:00:00+08:00"
        case "literal_error" if place[-1] == "allocation":
            return f"{value!r} is not built yet: 'rush', 'draw', 'instant' and 'grant' are"
        case _:
            return f"{detail['msg'][0].lower()}{detail['msg'][1:]}{_shown(value)}"


def _is_echo(detail: ErrorDetails) -> bool:
    """Whether a list is called too short only because its faulty entries, each told by itself, do not count."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def _shown(value: object) -> str:
    return f", not {str(value)[:60]!r}" if isinstance(value, str | int | float | bool) else ""


def _names_beside(place: Place, model: type[BaseModel]) -> list[str]:
    """The names that are known where the last one of a place stands."""
    part = model
    for name in place[:-1]:
        field = next((field for own, field in part.model_fields.items() if name in (own, field.alias)), None)
        part = (field and _model_in(field.annotation)) or part
    return [field.alias or name for name, field in part.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
