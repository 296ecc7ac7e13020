"""What a drop's `gates` may ask before it gives a ticket; engine/gates/ does the asking, in the order that it states.

The order is not the definition's: the ledger keeps definitions as JSONB, which keeps no order of names.
"""

import json
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer, model_validator

from engine.bounds import (
    PROOF_BITS_MAX,
    QUIZ_ATTEMPTS_MAX,
    QUIZ_BANK_MAX,
    QUIZ_CHOICES_MAX,
    QUIZ_QUESTIONS_MAX,
    QUIZ_S_MAX,
    SLOGANS_MAX,
)
from engine.definitions import Faults, refuse
from engine.drops.fields import Identifier, Part, Text, Texts, at_most, twice
from engine.towns import TOWNS_MAX


class Work(Part):
    """What a ticket costs a client's machine: a hash that begins with so many zero bits."""

    bits: Annotated[int, Field(ge=1, le=PROOF_BITS_MAX, strict=True)]


class Location(Part):
    """In which of the city's towns a member must be; which one it is goes into the ticket."""

    towns: Annotated[
        Annotated[Literal["any"], Tag("[any]")]
        | Annotated[tuple[Text, ...], Field(min_length=1), at_most(TOWNS_MAX), Tag("[some]")],
        Discriminator(lambda value: "[any]" if isinstance(value, str) else "[some]"),
    ] = "any"


class SloganChoice(Part):
    id: Identifier
    text: Texts


class Slogan(Part):
    """Slogans of which a member chooses one; its number in the ticket is its place here, from 1."""

    choices: Annotated[tuple[SloganChoice, ...], Field(min_length=1), at_most(SLOGANS_MAX)]

    @model_validator(mode="after")
    def _is_legal(self) -> Self:
        refuse(twice([choice.id for choice in self.choices], "choices"))
        return self

    def number(self, slogan_id: str) -> int | None:
        """The number of a slogan by its id; None for one that is not among the choices."""
        return next((number for number, choice in enumerate(self.choices, start=1) if choice.id == slogan_id), None)


class Question(Part):
    """A question of the bank; `answer` is the right choice's place, from 1, and is never told to a member."""

    id: Identifier
    question: Texts
    choices: Annotated[tuple[Texts, ...], Field(min_length=2), at_most(QUIZ_CHOICES_MAX)]
    answer: Annotated[int, Field(ge=1, le=QUIZ_CHOICES_MAX, strict=True)]

    @model_validator(mode="after")
    def _is_legal(self) -> Self:
        faults: Faults = []
        if self.answer > len(self.choices):
            faults.append((("answer",), f"{self.answer} is none of the {len(self.choices)} choices"))
        for index, choice in enumerate(self.choices):
            if choice in self.choices[:index]:
                faults.append((("choices", index), "stands twice: only one of the two could be right"))
        refuse(faults)
        return self


class Quiz(Part):
    """A quiz before the ticket: `questions` of the bank are asked at a time, `pass_mark` of them must be right."""

    questions: Annotated[int, Field(ge=1, le=QUIZ_QUESTIONS_MAX, strict=True)]
    pass_mark: Annotated[int, Field(ge=1, le=QUIZ_QUESTIONS_MAX, strict=True)]
    attempts: Annotated[int, Field(ge=1, le=QUIZ_ATTEMPTS_MAX, strict=True)]
    time_limit_s: Annotated[int, Field(ge=1, le=QUIZ_S_MAX, strict=True)]
    bank: Annotated[tuple[Question, ...], Field(min_length=1), at_most(QUIZ_BANK_MAX)]

    @model_validator(mode="after")
    def _is_legal(self) -> Self:
        faults = twice([question.id for question in self.bank], "bank")
        if self.questions > len(self.bank):
            faults.append((("questions",), f"{self.questions} are asked, the bank has {len(self.bank)}"))
        if self.pass_mark > self.questions:
            faults.append((("pass_mark",), f"{self.pass_mark} of {self.questions} questions cannot be right"))
        refuse(faults)
        return self

    @cached_property
    def version(self) -> str:
        """What tells this quiz from another: attempts and passes belong to it.

        Attempts and time limit are not in it, so that an operator can be more generous without a new quiz.
        """
        asked = self.model_dump(mode="json", include={"questions", "pass_mark", "bank"})
        return blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=8).hexdigest()


class Gates(Part):
    """The gates before a drop's tickets, each of which may be missing; `list` is the name of a list of members."""

    list_: Identifier | None = Field(None, alias="list")
    location: Location | None = None
    slogan: Slogan | None = None
    quiz: Quiz | None = None
    proof_of_work: Work | None = None

    @model_serializer(mode="wrap")
    def _standing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: part for name, part in dump(self).items() if part is not None}

    def public(self) -> dict[str, Any]:
        """What anybody may read: no question of the bank, no answer, and not what the list is called."""
        shown = self.model_dump(mode="json", by_alias=True)
        if self.quiz is not None:
            del shown["quiz"]["bank"]
        if self.list_ is not None:
            shown["list"] = True
        return shown

    def amend_faults(self, changed: "Gates") -> Faults:
        """What stands in the way of a change after the launch: the numbers of slogans are in tickets and claims."""
        if self.slogan is None:
            return []
        kept = [choice.id for choice in self.slogan.choices]
        if changed.slogan is not None and [choice.id for choice in changed.slogan.choices[: len(kept)]] == kept:
            return []
        wanted = ", ".join(kept)
        return [(("gates", "slogan"), f"after the launch slogans are only added at the end: keep {wanted} in front")]
