"""The promise: who wins is what docs/draws.md says, by a second implementation, and the odds are as published."""

from collections import Counter
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from hashlib import sha256
from itertools import permutations
from random import Random

import pytest

from engine.draws import verify
from engine.draws.publication import BeaconValue, Entrant, close, commit, proof, reveal
from engine.draws.verify import Json
from tests.engine.draws import second
from tests.factories.draws import CLOSED_AT, SEEN_AT, draw_terms

DRAWS = 10_000
# The value that chi-squared passes in one of a thousand, by degrees of freedom: the seeds are fixed, so it is not met.
CHI_SQUARED_MAX = {1: 10.83, 3: 16.27, 11: 31.26, 19: 43.82, 23: 49.73, 24: 51.18}
ALPHABET = "ab0.:-_é鹅\U0001f986\uffff\"\\ '"


def random_rule(random: Random) -> dict[str, int]:
    base = random.randrange(1, 4)
    return {
        "base": base,
        "misses_max": random.randrange(5),
        "points_each": random.choice((1, 7, 100)),
        "points_max": random.randrange(4),
        "weight_max": random.randrange(base, 12),
    }


def random_terms(random: Random) -> Json:
    prizes = [{"id": f"level-{level}", "stock": random.randrange(1, 4)} for level in range(random.randrange(1, 4))]
    return draw_terms(prizes=prizes, waiting=random.randrange(5), weights=random_rule(random))


def random_people(random: Random) -> list[tuple[str, int, int]]:
    names = {"".join(random.choices(ALPHABET, k=random.randrange(1, 6))) for _ in range(random.randrange(13))}
    return [(name, random.randrange(8), random.randrange(500)) for name in names]


def test_a_second_implementation_agrees_on_ten_thousand_draws() -> None:
    random = Random(20_250_920)
    for _ in range(DRAWS):
        terms, people, secret, value = (
            random_terms(random),
            random_people(random),
            random.randbytes(32),
            random.randbytes(32),
        )
        committed = commit(terms, secret)
        terms = {**terms, "format": "flashclaim-draw-1", "secret_sha256": sha256(secret).hexdigest()}
        assert committed == {"terms": terms, "commitment": second.commitment(terms)}
        closed = close(committed, [Entrant(*person) for person in people], CLOSED_AT)
        rows = second.entries(terms["weights"], people)
        assert closed["closed"]["entries"] == rows
        assert closed["closed"]["root"] == second.root(rows).hex()
        revealed = reveal(closed, secret, BeaconValue(7, value.hex(), SEEN_AT))["revealed"]
        seed = second.seed(secret, second.root(rows), value)
        assert revealed["seed"] == seed.hex()
        assert (revealed["winners"], revealed["waiting"]) == second.result(terms, rows, seed)
        if rows:
            index = random.randrange(len(rows))
            path = second.tree_path(index, [second.spelled(row).encode() for row in rows])
            assert proof(closed, rows[index][0])["path"] == [beside.hex() for beside in path]


def chi_squared(found: Counter[Hashable], odds: Mapping[Hashable, Fraction]) -> float:
    assert sum(odds.values()) == 1
    assert found.keys() <= odds.keys()
    total = found.total()
    return float(sum((found[each] - total * odd) ** 2 / (total * odd) for each, odd in odds.items()))


def seed(number: int) -> bytes:
    return sha256(b"test %d" % number).digest()


def order(weights: Mapping[str, int], of_seed: bytes, *, rule: Json | None = None) -> list[str]:
    """Everybody in the order drawn, where weights come of misses."""
    rule = rule or {"base": 1, "misses_max": 49, "points_each": 1, "points_max": 0, "weight_max": 50}
    terms = {"prizes": [{"id": "goose", "stock": 1}], "waiting": len(weights), "weights": rule}
    entries = [[name, 1, weight - 1, 0, weight] for name, weight in weights.items()]
    winners, waiting = verify.select(terms, entries, of_seed)
    return [winners[0][0], *waiting]


def order_odds(weights: Mapping[str, int]) -> dict[Hashable, Fraction]:
    """How often each order comes when whoever is next is drawn by their weight among those who are left."""
    odds: dict[Hashable, Fraction] = {}
    for names in permutations(weights):
        odd, left = Fraction(1), sum(weights.values())
        for name in names:
            odd *= Fraction(weights[name], left)
            left -= weights[name]
        odds[names] = odd
    return odds


