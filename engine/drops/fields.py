"""What the parts of a drop's definition are made of: ids, texts, and how several faults are told at once."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from engine import ids

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _printable(text: str) -> str:
    """PostgreSQL keeps no zero byte in a text, and no page shows a control character."""
    if _CONTROLS.search(text):
        raise PydanticCustomError("printable", "has a control character")
    return text


Identifier = Annotated[str, AfterValidator(lambda text: ids.name(text, "id"))]
Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Texts = Annotated[dict[Literal["zh", "en"], Text], Field(min_length=1)]
Place = tuple[str | int, ...]
Faults = list[tuple[Place, str]]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def at_most(entries_max: int) -> BeforeValidator:
    """Refuses a longer list before its entries are looked at: pydantic itself would find every fault in each first."""

    def checked(value: object) -> object:
        if isinstance(value, list | tuple) and len(value) > entries_max:
            raise PydanticCustomError("too_many", "has more than {most} entries", {"most": entries_max})
        return value

    return BeforeValidator(checked)


def refuse(faults: Faults) -> None:
    """Raise a `ValidationError` with every fault at its place; nothing where there is none."""
    if faults:
        raise ValidationError.from_exception_data(
            "drop",
            [
                InitErrorDetails(type=PydanticCustomError("drop", "{text}", {"text": text}), loc=place, input=None)
                for place, text in faults
            ],
        )


def twice(ids_in_order: Sequence[str], place: str) -> Faults:
    """A fault for each id that has stood before in a list at a place."""
    return [
        ((place, index, "id"), f"{found!r} stands twice: give each its own id")
        for index, found in enumerate(ids_in_order)
        if found in ids_in_order[:index]
    ]


def nearest(name: str, known: Iterable[str]) -> str:
    """How a fault goes on about a name that is not known: with the one that was probably meant, or with all."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known)}"
