"""Proof of work before a ticket: SHA-256 of the proof begins with so many zero bits. Pure.

    challenge: version (1 byte) | key id (1) | expiry, ms (6) | MAC (16), in URL-safe base64, 32 characters
    proof:     the challenge, a dot, and whatever 1 to 32 letters and digits make the hash of the whole text fit

Source: Adam Back, "Hashcash, a denial of service counter-measure" (2002), http://www.hashcash.org/hashcash.pdf

The MAC binds a challenge to its member and its drop, so nothing of it is kept and any process checks it. What that
allows: within its two minutes one proof is good for several tickets of the same member on the same drop. So it is
the price of a member's place on a drop, which a farm pays for each of its accounts; how much the member then gets is
the limit's matter.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest

from engine.bounds import CHALLENGE_S
from engine.claims.keyring import MAC_BYTES, Keyring
from engine.claims.ticket import from_text, to_text
from engine.drops.model import Drop, from_ms
from engine.members.model import Session

VERSION = 1
_BODY_BYTES = 8
_PURPOSE = b"flashclaim.proof"
_PROOF = re.compile(r"([A-Za-z0-9_-]{32})\.[A-Za-z0-9]{1,32}", re.ASCII)


class WrongProof(ValueError):
    """Why a proof does not hold, as the beginning of a sentence."""


class ProofOfWork:
    """The gate of drops with `proof_of_work: {bits: …}`."""

    def required(self, drop: Drop, session: Session) -> bool:
        return drop.spec.proof_of_work is not None

    def challenge(self, keyring: Keyring, drop: Drop, session: Session, now_ms: int) -> Mapping[str, object]:
        expires_ms = now_ms + CHALLENGE_S * 1000
        body = bytes((VERSION, keyring.current)) + expires_ms.to_bytes(6, "big")
        return {
            "gate": "proof-of-work",
            "challenge": to_text(body + _mac(keyring, keyring.current, body, drop, session)),
            "bits": _bits(drop),
            "expires_at": from_ms(expires_ms),
        }

    def check(self, keyring: Keyring, drop: Drop, session: Session, proof: str, now_ms: int) -> None:
        found = _PROOF.fullmatch(proof)
        sealed = from_text(found[1]) if found else None
        if sealed is None or len(sealed) != _BODY_BYTES + MAC_BYTES or sealed[0] != VERSION:
            raise WrongProof("this is not a proof")
        body = sealed[:_BODY_BYTES]
        try:
            expected = _mac(keyring, body[1], body, drop, session)
        except KeyError:
            raise WrongProof("this proof's key is no longer in use") from None
        if not compare_digest(sealed[_BODY_BYTES:], expected):
            raise WrongProof("this proof is for another drop or another member, or is forged")
        if now_ms >= int.from_bytes(body[2:], "big"):
            raise WrongProof("this proof has expired")
        if zero_bits(proof) < _bits(drop):
            raise WrongProof(f"this proof's hash does not begin with {_bits(drop)} zero bits")


def zero_bits(proof: str) -> int:
    """With how many zero bits the hash of a proof begins."""
    return 256 - int.from_bytes(sha256(proof.encode()).digest(), "big").bit_length()


def _bits(drop: Drop) -> int:
    assert drop.spec.proof_of_work is not None
    return drop.spec.proof_of_work.bits


def _mac(keyring: Keyring, key_id: int, body: bytes, drop: Drop, session: Session) -> bytes:
    # Neither id can have a zero byte in it.
    return keyring.mac(key_id, _PURPOSE, b"\0".join((body, drop.id.encode(), session.member_id.encode())))
