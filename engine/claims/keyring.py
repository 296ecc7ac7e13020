"""Keys that are rotated by id: the newest seals, every one that is kept still opens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from engine.errors import Misconfigured

MAC_BYTES = 16  # 128 bits: a forger who tries a million a second needs longer than the universe is old
KEY_BYTES_MIN = 16
KEY_BYTES_MAX = 64  # the longest key that BLAKE2b takes


@dataclass(frozen=True, slots=True)
class Keyring:
    """Secret keys by id (0 to 255); `current` seals.

    Raises `Misconfigured` for a key that is too short, too long, or a current id without a key.
    """

    current: int
    keys: Mapping[int, bytes]
    _keyed: dict[tuple[int, bytes], blake2b] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.current not in self.keys:
            raise Misconfigured(f"key id {self.current} is named as the current one, but has no key")
        for key_id, key in self.keys.items():
            if not 0 <= key_id <= 255:
                raise Misconfigured(f"key id {key_id} is not from 0 to 255")
            if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
                raise Misconfigured(f"key {key_id} has {len(key)} bytes: use {KEY_BYTES_MIN} to {KEY_BYTES_MAX}")

    def mac(self, key_id: int, purpose: bytes, body: bytes) -> bytes:
        """The keyed BLAKE2b of a body (RFC 7693, section 2.9); raises `KeyError` for an unknown key id.

        `purpose` (at most 16 bytes) keeps a ticket's MAC from ever passing as a receipt's under the same key.
        """
        try:
            found = self._keyed[key_id, purpose].copy()
        except KeyError:
            # Setting up a key costs as much as hashing a ticket with it: it is done once, and copied.
            keyed = blake2b(digest_size=MAC_BYTES, key=self.keys[key_id], person=purpose)
            found = self._keyed.setdefault((key_id, purpose), keyed).copy()
        found.update(body)
        return found.digest()
