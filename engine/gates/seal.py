"""Short sealed texts that a client carries from one request to the next: challenges and passes. Pure.

    version (1 byte) | key id (1) | expiry, ms (6) | MAC (16), in URL-safe base64, 32 characters

The MAC covers the bytes before it and what the text is bound to, such as drop and member, which stand in the request
anyway. So nothing of it is kept, and any process checks it. It may be shown again until it expires.
"""

from dataclasses import dataclass
from hmac import compare_digest

from engine.claims.keyring import MAC_BYTES, Keyring
from engine.claims.ticket import from_text, to_text

VERSION = 1
_BODY_BYTES = 8


class Unsealed(ValueError):
    """Why a sealed text does not hold, as the beginning of a sentence."""


@dataclass(frozen=True, slots=True)
class Seal:
    """A kind of sealed text: its name, the purpose of its MAC, and in words what else than it may have been meant."""

    noun: str
    purpose: bytes
    others: str

    def close(self, keyring: Keyring, expires_ms: int, *bound: str) -> str:
        """The sealed text that is bound to some ids and names, none of which can have a zero byte in it."""
        body = bytes((VERSION, keyring.current)) + expires_ms.to_bytes(6, "big")
        return to_text(body + self._mac(keyring, body, bound))

    def check(self, keyring: Keyring, text: str, now_ms: int, *bound: str) -> None:
        """Raises `Unsealed` unless the text was sealed for just this and has not expired."""
        sealed = from_text(text)
        if sealed is None or len(sealed) != _BODY_BYTES + MAC_BYTES or sealed[0] != VERSION:
            raise Unsealed(f"this is not a {self.noun}")
        body = sealed[:_BODY_BYTES]
        try:
            expected = self._mac(keyring, body, bound)
        except KeyError:
            raise Unsealed(f"this {self.noun}'s key is no longer in use") from None
        if not compare_digest(sealed[_BODY_BYTES:], expected):
            raise Unsealed(f"this {self.noun} is for {self.others}, or is forged")
        if now_ms >= int.from_bytes(body[2:], "big"):
            raise Unsealed(f"this {self.noun} has expired")

    def _mac(self, keyring: Keyring, body: bytes, bound: tuple[str, ...]) -> bytes:
        return keyring.mac(body[1], self.purpose, b"\0".join((body, *(text.encode() for text in bound))))
