"""Check a draw or an instant win by its published file: `python verify.py FILE`, or `… FILE --proof PROOF`.

One file for Python 3.11 or newer, nothing to install. It holds the whole rule, which docs/draws.md says in words, and
flashclaim itself draws by the functions that check it here. The exit code is 0 when all holds that can be checked,
1 when something differs, which is named, and 2 when a file is not readable.
"""

import argparse
import gc
import json
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from heapq import nsmallest
from itertools import chain, repeat
from typing import Any, NamedTuple

DRAW, PROOF, INSTANT = "flashclaim-draw-1", "flashclaim-draw-proof-1", "flashclaim-instant-1"
COLUMNS = ["entrant", "base", "misses", "points", "weight"]  # of an entry

FILE_BYTES_MAX = 1 << 30  # a million entries are about 30 MB, a million plays 20 MB
ROWS_MAX = 10_000_000  # entrants, plays or units; ten times the members of the largest city union
UNITS_AT_ONCE_MAX = 1_000_000  # of an instant win: their sequence takes 5 s
WEIGHT_MAX = 32  # each is a hash: a million entrants of this weight take 10 s
NUMBER_MAX = (1 << 53) - 1  # the highest whole number that every JSON reader reads alike
SHARE_PPM_MAX = 1_000_000
LOST = [0, 0]  # in the place of a play that the store lost and nobody has proved
DIFFERENCES_MAX = 20  # told one by one; the rest is counted

Json = dict[str, Any]


# ---- Reading: what a file holds has the right shape, or is named as not readable.


class Unreadable(ValueError):
    """A file that is not of this format, or cut off; the text says where."""


def read(path: str) -> Json:
    """The JSON object in a file; raises `Unreadable`, also for what two readers could understand in two ways."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            raw = file.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            raise Unreadable(f"more than {FILE_BYTES_MAX} bytes")
        found = json.loads(raw.decode(), object_pairs_hook=_object, parse_float=_refuse, parse_constant=_refuse)
    except RecursionError:
        raise Unreadable(f"{path}: nested too deeply") from None
    except (OSError, ValueError, MemoryError) as error:
        raise Unreadable(f"{path}: {str(error)[:200] or type(error).__name__}") from None
    if type(found) is not dict:
        raise Unreadable(f"{path}: {show(found)} is not an object")
    return found


def _object(pairs: list[tuple[str, Any]]) -> Json:
    found: Json = {}
    for name, value in pairs:
        if name in found:
            raise Unreadable(f"the name {show(name)} stands twice in one object")
        found[name] = value
    return found


def _refuse(number: str) -> object:
    raise Unreadable(f"{number[:40]}: only whole numbers stand in these files")


def show(value: object) -> str:
    """A value out of a stranger's file, as text that no terminal obeys."""
    shown = json.dumps(value) if value is None or type(value) in (str, int, bool) else f"a {type(value).__name__}"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


class Kind(NamedTuple):
    """A kind of value: what it is called, and whether a value is of it; for a row also its cells."""

    name: str
    holds: Callable[[Any], bool]
    cells: Json | None = None


_TWO_LETTERS = re.compile("[a-z]{2}")
_UTC_TIME = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_ANY_TEXT = re.compile(r"[^\ud800-\udfff]{1,20000}")
_ID = re.compile("[a-z0-9][a-z0-9-]{0,63}")
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}")
_SHA256 = re.compile("[0-9a-f]{64}")
_ASCII = re.compile("[ -~]{1,300}")
_BYTES = re.compile("([0-9a-f]{2}){1,64}")


def _whole(least: int, most: int) -> Kind:
    return Kind(f"a whole number from {least} to {most}", lambda value: type(value) is int and least <= value <= most)


def _text(form: re.Pattern[str], name: str) -> Kind:
    holds = form.fullmatch
    return Kind(name, lambda value: type(value) is str and holds(value) is not None)


def _exactly(value: object) -> Kind:
    return Kind(json.dumps(value), lambda found: bool(found == value))


