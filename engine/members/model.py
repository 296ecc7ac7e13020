"""Who asks, and whether a drop is for them: pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from engine.drops.spec import Eligibility
from engine.errors import Refused

Role = Literal["member", "operator"]


class NotEligible(Refused):
    """The drop is not for this member; the sentence says which attribute decides."""

    code: ClassVar[str] = "not-eligible"


@dataclass(frozen=True, slots=True)
class Session:
    """A person who has signed in: a member, or an operator.

    `subject` is whom limits count: the member, or the natural person behind several accounts. `attributes` are what
    the identity provider, or the ledger's member row, says of the member, such as `town`.
    """

    member_id: str
    subject: str
    role: Role = "member"
    attributes: Mapping[str, str] = field(default_factory=dict)


def check(eligibility: Eligibility, attributes: Mapping[str, str]) -> None:
    """Raise `NotEligible` unless the attributes meet every condition of a drop."""
    for name, condition in eligibility.items():
        value = attributes.get(name)
        if value is None:
            raise NotEligible(
                f"this drop asks for your {name}, and it is not known: complete your profile, then try again",
                attribute=name,
            )
        if value not in condition.in_:
            shown = "、".join(condition.in_[:8]) + ("…" if len(condition.in_) > 8 else "")
            raise NotEligible(
                f"this drop is for members with {name} {shown}; yours is {value}", attribute=name, value=value
            )
