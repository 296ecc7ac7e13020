"""Proof of work before a ticket: SHA-256 of the proof begins with so many zero bits. Pure.

    proof: the challenge (engine/gates/seal.py), a dot, and whatever 1 to 32 letters and digits make the hash of the
    whole text fit

Source: Adam Back, "Hashcash, a denial of service counter-measure" (2002), http://www.hashcash.org/hashcash.pdf

The challenge is bound to its member and its drop. What that allows: within its two minutes one proof is good for
several tickets of the same member on the same drop. So it is the price of a member's place on a drop, which a farm
pays for each of its accounts; how much the member then gets is the limit's matter.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import ClassVar

from engine.bounds import CHALLENGE_S
from engine.drops.model import Drop, from_ms
from engine.errors import Invalid, Refused
from engine.gates.model import Case, Given, Passed
from engine.gates.seal import Seal, Unsealed

_CHALLENGE = Seal("proof", b"flashclaim.proof", "another drop or another member")
_PROOF = re.compile(r"([A-Za-z0-9_-]{32})\.[A-Za-z0-9]{1,32}", re.ASCII)


class ProofRequired(Refused):
    """The request brings no proof; the facts are the challenge."""

    code: ClassVar[str] = "proof-required"


class ProofInvalid(Invalid):
    """A proof that does not hold; the facts are a new challenge."""

    code: ClassVar[str] = "proof-invalid"


class ProofOfWork:
    """The gate of drops with `proof_of_work: {bits: …}`."""

    name: ClassVar[str] = "proof-of-work"

    def stands(self, drop: Drop) -> bool:
        return drop.spec.gates.proof_of_work is not None

    def asks(self, case: Case) -> Mapping[str, object]:
        expires_ms = case.now_ms + CHALLENGE_S * 1000
        return {
            "gate": self.name,
            "challenge": _CHALLENGE.close(case.keyring, expires_ms, case.drop.id, case.session.member_id),
            "bits": _bits(case.drop),
            "expires_at": from_ms(expires_ms),
        }

    def check(self, case: Case, given: Given, passed: Passed) -> Passed:
        if given.proof is None:
            raise ProofRequired(
                "this drop asks for a proof: work it out from the challenge, and send it", **self.asks(case)
            )
        try:
            _check(case, given.proof)
        except Unsealed as error:
            raise ProofInvalid(f"{error}: work it out anew from this challenge", **self.asks(case)) from None
        return passed


def zero_bits(proof: str) -> int:
    """With how many zero bits the hash of a proof begins."""
    return 256 - int.from_bytes(sha256(proof.encode()).digest(), "big").bit_length()


def _check(case: Case, proof: str) -> None:
    found = _PROOF.fullmatch(proof)
    if found is None:
        raise Unsealed("this is not a proof")
    _CHALLENGE.check(case.keyring, found[1], case.now_ms, case.drop.id, case.session.member_id)
    if zero_bits(proof) < _bits(case.drop):
        raise Unsealed(f"this proof's hash does not begin with {_bits(case.drop)} zero bits")


def _bits(drop: Drop) -> int:
    assert drop.spec.gates.proof_of_work is not None
    return drop.spec.gates.proof_of_work.bits