def _row(**cells: Kind) -> Kind:
    def holds(value: Any) -> bool:
        return len(value) == len(kinds) and all(kind.holds(cell) for kind, cell in zip(kinds, value, strict=True))

    kinds = tuple(cells.values())
    return Kind(f"[{', '.join(cells)}]", lambda value: type(value) is list and holds(value), cells)


def _is_time(value: Any) -> bool:
    try:
        return _CLOCK.holds(value) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def _is_rules(value: Any) -> bool:
    return (
        type(value) is dict
        and 0 < len(value) < 9
        and all(map(_LANGUAGE.holds, value))
        and all(map(_TEXT.holds, value.values()))
    )


_LANGUAGE = _text(_TWO_LETTERS, "a language")
_CLOCK = _text(_UTC_TIME, "a time")
_TEXT = _text(_ANY_TEXT, "a text")
_NAME = _text(_ID, "an id of a to z, 0 to 9 and -, at most 64 characters")
_ENTRANT = _text(_ONE_LINE, "a text of 1 to 128 characters on one line")
_HASH = _text(_SHA256, "64 digits of 0-9 and a-f")
_RULES = Kind('texts by language, such as {"en": "..."}', _is_rules)
_TIME = Kind("a time like 2025-09-20T12:00:00Z", _is_time)
_NUMBER = _whole(0, NUMBER_MAX)
_ROWS = _whole(0, ROWS_MAX)
_UNITS = _whole(1, ROWS_MAX)
_WEIGHT = _whole(0, WEIGHT_MAX)
_PRIZES = [{"id": _NAME, "stock": _UNITS}, 1, 64]

# A shape is a kind, an object of shapes by name, a list: [shape, how many at least, at most],
# or (shape,) where null stands for there being none.
DRAW_TERMS = {
    "format": _exactly(DRAW),
    "draw": _NAME,
    "rules": _RULES,
    "closes_at": _TIME,
    "prizes": _PRIZES,
    "waiting": _ROWS,
    "weights": {
        "base": _whole(1, WEIGHT_MAX),
        "misses_max": _WEIGHT,
        "points_each": _UNITS,
        "points_max": _WEIGHT,
        "weight_max": _whole(1, WEIGHT_MAX),
    },
    "confirm": ({"within_hours": _whole(1, 10_000)},),
    "beacon": {
        "source": _text(_ASCII, "an ASCII text of at most 300 characters"),
        "value_bytes": _whole(16, 64),
        "rounds": [{"round": _NUMBER, "due_at": _TIME, "wait_until": _TIME}, 2, 16],
    },
    "secret_sha256": _HASH,
}
ENTRY = _row(entrant=_ENTRANT, base=_NUMBER, misses=_NUMBER, points=_NUMBER, weight=_NUMBER)
CLOSED = {
    "closed_at": _TIME,
    "count": _ROWS,
    "root": _HASH,
    "columns": _exactly(COLUMNS),
    "entries": [ENTRY, 0, ROWS_MAX],
}
BEACON_VALUE = {
    "round": _NUMBER,
    "value": _text(_BYTES, "bytes as digits of 0-9 and a-f"),
    "seen_at": _TIME,
}
REVEALED = {
    "secret": _HASH,
    "beacon": BEACON_VALUE,
    "seed": _HASH,
    "winners": [_row(entrant=_ENTRANT, prize=_NAME), 0, ROWS_MAX],
    "waiting": [_ENTRANT, 0, ROWS_MAX],
}
PROOF_SHAPE = {
    "format": _exactly(PROOF),
    "draw": _NAME,
    "commitment": _HASH,
    "count": _ROWS,
    "root": _HASH,
    "index": _ROWS,
    "entry": ENTRY,
    "path": [_HASH, 0, 64],
}
INSTANT_TERMS = {
    "format": _exactly(INSTANT),
    "drop": _NAME,
    "rules": _RULES,
    "opens_ms": _NUMBER,
    "closes_ms": _NUMBER,
    "prizes": _PRIZES,
    "curve": [_row(at_ms=_NUMBER, share_ppm=_whole(0, SHARE_PPM_MAX)), 1, 1000],
    "partitions": _whole(1, 1024),
    "secret_sha256": _HASH,
}
PLAYED = {
    "secret": _HASH,
    "plays": [[_row(at_ms=_NUMBER, item=_NUMBER), 0, ROWS_MAX], 1, 1024],
    "odds": [_row(from_ms=_NUMBER, plays=_ROWS, prizes=_ROWS), 0, 1002],
}


