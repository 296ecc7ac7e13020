"""Who asks, and whether a drop is for them: pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import ClassVar, Literal

from engine.errors import Refused
from engine.members.attributes import Value
from engine.members.predicate import NOTHING_KNOWN, Known, Predicate, reasons

Role = Literal["member", "operator"]


class NotEligible(Refused):
    """The drop is not for this member; the sentence says which condition decides, and what is so of them."""

    code: ClassVar[str] = "not-eligible"


@dataclass(frozen=True, slots=True)
class Session:
    """A person who has signed in: a member, or an operator.

    `subject` is whom limits count: the member, or the natural person behind several accounts. `attributes` are what
    the identity provider, or the ledger's member row, says of the member, such as `town`. `organisation` bounds an
    operator to what is of that organisation and of those under it; without one they act for the whole city.
    """

    member_id: str
    subject: str
    role: Role = "member"
    attributes: Mapping[str, Value] = field(default_factory=dict)
    organisation: str | None = None


def check(eligibility: Predicate, session: Session, today: date, known: Known = NOTHING_KNOWN) -> None:
    """Raise `NotEligible` unless a drop is for the session's member; the first condition that says no is told."""
    for refusal in refusals(eligibility, session, today, known):
        raise refusal


def refusals(
    eligibility: Predicate, session: Session, today: date, known: Known = NOTHING_KNOWN
) -> Iterator[NotEligible]:
    """A refusal for every condition that speaks against the session's member."""
    for reason in reasons(eligibility, session.attributes, today, known):
        zh, en = reason.sentence
        value = {} if reason.value is None else {"value": reason.value}
        yield NotEligible(en, attribute=reason.attribute, **value, explanation={"zh": zh, "en": en})