class TestOdds:
    @pytest.mark.parametrize(
        "weights",
        [
            {"a": 1, "b": 1, "c": 1, "d": 1},
            {"a": 5, "b": 5, "c": 5, "d": 5},
            {"a": 1, "b": 2, "c": 3, "d": 4},
            {"a": 50, "b": 7, "c": 1, "d": 20},
        ],
    )
    def test_every_order_comes_as_often_as_its_weights_say(self, weights: dict[str, int]) -> None:
        found: Counter[Hashable] = Counter(tuple(order(weights, seed(number))) for number in range(20_000))
        assert chi_squared(found, order_odds(weights)) < CHI_SQUARED_MAX[23]

    def test_the_test_notices_weights_that_are_a_tenth_off(self) -> None:
        weights = {"a": 10, "b": 20, "c": 30, "d": 40}
        found: Counter[Hashable] = Counter(tuple(order(weights, seed(number))) for number in range(20_000))
        assert chi_squared(found, order_odds(weights | {"a": 11})) > CHI_SQUARED_MAX[23]

    def test_many_winners_of_many_entrants_are_spread_evenly(self) -> None:
        names = [f"goose.0.{serial}" for serial in range(200)]
        terms = {
            "prizes": [{"id": "goose", "stock": 10}],
            "waiting": 0,
            "weights": {"base": 1, "misses_max": 0, "points_each": 1, "points_max": 0, "weight_max": 1},
        }
        entries = [[name, 1, 0, 0, 1] for name in names]
        found: Counter[Hashable] = Counter()
        for number in range(2_000):
            found.update(names.index(name) // 10 for name, _ in verify.select(terms, entries, seed(number)).winners)
        assert chi_squared(found, {tenth: Fraction(1, 20) for tenth in range(20)}) < CHI_SQUARED_MAX[19]

    def test_with_weights_of_one_it_is_plain_hash_order(self) -> None:
        names = [f"goose.0.{serial}" for serial in range(50)]
        plain = sorted(names, key=lambda name: sha256(seed(1) + b"\0" + name.encode()).digest())
        assert order(dict.fromkeys(names, 1), seed(1)) == plain


class TestLoserMemory:
    def test_who_missed_once_has_twice_the_odds_the_next_time(self) -> None:
        """Two draws of one goose among five: whoever won the first has a ninth of the second, the others two each."""
        people = list("abcde")
        found: Counter[Hashable] = Counter()
        for number in range(20_000):
            first = order(dict.fromkeys(people, 1), seed(2 * number))[0]
            weights = {name: 1 if name == first else 2 for name in people}
            found[first, order(weights, seed(2 * number + 1))[0]] += 1
        odds: dict[Hashable, Fraction] = {
            (one, other): Fraction(1, 5) * Fraction(1 if one == other else 2, 9) for one in people for other in people
        }
        assert chi_squared(found, odds) < CHI_SQUARED_MAX[24]

    def test_misses_and_points_raise_the_odds_up_to_their_caps(self) -> None:
        """Through the published document: weights 1, 4 (three of nine misses count), 3 (two of ten steps), 5 (all)."""
        people = [Entrant("a"), Entrant("b", misses=9), Entrant("c", points=1_099), Entrant("d", 9, 1_099)]
        closed = close(commit(draw_terms(), bytes(32)), people, CLOSED_AT)["closed"]
        assert [entry[1:] for entry in closed["entries"]] == [
            [1, 0, 0, 1],
            [1, 3, 0, 4],
            [1, 0, 200, 3],
            [1, 3, 200, 5],
        ]
        found: Counter[Hashable] = Counter()
        terms = draw_terms(prizes=[{"id": "goose", "stock": 1}])
        for number in range(20_000):
            found[verify.select(terms, closed["entries"], seed(number)).winners[0][0]] += 1
        odds: dict[Hashable, Fraction] = {
            name: Fraction(weight, 13) for name, weight in zip("abcd", (1, 4, 3, 5), strict=True)
        }
        assert chi_squared(found, odds) < CHI_SQUARED_MAX[3]


def test_fewer_entrants_than_units_leave_units() -> None:
    people = [Entrant("a"), Entrant("b")]
    closed = close(commit(draw_terms(), bytes(32)), people, CLOSED_AT)
    value = BeaconValue(7, "00" * 32, datetime(2025, 9, 20, 13, tzinfo=UTC))
    revealed = reveal(closed, bytes(32), value)["revealed"]
    assert sorted(revealed["winners"]) == [["a", "goose"], ["b", "goose"]]
    assert revealed["waiting"] == []
