"""What a gate is: who asks, what they bring, what a gate establishes. Pure."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

import msgspec

from engine.bounds import PASS_S
from engine.claims.keyring import Keyring
from engine.drops.model import Drop, from_ms
from engine.errors import Invalid
from engine.gates.seal import Seal, Unsealed
from engine.members.model import Session
from engine.towns.places import Places

_PASS = Seal("pass", b"flashclaim.pass", "another drop, another member, another gate or a quiz that was changed")


class Location(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a member says they are, in degrees. It is used and forgotten: not even its `repr` tells it."""

    lat: float
    lon: float

    def __repr__(self) -> str:
        return "Location(…)"


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a ticket request brings for the gates, each under a name of its own: `quiz` and `list` are passes."""

    list: str | None = None
    location: Location | None = None
    slogan: str | None = None
    quiz: str | None = None
    proof: str | None = None


class Passed(NamedTuple):
    """What the gates of a drop have established: numbers from 1, 0 for none, and the gates' names in their order."""

    town: int = 0
    slogan: int = 0
    gates: tuple[str, ...] = ()


class Case(NamedTuple):
    """Whom a drop's gates judge, at which moment, and by what."""

    keyring: Keyring
    drop: Drop
    session: Session
    now_ms: int
    places: Places


class TicketGate(Protocol):
    """A kind of gate; `name` is what the API calls it."""

    name: ClassVar[str]

    def stands(self, drop: Drop) -> bool:
        """Whether the drop asks for it."""
        ...

    def asks(self, case: Case) -> Mapping[str, object]:
        """What a client must know to pass, as the API tells it; nothing that gives an answer away."""
        ...

    def check(self, case: Case, given: Given, passed: Passed) -> Passed:
        """What is established with this gate passed too; raises a refusal of its own."""
        ...


class PassInvalid(Invalid):
    """A gate's pass that does not hold; the fact `gate` says whose."""

    code: ClassVar[str] = "pass-invalid"


def issue_pass(case: Case, gate: str, kept: str = "") -> dict[str, object]:
    """A gate's pass for a member on a drop, as the API tells it; `kept` is what must not have changed meanwhile."""
    expires_ms = case.now_ms + PASS_S * 1000
    text = _PASS.close(case.keyring, expires_ms, case.drop.id, case.session.member_id, gate, kept)
    return {"pass": text, "pass_expires_at": from_ms(expires_ms)}


def check_pass(case: Case, text: str, gate: str, kept: str = "") -> None:
    """Raises `PassInvalid`; there is no look at the ledger in it."""
    try:
        _PASS.check(case.keyring, text, case.now_ms, case.drop.id, case.session.member_id, gate, kept)
    except Unsealed as error:
        route = f"POST /v1/drops/{case.drop.id}/{gate}"
        raise PassInvalid(f"{error}: take a new one by {route}", gate=gate, route=route) from None