def expect(value: Any, shape: Any, where: str) -> None:
    """Raise `Unreadable` where a value has not the shape; an object has the named members and no other."""
    if isinstance(shape, Kind):
        if not shape.holds(value):
            if shape.cells and type(value) is list and len(value) == len(shape.cells):
                expect(dict(zip(shape.cells, value, strict=True)), shape.cells, where)
            raise Unreadable(f"{where}: {show(value)} is not {shape.name}")
    elif isinstance(shape, tuple):
        if value is not None:
            expect(value, shape[0], where)
    elif isinstance(shape, list):
        _expect_list(value, shape, where)
    else:
        if type(value) is not dict or value.keys() != shape.keys():
            raise Unreadable(f"{where or 'the file'}: {_members(value, shape)}")
        for name, inner in shape.items():
            expect(value[name], inner, f"{where}.{name}".lstrip("."))


def _expect_list(value: Any, shape: list[Any], where: str) -> None:
    inner, least, most = shape
    if type(value) is not list or not least <= len(value) <= most:
        raise Unreadable(f"{where}: {show(value)} is not a list of {least} to {most}")
    for index, each in enumerate(value):
        if not isinstance(inner, Kind) or not inner.holds(each):
            expect(each, inner, f"{where}[{index}]")


def _members(value: Any, shape: Json) -> str:
    if type(value) is not dict:
        return f"{show(value)} is not an object"
    missing = [show(name) for name in shape if name not in value]
    unknown = [show(name) for name in value if name not in shape]
    return f"{missing[0]} is missing" if missing else f"{unknown[0]} does not belong there"


# ---- Hashes


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def canonical(value: object) -> bytes:
    """The one spelling of a value: RFC 8785, for texts, whole numbers, lists, and objects with ASCII names."""
    return _ENCODER.encode(value).encode()


def hex_hash(data: bytes) -> str:
    return sha256(data).hexdigest()


