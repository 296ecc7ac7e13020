"""What stands before a ticket: a drop may ask for something that is cheap for one person and dear for a thousand bots.

How to add one, such as a captcha: a file here with a class that does what `TicketGate` says, its field in
`engine/drops/spec.py`, and its place in `GATES`. It gets the text that a client sent as `proof`; a checker that must
ask somebody else does that when the proof is fetched, and puts the answer, sealed, into the proof: `check` is on the
fast path and waits for nobody. A drop has one gate, the first that it asks for.
"""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from engine.claims.keyring import Keyring
from engine.drops.model import Drop
from engine.errors import Invalid, Refused
from engine.gates.proof_of_work import ProofOfWork, WrongProof
from engine.members.model import Session


class ProofRequired(Refused):
    """The drop has a gate and the request brings no proof; the facts are the challenge."""

    code: ClassVar[str] = "proof-required"


class ProofInvalid(Invalid):
    """A proof that does not hold; the facts are a new challenge."""

    code: ClassVar[str] = "proof-invalid"


class TicketGate(Protocol):
    """A kind of gate: whether it stands before a drop, what it asks, and whether an answer holds."""

    def required(self, drop: Drop, session: Session) -> bool: ...

    def challenge(self, keyring: Keyring, drop: Drop, session: Session, now_ms: int) -> Mapping[str, object]:
        """What the client must know to make a proof: members of the answer, `challenge` and `gate` among them."""
        ...

    def check(self, keyring: Keyring, drop: Drop, session: Session, proof: str, now_ms: int) -> None:
        """Raises `WrongProof`."""
        ...


GATES: tuple[TicketGate, ...] = (ProofOfWork(),)


def challenge(keyring: Keyring, drop: Drop, session: Session, now_ms: int) -> Mapping[str, object] | None:
    """What a drop asks of a member before a ticket; None when it asks for nothing."""
    for gate in GATES:
        if gate.required(drop, session):
            return gate.challenge(keyring, drop, session, now_ms)
    return None


def check(keyring: Keyring, drop: Drop, session: Session, proof: str | None, now_ms: int) -> None:
    """Let a ticket request pass the drop's gate; raises `ProofRequired`, `ProofInvalid`, both with a challenge."""
    for gate in GATES:
        if not gate.required(drop, session):
            continue
        if proof is None:
            asked = gate.challenge(keyring, drop, session, now_ms)
            raise ProofRequired("this drop asks for a proof: work it out from the challenge, and send it", **asked)
        try:
            gate.check(keyring, drop, session, proof, now_ms)
        except WrongProof as error:
            asked = gate.challenge(keyring, drop, session, now_ms)
            raise ProofInvalid(f"{error}: work it out anew from this challenge", **asked) from None
        return
