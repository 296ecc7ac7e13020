"""Make a draw's published document: commit, close, reveal, prove. Pure; the rule itself is in `verify.py`.

    commit → terms and their commitment     before entries open
    close  → and `closed`                   entrants and their root, before the beacon can be known
    reveal → and `revealed`                 secret, beacon value, result; final: there is no second one

A step takes the document of the step before and returns a new one. It checks what it is given by the functions of the
verifier, so that nothing is published that anybody would refuse, and nothing goes on from a document that was altered.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

from engine.draws import verify
from engine.draws.verify import Fault, Json, show
from engine.errors import Invalid

SECRET_BYTES = 32


class DrawInvalid(Invalid):
    """A step of a draw or of an instant win that its rule does not allow; says what is wrong, and where."""

    code: ClassVar[str] = "draw-invalid"


class Entrant(NamedTuple):
    """One person's one entry: its public name, which is the claim's id, and what raises its weight."""

    name: str
    misses: int = 0  # earlier draws that the person entered and won nothing in
    points: int = 0


class BeaconValue(NamedTuple):
    """What the beacon said in a round, as hex, and when it was seen there."""

    round: int
    value: str
    seen_at: datetime


def commit(terms: Mapping[str, object], secret: bytes) -> Json:
    """The document to publish before entries open.

    `terms` are those of docs/draws.md without `format` and `secret_sha256`. `secret` is 32 random bytes that nobody
    sees before the reveal; whoever loses them has lost the draw.
    """
    whole = with_secret({"format": verify.DRAW, **terms}, secret, verify.DRAW_TERMS)
    refuse(verify.draw_faults(whole))
    return {"terms": whole, "commitment": verify.hex_hash(verify.canonical(whole))}


def close(committed: Json, entrants: Iterable[Entrant], at: datetime) -> Json:
    """The document with its entrants and their root, to publish before the first round of the beacon is due.

    No more of misses and points is published than counts. Closing again with the same entrants changes nothing.
    """
    checked(committed)
    terms = committed["terms"]
    entries = _entries(terms["weights"], entrants)
    if "closed" in committed:
        if entries != committed["closed"]["entries"]:
            raise DrawInvalid("entries are closed, and these are others: a draw is closed once", field="entrants")
        return committed
    closed_at = _utc(at)
    refuse(verify.close_faults(terms, closed_at))
    root = verify.levels([verify.leaf(entry) for entry in entries])[-1][0].hex()
    closed = {"closed_at": closed_at, "count": len(entries), "root": root, "columns": verify.COLUMNS}
    return {**committed, "closed": {**closed, "entries": entries}}


def _entries(rule: Mapping[str, int], entrants: Iterable[Entrant]) -> list[list[Any]]:
    base, each = rule["base"], rule["points_each"]
    entries: list[list[Any]] = []
    for name, misses, points in entrants:
        expect([name, base, misses, points, 0], verify.ENTRY, f"entrant {show(name)}")
        missed = min(misses, rule["misses_max"])
        pointed = min(points // each, rule["points_max"]) * each
        entries.append([name, base, missed, pointed, verify.weight(rule, missed, pointed)])
    entries.sort()
    for before, entry in pairwise(entries):
        if before[0] == entry[0]:
            raise DrawInvalid(f"entrant {show(entry[0])} is there twice: one person has one entry", field="entrants")
    return entries


def reveal(closed: Json, secret: bytes, beacon: BeaconValue) -> Json:
    """The document with its result.

    Raises `DrawInvalid` for a value that is malformed, early, late or of a round that was not named: then wait for a
    good one, or past the round's `wait_until` take the next round. A draw is revealed once: the same secret and value
    again change nothing, any other is refused.
    """
    value = {"round": beacon.round, "value": beacon.value, "seen_at": _utc(beacon.seen_at)}
    if "revealed" in closed:
        return _revealed_already(closed, secret, value)
    checked(closed)
    if "closed" not in closed:
        raise DrawInvalid("entries are not closed yet: close the draw first", field="closed")
    terms = closed["terms"]
    expect(value, verify.BEACON_VALUE, "revealed.beacon")
    refuse(verify.beacon_faults(terms, value))
    require_secret(terms, secret)
    seed = verify.seed_of(secret, bytes.fromhex(closed["closed"]["root"]), bytes.fromhex(beacon.value))
    result = verify.select(terms, closed["closed"]["entries"], seed)
    revealed = {"secret": secret.hex(), "beacon": value, "seed": seed.hex(), **result._asdict()}
    return {**closed, "revealed": revealed}


def _revealed_already(document: Json, secret: bytes, value: Json) -> Json:
    told = checked(document)["revealed"]
    if (told["secret"], told["beacon"]["round"], told["beacon"]["value"]) != (
        secret.hex(),
        value["round"],
        value["value"],
    ):
        raise DrawInvalid(
            f"the draw was revealed with round {told['beacon']['round']}: its result is final, there is no other",
            field="revealed",
        )
    return document


class Proofs:
    """The inclusion proofs of a closed draw: the tree is made once, a proof takes microseconds then."""

    def __init__(self, closed: Json) -> None:
        checked(closed)
        if "closed" not in closed:
            raise DrawInvalid("entries are not closed yet: there is no root to prove anything by", field="closed")
        self._document = closed
        self._entries = closed["closed"]["entries"]
        self._index = {entry[0]: index for index, entry in enumerate(self._entries)}
        self._tree = verify.levels([verify.leaf(entry) for entry in self._entries])

    def of(self, entrant: str) -> Json:
        """The proof to hand to an entrant."""
        index = self._index.get(entrant)
        if index is None:
            raise DrawInvalid(f"{show(entrant)} is not among the entrants", field="entrant")
        terms, closed = self._document["terms"], self._document["closed"]
        return {
            "format": verify.PROOF,
            "draw": terms["draw"],
            "commitment": self._document["commitment"],
            "count": closed["count"],
            "root": closed["root"],
            "index": index,
            "entry": self._entries[index],
            "path": [beside.hex() for beside in verify.inclusion_path(self._tree, index)],
        }


def proof(closed: Json, entrant: str) -> Json:
    """One entrant's proof; for many of them keep a `Proofs`."""
    return Proofs(closed).of(entrant)


