"""The rule of docs/draws.md, written a second time from that page alone: nothing of engine/draws is used or copied.

Slow and plain: numbers in place of bytes, recursion in place of levels, fractions in place of shifted whole numbers.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from hashlib import sha256
from typing import Any

ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def number(*parts: bytes) -> int:
    return int(sha256(b"".join(parts)).hexdigest(), 16)


def spelled(value: Any) -> str:
    """RFC 8785, section 3.2, without fractions."""
    if isinstance(value, str):
        return '"' + "".join(ESCAPES.get(c, f"\\u{ord(c):04x}" if ord(c) < 32 else c) for c in value) + '"'
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(spelled(each) for each in value) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(spelled(name) + ":" + spelled(value[name]) for name in names) + "}"


def commitment(terms: Mapping[str, Any]) -> str:
    return sha256(spelled(terms).encode()).hexdigest()


def weight(rule: Mapping[str, int], misses: int, points: int) -> int:
    total = rule["base"]
    for _ in range(min(misses, rule["misses_max"])):
        total += 1
    steps = 0
    while steps < rule["points_max"] and points >= (steps + 1) * rule["points_each"]:
        steps += 1
    return min(total + steps, rule["weight_max"])


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162, section 2.1.1: MTH(D[n]) = HASH(0x01 || MTH(D[0:k]) || MTH(D[k:n])), k < n <= 2k a power of two."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    k = largest_power_below(len(leaves))
    return sha256(b"\1" + tree_root(leaves[:k]) + tree_root(leaves[k:])).digest()


def largest_power_below(count: int) -> int:
    k = 1
    while 2 * k < count:
        k *= 2
    return k


def tree_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 9162, section 2.1.3.1: PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = largest_power_below(len(leaves))
    if index < k:
        return [*tree_path(index, leaves[:k]), tree_root(leaves[k:])]
    return [*tree_path(index - k, leaves[k:]), tree_root(leaves[:k])]


def entries(rule: Mapping[str, int], people: Sequence[tuple[str, int, int]]) -> list[list[Any]]:
    rows = []
    for name, misses, points in sorted(people, key=lambda person: person[0].encode()):
        counted = points // rule["points_each"] * rule["points_each"]
        shown = [min(misses, rule["misses_max"]), min(counted, rule["points_max"] * rule["points_each"])]
        rows.append([name, rule["base"], *shown, weight(rule, misses, points)])
    return rows


def root(rows: Sequence[Sequence[Any]]) -> bytes:
    return tree_root([spelled(row).encode() for row in rows])


def seed(secret: bytes, of_root: bytes, value: bytes) -> bytes:
    return sha256(b"flashclaim draw seed 1\n" + secret + of_root + value).digest()


def result(
    terms: Mapping[str, Any], rows: Sequence[Sequence[Any]], of_seed: bytes
) -> tuple[list[list[str]], list[str]]:
    best = {}
    for name, *_, lots in rows:
        best[name] = min(number(of_seed, bytes([k]), name.encode()) for k in range(lots))
    order = sorted(best, key=lambda name: (best[name], name))
    winners = []
    for prize in terms["prizes"]:
        for _ in range(prize["stock"]):
            if order:
                winners.append([order.pop(0), prize["id"]])
    return winners, order[: terms["waiting"]]


def sequence(secret: bytes, curve: Sequence[Sequence[int]], prizes: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    units = [place for place, prize in enumerate(prizes, 1) for _ in range(prize["stock"])]

    def hashed(purpose: str, count: int) -> int:
        return number(f"flashclaim instant {purpose} 1\n".encode(), secret, count.to_bytes(8, "big"))

    order = sorted(range(len(units)), key=lambda unit: hashed("order", unit))
    due = []
    for place, unit in enumerate(order):
        r = Fraction(hashed("place", place) >> 192, 2**64)
        due.append([moment(curve, (place + r) / len(units)), units[unit]])
    return due


def moment(curve: Sequence[Sequence[int]], share: Fraction) -> int:
    points = [(at_ms, Fraction(ppm, 1_000_000)) for at_ms, ppm in curve]
    if points[0][1] > share:
        return points[0][0]
    last = max(index for index, (_, there) in enumerate(points) if there <= share)
    (from_ms, low), (until_ms, high) = points[last], points[last + 1]
    return int(from_ms + (share - low) / (high - low) * (until_ms - from_ms))