def leaf(entry: Sequence[object]) -> bytes:
    return sha256(b"\x00" + canonical(entry)).digest()


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def levels(leaves: list[bytes]) -> list[list[bytes]]:
    """The Merkle tree of RFC 9162, section 2.1, from its leaves up; an odd one out goes up as it is."""
    tree = [leaves or [sha256(b"").digest()]]
    while len(level := tree[-1]) > 1:
        pairs = [node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        tree.append(pairs + level[2 * len(pairs) :])
    return tree


def inclusion_path(tree: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    """What stands beside a leaf on the way to the root: RFC 9162, section 2.1.3.1."""
    path: list[bytes] = []
    for level in tree[:-1]:
        path += level[index ^ 1 : (index ^ 1) + 1]
        index >>= 1
    return path


def root_by_path(found: bytes, index: int, count: int, path: Iterable[bytes]) -> bytes | None:
    """The root to which a leaf's path leads, None where it leads nowhere: RFC 9162, section 2.1.3.2."""
    last = count - 1
    if not 0 <= index <= last:
        return None
    for beside in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            found = node(beside, found)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            found = node(found, beside)
        index, last = index >> 1, last >> 1
    return found if last == 0 else None


# ---- The rule of a draw


def weight(rule: Mapping[str, int], misses: int, points: int) -> int:
    """An entrant's weight: the base, one more for each earlier miss, one more for each so many points; each capped."""
    raised = min(misses, rule["misses_max"]) + min(points // rule["points_each"], rule["points_max"])
    return min(rule["base"] + raised, rule["weight_max"])


def seed_of(secret: bytes, root: bytes, value: bytes) -> bytes:
    """What nobody knew before the beacon: neither whoever keeps the secret, nor who knew the entrants."""
    return sha256(b"flashclaim draw seed 1\n" + secret + root + value).digest()


def drum(seed: bytes) -> list[bytes]:
    """What the lots of an entrant are hashed with, the first to the last that one may have."""
    return [seed + bytes((number,)) for number in range(WEIGHT_MAX)]


def lot(lots: Sequence[bytes], entrant: str, weight: int) -> bytes:
    """An entrant's best lot: a weight of 3 is three lots in the drum, and the smallest counts.

    The smallest of w uniform numbers is distributed as the keys u^(1/w) of weighted sampling without replacement
    (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006), only the other way round; and it
    needs no root or logarithm, whose last digit might be another on another machine.
    """
    name = entrant.encode()
    return min([sha256(before + name).digest() for before in lots[:weight]])


class Result(NamedTuple):
    winners: list[list[str]]  # entrant and prize, in the order drawn
    waiting: list[str]


def select(terms: Json, entries: Sequence[Sequence[Any]], seed: bytes) -> Result:
    """Who wins what, and who waits: entrants by their lots, prizes level by level, so that nobody gets two."""
    rule, lots = terms["weights"], drum(seed)
    prizes = chain.from_iterable(repeat(prize["id"], prize["stock"]) for prize in terms["prizes"])
    units = sum(prize["stock"] for prize in terms["prizes"])
    best = ((lot(lots, name, weight(rule, misses, points)), name) for name, _, misses, points, _ in entries)
    drawn = [name for _, name in nsmallest(units + terms["waiting"], best)]
    winners = [[name, prize] for name, prize in zip(drawn, prizes, strict=False)]
    return Result(winners, drawn[units:])


# ---- The rule of an instant win


def sequence(
    secret: bytes, curve: Sequence[Sequence[int]], prizes: Sequence[Mapping[str, Any]]
) -> list[tuple[int, int]]:
    """The units of all prizes as they go out: (from which ms on, which prize, numbered from 1).

    The stock is shuffled unit by unit, by hashes. The share that is released, 0 to 1, is cut into as many slots as
    there are units, and each unit has one place in its slot, by a hash; its moment is when the curve gets there.
    """
    stock = list(chain.from_iterable(repeat(number, prize["stock"]) for number, prize in enumerate(prizes, 1)))
    shuffled = sorted(range(len(stock)), key=lambda unit: _keyed(secret, b"order", unit))
    found, behind, one = [], 0, len(stock) << 64  # one: the whole share, in 2^-64 of a slot
    for slot, unit in enumerate(shuffled):
        share = (slot << 64) + int.from_bytes(_keyed(secret, b"place", slot)[:8], "big")
        while curve[behind][1] * one <= share * SHARE_PPM_MAX:
            behind += 1
        found.append((_moment(curve[max(0, behind - 1)], curve[behind], share, one), stock[unit]))
    return found


def _keyed(secret: bytes, purpose: bytes, number: int) -> bytes:
    return sha256(b"flashclaim instant " + purpose + b" 1\n" + secret + number.to_bytes(8, "big")).digest()


def _moment(before: Sequence[int], after: Sequence[int], share: int, one: int) -> int:
    (from_ms, from_ppm), (until_ms, until_ppm) = before, after
    if from_ppm == until_ppm:  # the curve begins above this share
        return until_ms
    return from_ms + (share * SHARE_PPM_MAX - from_ppm * one) * (until_ms - from_ms) // ((until_ppm - from_ppm) * one)


def play(due: Sequence[tuple[int, int]], taken: int, at_ms: int) -> int:
    """What a play gets when so many of its partition's units are gone: the next one if its moment has come, or 0."""
    return due[taken][1] if taken < len(due) and due[taken][0] <= at_ms else 0


def odds(terms: Json, plays: Iterable[Iterable[Sequence[int]]]) -> list[list[int]]:
    """The odds that were given: from each bend of the curve on, how many plays, and how many of them won."""
    bends = sorted({terms["opens_ms"], *(at_ms for at_ms, _ in terms["curve"])})
    given = [[from_ms, 0, 0] for from_ms in bends]
    for at_ms, item in chain.from_iterable(plays):
        if [at_ms, item] == LOST:
            continue
        part = given[max(0, bisect_right(bends, at_ms) - 1)]
        part[1] += 1
        part[2] += item > 0
    return given


# ---- Checking


class Difference(NamedTuple):
    """What differs: where, what is published there, and what was found or must be instead."""

    where: str
    published: str
    instead: str

    def __str__(self) -> str:
        return f"{self.where}: published {self.published}, {self.instead}"


class Findings:
    """What a check found: what holds, what differs, what is not published yet, and what only its reader can look up."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.differences: list[Difference] = []
        self.more = 0
        self.holds: list[str] = []
        self.later: list[str] = []
        self.by_hand: list[str] = []

    @property
    def count(self) -> int:
        return len(self.differences) + self.more

    def differ(self, where: str, published: object, instead: str) -> None:
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(Difference(where, show(published), instead))
        else:
            self.more += 1

    def same(self, where: str, published: object, found: object, holds: str) -> bool:
        """Compare; what holds is told when it does."""
        if published == found:
            self.holds.append(holds)
            return True
        self.differ(where, published, f"found {show(found)}")
        return False

    def lines(self) -> Iterator[str]:
        yield self.title
        yield from (f"  holds    {line}" for line in self.holds)
        yield from (f"  DIFFERS  {line}" for line in self.differences)
        yield from [f"  DIFFERS  in {self.more} more places"] * (self.more > 0)
        yield from (f"  later    {line}" for line in self.later)
        yield from (f"  by hand  {line}" for line in self.by_hand)
        yield "DIFFERS" if self.differences else "VALID"


Fault = tuple[str, object, str]  # where, what is published there, what must be instead


def draw_faults(terms: Json) -> Iterator[Fault]:
    """Where the terms of a draw do not hold together."""
    yield from _prize_faults(terms["prizes"], ROWS_MAX)
    weights = terms["weights"]
    if weights["base"] > weights["weight_max"]:
        yield "terms.weights.base", weights["base"], f"must be at most weight_max, {weights['weight_max']}"
    known, number = terms["closes_at"], -1
    for index, each in enumerate(terms["beacon"]["rounds"]):
        where = f"terms.beacon.rounds[{index}]"
        if each["round"] <= number:
            yield f"{where}.round", each["round"], "must be above the round before it"
        if each["due_at"] <= known:
            yield f"{where}.due_at", each["due_at"], f"must be after {known}, so that nobody knows its value before"
        if each["wait_until"] < each["due_at"]:
            yield f"{where}.wait_until", each["wait_until"], "must not be before its due_at"
        known, number = max(known, each["wait_until"]), each["round"]


def _prize_faults(prizes: list[Json], units_max: int) -> Iterator[Fault]:
    names = [prize["id"] for prize in prizes]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield f"terms.prizes[{index}].id", name, "must not stand twice"
    if (units := sum(prize["stock"] for prize in prizes)) > units_max:
        yield "terms.prizes", units, f"must be at most {units_max} units in all"


def close_faults(terms: Json, closed_at: str) -> Iterator[Fault]:
    """Where entries were closed at a wrong time: too early for members, or when the beacon could be known."""
    due_at = terms["beacon"]["rounds"][0]["due_at"]
    if not terms["closes_at"] <= closed_at < due_at:
        yield "closed.closed_at", closed_at, f"must be from {terms['closes_at']} on and before {due_at}"


def beacon_faults(terms: Json, beacon: Json) -> Iterator[Fault]:
    """Where a value is not that of the first round, as named in advance, that had one in time."""
    named = {each["round"]: each for each in terms["beacon"]["rounds"]}
    chosen = named.get(beacon["round"])
    if chosen is None:
        yield "revealed.beacon.round", beacon["round"], f"must be one of {', '.join(map(str, named))}"
    elif not chosen["due_at"] <= beacon["seen_at"] <= chosen["wait_until"]:
        span = f"{chosen['due_at']} to {chosen['wait_until']}"
        yield "revealed.beacon.seen_at", beacon["seen_at"], f"must be within {span} for round {beacon['round']}"
    if len(beacon["value"]) != 2 * terms["beacon"]["value_bytes"]:
        yield "revealed.beacon.value", beacon["value"], f"must be {terms['beacon']['value_bytes']} bytes"


def instant_faults(terms: Json) -> Iterator[Fault]:
    """Where the terms of an instant win do not hold together."""
    yield from _prize_faults(terms["prizes"], UNITS_AT_ONCE_MAX)
    earliest, least = terms["opens_ms"], 0
    for index, (at_ms, share_ppm) in enumerate(terms["curve"]):
        if not earliest <= at_ms < terms["closes_ms"]:
            span = f"from {earliest} on and before the close at {terms['closes_ms']}"
            yield f"terms.curve[{index}].at_ms", at_ms, f"must be {span}"
        if share_ppm < least:
            yield f"terms.curve[{index}].share_ppm", share_ppm, f"must be at least {least}, the share before it"
        earliest, least = at_ms + 1, share_ppm
    if least != SHARE_PPM_MAX:
        yield f"terms.curve[{len(terms['curve']) - 1}].share_ppm", least, f"must be {SHARE_PPM_MAX}: all is released"


def check(document: Json) -> Findings:
    """Check a published document as far as it goes; raises `Unreadable` when it has not the shape of one."""
    terms = document.get("terms")
    name = terms.get("format") if type(terms) is dict else None
    if name == DRAW:
        return _check_draw(document)
    if name == INSTANT:
        return _check_instant(document)
    raise Unreadable(f"terms.format: {show(name)} is neither {DRAW} nor {INSTANT}")


def _check_draw(document: Json) -> Findings:
    stages = {name: shape for name, shape in (("closed", CLOSED), ("revealed", REVEALED)) if name in document}
    if "revealed" in stages and "closed" not in stages:
        raise Unreadable("the file: it is revealed and was never closed")
    expect(document, {"terms": DRAW_TERMS, "commitment": _HASH, **stages}, "")
    terms = document["terms"]
    found = Findings(f"draw {terms['draw']}: {', '.join(['committed', *stages])}")
    _check_commitment(document, draw_faults(terms), found)
    if "closed" not in document:
        found.later.append("entrants and root, published when entries close; then secret, beacon value and result")
        return found
    root_holds = _check_closed(terms, document["closed"], found)
    if "revealed" in document:
        _check_revealed(terms, document["closed"], document["revealed"], root_holds, found)
    else:
        found.later.append("secret, beacon value and result, published when the beacon has spoken")
    return found


def _check_commitment(document: Json, faults: Iterable[Fault], found: Findings) -> None:
    for fault in faults:
        found.differ(*fault)
    commitment = hex_hash(canonical(document["terms"]))
    found.same("commitment", document["commitment"], commitment, "the commitment is the hash of the terms")
    found.by_hand.append(f"was commitment {document['commitment']} published before the opening?")


def _check_closed(terms: Json, closed: Json, found: Findings) -> bool:
    for fault in close_faults(terms, closed["closed_at"]):
        found.differ(*fault)
    before, differences = "", found.count
    for index, (entrant, base, misses, points, published) in enumerate(closed["entries"]):
        where = f"closed.entries[{index}]"
        if entrant <= before:
            found.differ(f"{where}.entrant", entrant, f"must not stand behind {show(before)}: sorted, and each once")
        if base != terms["weights"]["base"]:
            found.differ(f"{where}.base", base, f"found {terms['weights']['base']} in the terms")
        if published != (right := weight(terms["weights"], misses, points)):
            found.differ(f"{where}.weight", published, f"found {right} of its parts, for {show(entrant)}")
        before = entrant
    if found.count == differences:
        found.holds.append("the entrants are sorted, each once, and each weight is that of its parts")
    found.same("closed.count", closed["count"], len(closed["entries"]), f"there are {closed['count']} entrants")
    root = levels([leaf(entry) for entry in closed["entries"]])[-1][0].hex()
    due_at = terms["beacon"]["rounds"][0]["due_at"]
    found.by_hand.append(f"was root {closed['root']} published before {due_at}?")
    found.by_hand.append("are misses and points true? Each entrant knows their own")
    return found.same("closed.root", closed["root"], root, "the root is that of the entrants")


def _check_revealed(terms: Json, closed: Json, revealed: Json, root_holds: bool, found: Findings) -> None:
    beacon, secret = revealed["beacon"], bytes.fromhex(revealed["secret"])
    for fault in beacon_faults(terms, beacon):
        found.differ(*fault)
    known = _check_secret(terms, secret, found) and root_holds
    published = bytes.fromhex(revealed["seed"])
    made = seed_of(secret, bytes.fromhex(closed["root"]), bytes.fromhex(beacon["value"]))
    result = select(terms, closed["entries"], published)
    if made == published:
        found.holds.append("the seed is that of secret, root and beacon value")
    else:
        # Which of the two was changed? The result says of which seed it is.
        by_made, told = select(terms, closed["entries"], made), Result(revealed["winners"], revealed["waiting"])
        if known and told == result != by_made:
            found.differ("revealed.beacon.value", beacon["value"], "and seed and result are those of another value")
        else:
            found.differ("revealed.seed", revealed["seed"], f"found {made.hex()} of secret, root and beacon value")
            result = by_made if told == by_made else result
    _check_result(revealed, result, found)
    found.by_hand.append(
        f"was {beacon['value']} the value of round {beacon['round']}? Source: {terms['beacon']['source']}"
    )
    for earlier in terms["beacon"]["rounds"]:
        if earlier["round"] < beacon["round"]:
            found.by_hand.append(f"was round {earlier['round']} without a value until {earlier['wait_until']}?")


def _check_secret(terms: Json, secret: bytes, found: Findings) -> bool:
    committed: str = terms["secret_sha256"]
    if (hashed := hex_hash(secret)) == committed:
        found.holds.append("the secret is the one committed to")
        return True
    found.differ("revealed.secret", secret.hex(), f"its hash is {hashed} and not terms.secret_sha256, {committed}")
    return False


def _check_result(revealed: Json, result: Result, found: Findings) -> None:
    differences = found.count
    _check_places("revealed.winners", revealed["winners"], result.winners, found)
    told, waiting = [[name] for name in revealed["waiting"]], [[name] for name in result.waiting]
    _check_places("revealed.waiting", told, waiting, found)
    if found.count == differences:
        winners, waiters = len(result.winners), len(result.waiting)
        found.holds.append(
            f"{winners} winners with their prizes, then {waiters} waiting, are those of the lots, in order"
        )


def _check_places(where: str, published: list[list[str]], drawn: list[list[str]], found: Findings) -> None:
    names = {place[0] for place in drawn}
    for index, (told, right) in enumerate(zip(published, drawn, strict=False)):
        if told[0] != right[0]:
            what = "order" if told[0] in names else "entrant"
            found.differ(f"{where}[{index}].{what}", told[0], f"found {show(right[0])}")
        if told[1:] != right[1:]:
            found.differ(f"{where}[{index}].prize", told[1], f"found {show(right[1])}")
    if len(published) != len(drawn):
        found.differ(where, len(published), f"found {len(drawn)} of them")


def _check_instant(document: Json) -> Findings:
    stages = {"revealed": PLAYED} if "revealed" in document else {}
    expect(document, {"terms": INSTANT_TERMS, "commitment": _HASH, **stages}, "")
    terms = document["terms"]
    found = Findings(f"instant win {terms['drop']}: {', '.join(['committed', *stages])}")
    faults = list(instant_faults(terms))
    _check_commitment(document, faults, found)
    if faults:
        found.later.append("all the rest: these terms do not hold together, so nothing more was checked")
    elif "revealed" in document:
        _check_plays(terms, document["revealed"], found)
    else:
        found.later.append("secret, plays and odds, published after the close")
    return found


def _check_plays(terms: Json, revealed: Json, found: Findings) -> None:
    secret, plays, partitions = bytes.fromhex(revealed["secret"]), revealed["plays"], terms["partitions"]
    _check_secret(terms, secret, found)
    if len(plays) != partitions:
        found.differ("revealed.plays", len(plays), f"found {partitions} partitions in the terms")
    due, gone, differences = sequence(secret, terms["curve"], terms["prizes"]), 0, found.count
    for partition, played in enumerate(plays):
        gone += _check_partition(terms, due[partition::partitions], partition, played, found)
    if found.count == differences:
        count = sum(len(played) - played.count(LOST) for played in plays)
        found.holds.append(f"each of {count} plays got what the sequence says; {gone} of {len(due)} units went out")
    _check_odds(revealed["odds"], odds(terms, plays), found)
    found.by_hand.append("does your own play stand there? Its place in the list, from 1, is its serial")


def _check_partition(
    terms: Json, due: Sequence[tuple[int, int]], partition: int, plays: Iterable[tuple[int, int]], found: Findings
) -> int:
    """How many units went out in a partition; a play is named where it got another thing than the rule gives."""
    taken, latest, set_back, lost = 0, 0, 0, 0
    for index, (at_ms, item) in enumerate(plays):
        if [at_ms, item] == LOST:
            lost += 1
            continue
        where = f"revealed.plays[{partition}][{index}]"
        if not terms["opens_ms"] <= at_ms < terms["closes_ms"]:
            found.differ(
                f"{where}.at_ms", at_ms, f"must be from {terms['opens_ms']} on and before {terms['closes_ms']}"
            )
        if item != (right := play(due, taken, at_ms)):
            upcoming = f"prize {due[taken][1]} from {due[taken][0]} on" if taken < len(due) else "none"
            found.differ(f"{where}.item", item, f"found {right} at {at_ms}: the next unit is {upcoming}")
        taken += right > 0
        set_back += at_ms < latest
        latest = max(latest, at_ms)
    if lost:
        found.by_hand.append(f"why are {lost} plays of partition {partition} lost? So it is where a store lost them")
    if set_back:
        found.by_hand.append(
            f"why are {set_back} plays dated before one ahead of them? So it looks where a clock was set back"
        )
    return taken


def _check_odds(published: list[list[int]], given: list[list[int]], found: Findings) -> None:
    for index, (told, right) in enumerate(zip(published, given, strict=False)):
        for name, one, other in zip(("from_ms", "plays", "prizes"), told, right, strict=True):
            if one != other:
                found.differ(f"revealed.odds[{index}].{name}", one, f"found {other}")
    found.same("revealed.odds", len(published), len(given), "the odds given, prizes in plays, are those of the plays:")
    found.holds += (f"  from {from_ms} on {prizes} in {count}" for from_ms, count, prizes in given)


def check_proof(document: Json, proof: Json) -> Findings:
    """Check that an entry is among the entrants of a closed draw; raises `Unreadable`."""
    expect(proof, PROOF_SHAPE, "the proof")
    if "closed" not in document:
        raise Unreadable("the file: it has no root yet, a proof can be checked once entries are closed")
    closed, entry = document["closed"], proof["entry"]
    found = Findings(f"proof for {show(entry[0])}")
    for name, told, right in (
        ("draw", proof["draw"], document["terms"]["draw"]),
        ("commitment", proof["commitment"], document["commitment"]),
        ("count", proof["count"], closed["count"]),
        ("root", proof["root"], closed["root"]),
    ):
        found.same(f"proof.{name}", told, right, f"the {name} is the file's")
    root = root_by_path(leaf(entry), proof["index"], closed["count"], list(map(bytes.fromhex, proof["path"])))
    where = f"entry {proof['index'] + 1} of {closed['count']}"
    found.same("proof.path", closed["root"], root and root.hex(), f"the path leads from {where} to the root")
    parts = ", ".join(f"{name} {value}" for name, value in zip(COLUMNS[1:], entry[1:], strict=True))
    found.by_hand.append(f"is this your entry, and are these your figures: {parts}?")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check a draw or an instant win by its published file.")
    parser.add_argument("file", help="what was published, as JSON")
    parser.add_argument("--proof", help="an entrant's proof, as JSON: check it too")
    options = parser.parse_args(arguments)
    try:
        document = read(options.file)
        reports = [check(document)]
        if options.proof:
            reports.append(check_proof(document, read(options.proof)))
    except Unreadable as error:
        print(f"NOT READABLE  {error}", file=sys.stderr)
        return 2
    for report in reports:
        print(*report.lines(), sep="\n")
    return 1 if any(report.differences for report in reports) else 0


if __name__ == "__main__":
    gc.disable()  # a million rows are no garbage, and looking for it costs half the time
    sys.exit(main())
