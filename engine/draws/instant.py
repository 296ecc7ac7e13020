"""Make an instant win's published document: commit, deal to the store, reveal. Pure; the rule is in `verify.py`.

    commit → terms and their commitment   before the opening
    deal   → each partition's sequence    for the store alone: it says which play will win
    reveal → and `revealed`               secret, every play and the odds given, after the close

The store's part is `verify.play`: a play takes the next unit of its partition's sequence if its moment has come.
"""

from collections.abc import Mapping, Sequence

from engine.draws import verify
from engine.draws.publication import DrawInvalid, checked, expect, refuse, require_secret, with_secret
from engine.draws.verify import Json

Play = tuple[int, int]  # at ms, number of the prize or 0


def commit(terms: Mapping[str, object], secret: bytes) -> Json:
    """The document to publish before the opening.

    `terms` are those of docs/draws.md without `format` and `secret_sha256`; `secret` is 32 random bytes that nobody
    sees before the reveal.
    """
    whole = with_secret({"format": verify.INSTANT, **terms}, secret, verify.INSTANT_TERMS)
    refuse(verify.instant_faults(whole))
    return {"terms": whole, "commitment": verify.hex_hash(verify.canonical(whole))}


def deal(committed: Json, secret: bytes) -> list[list[tuple[int, int]]]:
    """Each partition's units in order, every P-th of the whole sequence: (from which ms on, number of the prize)."""
    terms = checked(committed)["terms"]
    require_secret(terms, secret)
    whole = verify.sequence(secret, terms["curve"], terms["prizes"])
    return [whole[partition :: terms["partitions"]] for partition in range(terms["partitions"])]


def reveal(committed: Json, secret: bytes, plays: Sequence[Sequence[Play]]) -> Json:
    """The document with all plays of each partition, in the order of their serials.

    Raises `DrawInvalid` when a play got another thing than the rule gives: then the store is wrong, not the document.
    Revealing again with the same secret and plays changes nothing.
    """
    listed = _listed(plays)
    if "revealed" in committed:
        told = checked(committed)["revealed"]
        if (told["secret"], told["plays"]) != (secret.hex(), listed):
            raise DrawInvalid("the instant win was revealed with other plays: what was published is final")
        return committed
    require_secret(checked(committed)["terms"], secret)
    return checked(with_plays(committed, secret, plays))


def with_plays(committed: Json, secret: bytes, plays: Sequence[Sequence[Play]]) -> Json:
    """The document with all plays as they were, also where one does not follow from the sequence: the verifier says so.

    Raises `DrawInvalid` for plays that have not the shape of any.
    """
    listed = _listed(plays)
    expect(listed, verify.PLAYED["plays"], "revealed.plays")
    odds = verify.odds(committed["terms"], listed)
    return {**committed, "revealed": {"secret": secret.hex(), "plays": listed, "odds": odds}}


def published(terms: Mapping[str, object], secret_sha256: str, commitment: str) -> Json:
    """The document of the commitment again, for whoever has not the secret."""
    return {"terms": {"format": verify.INSTANT, **terms, "secret_sha256": secret_sha256}, "commitment": commitment}


def _listed(plays: Sequence[Sequence[Play]]) -> list[list[list[int]]]:
    return [[list(played) for played in partition] for partition in plays]