def checked(document: Json) -> Json:
    """A document that verifies as far as it goes; raises `DrawInvalid` for any other."""
    try:
        found = verify.check(document)
    except verify.Unreadable as error:
        raise DrawInvalid(f"this is not a published document: {error}") from None
    if found.differences:
        raise DrawInvalid(f"this document does not verify: {found.differences[0]}", field=found.differences[0].where)
    return document


def with_secret(terms: Json, secret: bytes, shape: Json) -> Json:
    """Terms with the hash of their secret, in the shape that they must have."""
    if len(secret) != SECRET_BYTES:
        raise DrawInvalid(f"secret: it has {len(secret)} bytes, take {SECRET_BYTES} random ones", field="secret")
    whole = {**terms, "secret_sha256": verify.hex_hash(secret)}
    expect(whole, shape, "terms")
    return whole


def require_secret(terms: Json, secret: bytes) -> None:
    """Raise `DrawInvalid` for a secret that was not committed to."""
    if verify.hex_hash(secret) != terms["secret_sha256"]:
        raise DrawInvalid("secret: this is not the one that was committed to", field="secret")


def expect(value: object, shape: object, where: str) -> None:
    """Raise `DrawInvalid` where a value has not the shape that the format asks for."""
    try:
        verify.expect(value, shape, where)
    except verify.Unreadable as error:
        raise DrawInvalid(str(error), field=str(error).partition(":")[0]) from None


def refuse(faults: Iterable[Fault]) -> None:
    """Raise `DrawInvalid` for the first of the faults."""
    for where, value, instead in faults:
        raise DrawInvalid(f"{where}: {show(value)} {instead}", field=where)


def _utc(at: datetime) -> str:
    if at.tzinfo is None:
        raise DrawInvalid(f"{at.isoformat()} has no time zone", field="at")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
