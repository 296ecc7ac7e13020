"""What the parts of a drop's definition are made of: ids, texts, lists without repetitions."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from engine import ids
from engine.definitions import Faults

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """PostgreSQL keeps no zero byte in a text, and no page shows a control character."""
    if _CONTROLS.search(text):
        raise PydanticCustomError("printable", "has a control character")
    return text


Identifier = Annotated[str, AfterValidator(lambda text: ids.name(text, "id"))]
Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(printable)]
Texts = Annotated[dict[Literal["zh", "en"], Text], Field(min_length=1)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def at_most(entries_max: int) -> BeforeValidator:
    """Refuses a longer list before its entries are looked at: pydantic itself would find every fault in each first."""

    def checked(value: object) -> object:
        if isinstance(value, list | tuple) and len(value) > entries_max:
            raise PydanticCustomError("too_many", "has more than {most} entries", {"most": entries_max})
        return value

    return BeforeValidator(checked)


def twice(ids_in_order: Sequence[str], place: str) -> Faults:
    """A fault for each id that has stood before in a list at a place."""
    return [
        ((place, index, "id"), f"{found!r} stands twice: give each its own id")
        for index, found in enumerate(ids_in_order)
        if found in ids_in_order[:index]
    ]
