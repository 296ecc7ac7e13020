"""Makes the shuffle of an instant win from its key: what a launch commits to, each partition's sequence, the reveal.

    secret = HMAC-SHA-256(key, "instant" and the drop's id)

So every process makes the same sequence, and none has to keep the secret. The ledger keeps the commitment: where a key
or a definition was changed, the sequence is refused rather than dealt.
"""

import asyncio
from collections.abc import Mapping, Sequence
from hmac import digest
from typing import Any, ClassVar

from engine.claims.keyring import Keyring
from engine.claims.wire import Prize
from engine.draws import instant
from engine.draws.instant import Play
from engine.draws.verify import Json
from engine.drops.model import Drop, Status, to_ms
from engine.drops.spec import DropSpec
from engine.errors import Refused

_KEPT_MAX = 4  # sequences of a process: 50,000 units are about 10 MB


class CommitmentBroken(Refused):
    """The sequence that was committed to cannot be made here: the key is not there, or something else has changed."""

    code: ClassVar[str] = "commitment-broken"


class Dealer:
    """The keys of a process for instant wins, and the sequences that it made last."""

    def __init__(self, keyring: Keyring | None = None) -> None:
        self._keyring = keyring
        self._dealt: dict[tuple[str, str], list[list[Prize]]] = {}

    def use_keys(self, keyring: Keyring | None) -> None:
        """Make secrets with these keys from now on."""
        self._keyring = keyring
        self._dealt.clear()

    def commit(self, spec: DropSpec, partitions: int) -> Json:
        """What a launch commits to; empty for any other drop. Raises `CommitmentBroken` where there is no key."""
        if spec.instant is None:
            return {}
        if self._keyring is None:
            raise CommitmentBroken("an instant win needs a key: set instant_keys, see docs/reference/settings.md")
        key_id = self._keyring.current
        document = instant.commit(terms(spec, partitions), self._secret(spec.id, key_id))
        return {
            "committed": {
                "key_id": key_id,
                "partitions": partitions,
                "secret_sha256": document["terms"]["secret_sha256"],
                "commitment": document["commitment"],
            }
        }

    async def deal(self, drop: Drop, partitions: int) -> list[list[Prize]]:
        """Each partition's sequence as it was committed to; without prizes for a draft, and for any other drop.

        In a thread, the first time: 50,000 units take half a second. Raises `CommitmentBroken`.
        """
        if drop.spec.instant is None or drop.status is Status.DRAFT:
            return [[] for _ in range(partitions)]
        document, secret = self._opened(drop, partitions)
        place = drop.id, document["commitment"]
        if place not in self._dealt:
            if len(self._dealt) >= _KEPT_MAX:
                self._dealt.clear()
            self._dealt[place] = await asyncio.to_thread(_dealt, document, secret)
        return self._dealt[place]

    def reveal(self, drop: Drop, plays: Sequence[Sequence[Play]]) -> Json:
        """The whole document, whether or not the plays follow from the sequence: whoever checks it is to see it."""
        document, secret = self._opened(drop, len(plays))
        return instant.with_plays(document, secret, plays)

    def _opened(self, drop: Drop, partitions: int) -> tuple[Json, bytes]:
        """The document that was committed to, and its secret; of a drop that was launched."""
        committed = drop.spec.instant.committed if drop.spec.instant else None
        if committed is None:
            raise CommitmentBroken(f"the commitment of drop {drop.id!r} is not in the ledger: close it")
        if committed.partitions != partitions:
            raise CommitmentBroken(
                f"drop {drop.id!r} was committed to for {committed.partitions} partitions, here are {partitions}"
            )
        secret = self._secret(drop.id, committed.key_id)
        document = instant.commit(terms(drop.spec, partitions), secret)
        if document["commitment"] != committed.commitment:
            raise CommitmentBroken(
                f"drop {drop.id!r}: what instant key {committed.key_id} makes here is not what was committed to"
                f" ({committed.commitment[:12]}…): bring back the key of the launch"
            )
        return document, secret

    def _secret(self, drop_id: str, key_id: int) -> bytes:
        key = self._keyring.keys.get(key_id) if self._keyring else None
        if key is None:
            raise CommitmentBroken(f"drop {drop_id!r} was committed to under instant key {key_id}, which is not here")
        return digest(key, b"instant" + drop_id.encode(), "sha256")


def _dealt(document: Json, secret: bytes) -> list[list[Prize]]:
    return [[Prize(*unit) for unit in part] for part in instant.deal(document, secret)]


def terms(spec: DropSpec, partitions: int) -> Json:
    """The terms of an instant win, as docs/draws.md has them, without format and hash of the secret. Pure."""
    assert spec.instant is not None
    return {
        "drop": spec.id,
        "rules": dict(spec.instant.rules),
        "opens_ms": to_ms(spec.opens_at),
        "closes_ms": to_ms(spec.closes_at),
        "prizes": [{"id": item.id, "stock": item.stock} for item in spec.items[:-1]],
        "curve": [[to_ms(point.at), point.share_ppm] for point in spec.instant.curve],
        "partitions": partitions,
    }


def commitment(spec: DropSpec) -> Mapping[str, Any] | None:
    """The document as it is published from the launch on; None before. It needs no key. Pure."""
    committed = spec.instant.committed if spec.instant else None
    if committed is None:
        return None
    return instant.published(terms(spec, committed.partitions), committed.secret_sha256, committed.commitment)
